"""From a plan to a published artifact: shards, small files, manifest."""

import hashlib
import json
from collections.abc import Callable, Sequence

from vicuna_contract.recipe import RECIPE_VERSION
from vicuna_server import __version__
from vicuna_server.artifacts.identity import Fingerprints
from vicuna_server.artifacts.manifest import FileEntry, Inputs, Manifest, Recipe, Source, Tool
from vicuna_server.artifacts.staging import Staging
from vicuna_server.files.beneath import read_file
from vicuna_server.merge.arithmetic.layout import Shard
from vicuna_server.merge.inputs import Sources
from vicuna_server.merge.leftovers import Leftovers
from vicuna_server.merge.pipeline.reading import Store
from vicuna_server.merge.pipeline.shards import write_shards
from vicuna_server.merge.planning.plan import Plan
from vicuna_server.merge.request import Request
from vicuna_server.merge.stated_digests import StatedDigests
from vicuna_server.run.control import Control

__all__ = ["build", "write_small_files"]


def build(
    request: Request,
    sources: Sources,
    plan: Plan,
    fingerprints: Fingerprints,
    artifact_id: str,
    *,
    staging: Staging,
    leftovers: Leftovers,
    digests: StatedDigests,
    open_store: Callable[[Sequence[Shard]], Store],
    control: Control,
) -> Manifest:
    """Write everything the plan says into `staging` and publish it.

    `open_store` gives what brings the files for these shards. Where `digests` finds other bytes, nothing is published.

    Raises:
        InputError: `DigestMismatch`, and as `write_shards`.
        InterruptedRunError: a signal came, or another merger took over.
        OSError: reading or writing failed, a full disk included.
    """
    spared = leftovers.bytes_to_read
    control.begin(plan.bytes_to_read - spared + leftovers.size + digests.bytes_to_list)
    digests.check_listed(control)
    staging.journal.begin()
    entries = leftovers.adopt(staging, control)
    to_do = [shard for shard in plan.shards if shard.name not in {entry.path for entry in entries}]
    if to_do:
        store = open_store(to_do)
        to_read = sum(shard.bytes_to_read for shard in to_do) + store.bytes_to_fetch
        control.meter.grow(to_read - (plan.bytes_to_read - spared))
        on_finished = staging.journal.append if digests.resumable else _forget
        entries += write_shards(staging.path, to_do, store, control, request.chunk_bytes, on_finished)
    entries += write_small_files(plan, staging)
    digests.settle(control)
    manifest = _manifest(sources, plan, fingerprints, artifact_id, entries)
    control.cancellation.check()
    staging.publish(manifest)
    return manifest


def _forget(entry: FileEntry) -> None:
    """Keep no list of what is finished: no later run may use it."""


def write_small_files(plan: Plan, staging: Staging) -> list[FileEntry]:
    """Write what stands beside the weights, the index included, and return sizes and sha256."""
    small = dict(plan.small_files)
    if len(plan.shards) > 1:
        small["model.safetensors.index.json"] = _index(plan.shards)
    entries = []
    for name, item in sorted(small.items()):
        content = item if isinstance(item, bytes) else read_file(item)
        staging.write(name, content)
        entries.append(FileEntry(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest()))
    return entries


def _index(shards: Sequence[Shard]) -> bytes:
    weight_map = {output.name: shard.name for shard in shards for output in shard.tensors}
    total = sum(output.nbytes for shard in shards for output in shard.tensors)
    content = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    return (json.dumps(content, indent=2) + "\n").encode()


def _manifest(
    sources: Sources,
    plan: Plan,
    fingerprints: Fingerprints,
    artifact_id: str,
    entries: list[FileEntry],
) -> Manifest:
    base, *rest = (
        Source(source=each.source.uri, fingerprint=fingerprint)
        for each, fingerprint in zip(sources.all, fingerprints.all, strict=True)
    )
    delta = rest.pop(0) if sources.delta else None
    return Manifest(
        artifact_id=artifact_id,
        inputs=Inputs(base=base, delta=delta, adapters=rest),
        recipe=Recipe(
            kind=plan.kind,
            dtype=plan.dtype,
            version=RECIPE_VERSION,
            addition=plan.addition,
            base_dtype=plan.base_dtype,
        ),
        chat_template=plan.chat_template,
        tensor_count=plan.tensor_count,
        total_size=sum(entry.size for entry in entries),
        files=sorted(entries, key=lambda entry: entry.path),
        tool=Tool(name="vicuna-server", version=__version__),
    )
