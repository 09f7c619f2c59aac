"""One merge from request to artifact."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vicuna_server import __version__
from vicuna_server.errors import InputError, OutOfSpaceError, UnreachableError, UsageError, VicunaError
from vicuna_server.manifest import FileEntry, Inputs, Manifest, Recipe, Source, Tool
from vicuna_server.merge import hub, identity
from vicuna_server.merge.artifact import Staging, find_artifact, find_by_inputs, sweep
from vicuna_server.merge.claim import Claim, drop_claim
from vicuna_server.merge.identity import Fingerprints
from vicuna_server.merge.inputs import Input, Sources, make_input
from vicuna_server.merge.layout import Shard
from vicuna_server.merge.plan import Plan, make_plan
from vicuna_server.merge.problems import Problems
from vicuna_server.merge.progress import Progress
from vicuna_server.merge.reading import LocalStore
from vicuna_server.merge.sources import HubSource

__all__ = ["Request", "run_merge"]

_CHUNK_BYTES = 8 * 1024 * 1024  # per buffer; the contract allows 16 MiB
_LEAST_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Request:
    """What the command line asks for; `dtype`, `kind` and `chat_template` hold allowed values.

    `adapters` are pairs of URI and digest (None: not stated), in the order they are merged.
    """

    base: str
    delta: str | None
    output: Path
    dtype: str = "float16"
    kind: str = "auto"
    chat_template: str = "auto"
    base_digest: str | None = None
    delta_digest: str | None = None
    adapters: tuple[tuple[str, str | None], ...] = ()
    max_bytes_per_second: int | None = None


def run_merge(request: Request, progress: Progress) -> Manifest:
    """Make the artifact, or find it, and return its manifest; it lies in `request.output / artifactID`.

    Raises:
        VicunaError: everything that can go wrong, with reason, sentence and exit code.
    """
    sources = _sources(request)
    root = request.output.absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
        return _Job(request, root, sources, progress).run()
    except OSError as error:
        raise _explain(error, root) from error
    except VicunaError as error:
        for each in sources.all:  # a folder of ours means nothing to the user
            if each.folder and isinstance(each.source, HubSource):
                error.message = error.message.replace(str(each.folder), each.source.uri)
        raise


def _sources(request: Request) -> Sources:
    delta = None
    if request.delta:
        delta = make_input("delta", "--delta", request.delta, "--delta-digest", request.delta_digest)
    elif request.delta_digest:
        raise UsageError("--delta-digest needs --delta")
    return Sources(
        make_input("base", "--base", request.base, "--base-digest", request.base_digest),
        delta,
        tuple(
            make_input(f"adapter-{number}", "--adapter", uri, "--adapter-digest", digest)
            for number, (uri, digest) in enumerate(request.adapters)
        ),
    )


class _Job:
    """The steps of one merge, in order."""

    def __init__(self, request: Request, root: Path, sources: Sources, progress: Progress) -> None:
        self._request = request
        self._root = root
        self._sources = sources
        self._progress = progress

    def run(self) -> Manifest:
        with ExitStack() as stack:
            if any(isinstance(each.source, HubSource) for each in self._sources.all):
                found = self._find_known()
                if found:
                    return found
                found = self._fetch(stack)
                if found:
                    return found
            return self._merge()

    def _find_known(self) -> Manifest | None:
        """Look for the artifact by fingerprints that need no source at hand."""
        known = self._fingerprints(Input.known_fingerprint)
        if known is None:
            return None
        return find_by_inputs(self._root, known, self._request.kind, self._request.dtype, identity.RECIPE_VERSION)

    def _fingerprints(self, of: Callable[[Input], str | None]) -> Fingerprints | None:
        """Ask every input for its fingerprint; None when one has none."""
        base, *others = (of(each) for each in self._sources.all)
        found = [other for other in others if other is not None]
        if base is None or len(found) < len(others):
            return None
        delta = found.pop(0) if self._sources.delta else None
        return Fingerprints(base, delta, tuple(found))

    def _fetch(self, stack: ExitStack) -> Manifest | None:
        """Download what lies on a hub; it is removed when `stack` unwinds."""
        uris = json.dumps([each.source.uri for each in self._sources.all])
        key = "src" + hashlib.sha256(uris.encode()).hexdigest()[:16]
        claim = stack.enter_context(Claim(self._root, key, self._progress))
        sweep(self._root, claim)
        staging = stack.enter_context(Staging(self._root, key, claim))
        listings: list[tuple[Input, hub.Listing]] = []
        for each in self._sources.all:
            if isinstance(each.source, HubSource):
                listing = hub.list_repository(each.source, staging.path / "home")
                each.commit = listing.commit
                listings.append((each, listing))
        found = self._find_known()  # a branch's commit is known now; another merger may have finished
        if found:
            return found
        total = sum(hub.bytes_to_fetch(listing) for _, listing in listings)
        _require_space(self._root, total)
        self._progress.begin(total)
        for each, listing in listings:
            each.folder = staging.path / each.role
            hub.download(listing, each.folder, lambda: self._progress.reach(_bytes_below(staging.path)))
        return None

    def _merge(self) -> Manifest:
        problems = Problems()
        plan = self._plan(problems)
        problems.raise_if_any()
        for reason, message in problems.warnings:
            self._progress.warn(reason, message)
        assert plan is not None  # noqa: S101 - no plan means problems
        fingerprints = self._fingerprints(Input.fingerprint)
        assert fingerprints is not None  # noqa: S101 - opened sources have one
        artifact_id = identity.artifact_id(fingerprints, plan.kind, self._request.dtype)
        found = find_artifact(self._root, artifact_id)
        if found:
            drop_claim(self._root, artifact_id)
            return found
        with Claim(self._root, artifact_id, self._progress) as claim:
            found = find_artifact(self._root, artifact_id)  # made while we waited
            if found:
                return found
            sweep(self._root, claim)
            _require_space(self._root, plan.bytes_to_write)
            with Staging(self._root, artifact_id, claim) as staging:
                return self._write(plan, fingerprints, artifact_id, staging)

    def _plan(self, problems: Problems) -> Plan | None:
        for each in self._sources.all:
            with problems.collecting():
                each.open()
        base = self._sources.base.checkpoint
        delta = self._sources.delta
        if base is None or (delta is not None and delta.checkpoint is None):
            return None
        return make_plan(
            base,
            delta.checkpoint if delta else None,
            kind=self._request.kind,
            dtype=self._request.dtype,
            chat_template=self._request.chat_template,
            source_id=(delta or self._sources.base).hub_id,
            problems=problems,
        )

    def _write(self, plan: Plan, fingerprints: Fingerprints, artifact_id: str, staging: Staging) -> Manifest:
        from vicuna_server.merge.pipeline import write_shards  # torch: seconds, not needed to find an artifact

        to_verify = sum(file.size for each in self._sources.all for file in each.files_to_verify())
        self._progress.begin(plan.bytes_to_read + to_verify)
        for each in self._sources.all:
            if each.digest:
                each.verify_digest(self._progress)
        entries = write_shards(staging.path, plan.shards, LocalStore(), self._progress, self._chunk_bytes())
        small = dict(plan.small_files)
        if len(plan.shards) > 1:
            small["model.safetensors.index.json"] = _index(plan.shards)
        for name, item in sorted(small.items()):
            content = item if isinstance(item, bytes) else item.read_bytes()
            staging.write(name, content)
            entries.append(FileEntry(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest()))
        manifest = self._manifest(plan, fingerprints, artifact_id, entries)
        self._progress.check()
        staging.publish(manifest)
        return manifest

    def _chunk_bytes(self) -> int:
        """Return the size of one step: small enough that a rate is held evenly."""
        rate = self._request.max_bytes_per_second
        return max(_LEAST_CHUNK_BYTES, min(_CHUNK_BYTES, rate // 4)) if rate else _CHUNK_BYTES

    def _manifest(self, plan: Plan, fingerprints: Fingerprints, artifact_id: str, entries: list[FileEntry]) -> Manifest:
        base, *rest = (
            Source(source=each.source.uri, fingerprint=fingerprint)
            for each, fingerprint in zip(self._sources.all, fingerprints.all, strict=True)
        )
        delta = rest.pop(0) if self._sources.delta else None
        return Manifest(
            artifact_id=artifact_id,
            inputs=Inputs(base=base, delta=delta, adapters=rest),
            recipe=Recipe(kind=plan.kind, dtype=self._request.dtype, version=identity.RECIPE_VERSION),
            chat_template=plan.chat_template,
            tensor_count=plan.tensor_count,
            total_size=sum(entry.size for entry in entries),
            files=sorted(entries, key=lambda entry: entry.path),
            tool=Tool(name="vicuna-server", version=__version__),
        )


def _index(shards: list[Shard]) -> bytes:
    weight_map = {step.name: shard.name for shard in shards for step in shard.steps}
    total = sum(step.nbytes for shard in shards for step in shard.steps)
    content = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    return (json.dumps(content, indent=2) + "\n").encode()


def _bytes_below(folder: Path) -> int:
    """Return the size of all files below a folder that is being filled."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # the hub's client renames as it goes
            total += path.stat().st_size if path.is_file() else 0
    return total


def _require_space(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if needed > free:
        raise OutOfSpaceError(
            "OutOfSpace",
            f"{root} has {_gigabytes(free)} free and needs {_gigabytes(needed)}; give it a larger volume or make room",
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.2f} MB"


def _explain(error: OSError, root: Path) -> VicunaError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutOfSpaceError("OutOfSpace", f"{root} became full; give it a larger volume or make room")
    where = Path(error.filename) if isinstance(error.filename, str) else root
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
        what = os.strerror(error.errno)
        if where == root or root in where.parents or where in root.parents:
            return InputError("OutputNotWritable", f"{where}: {what}; the output must be a folder this user may write")
        return InputError("SourceForbidden", f"{where}: {what}; let this user read the source")
    return UnreachableError("StorageFailed", f"{where}: {error.strerror or error}; check the volume and run again")
