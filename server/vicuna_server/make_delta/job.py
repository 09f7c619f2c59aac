"""One delta from request to published folder."""

import errno
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vicuna_server.artifacts.lock import ArtifactLock
from vicuna_server.artifacts.staging import Staging, remove
from vicuna_server.errors import UsageError
from vicuna_server.files.storage import require_space
from vicuna_server.make_delta.planning import plan_delta
from vicuna_server.merge.arithmetic.layout import Shard
from vicuna_server.merge.building import write_small_files
from vicuna_server.merge.inputs import Sources, make_input
from vicuna_server.merge.pipeline.reading import LocalStore, Store
from vicuna_server.merge.pipeline.shards import write_shards
from vicuna_server.merge.pipeline.store import RemoteStore
from vicuna_server.merge.planning.plan import Plan
from vicuna_server.merge.request import CHUNK_BYTES
from vicuna_server.problems import Problems
from vicuna_server.run.control import Control

__all__ = ["DeltaRequest", "Made", "make_delta"]

_SCRATCH = "sources"


@dataclass(frozen=True)
class DeltaRequest:
    """What the command line asks for: two URIs, the folder to make, and the delta's type."""

    base: str
    tuned: str
    output: Path
    dtype: str = "float16"

    def sources(self) -> Sources:
        """Understand the URIs; the tuned model takes the delta's place.

        Raises:
            UsageError: one is malformed.
        """
        return Sources(
            make_input("base", "--base", self.base, "--base-digest", None),
            make_input("tuned", "--tuned", self.tuned, "--tuned-digest", None),
        )


@dataclass(frozen=True)
class Made:
    """A delta that was made.

    Attributes:
        folder: where it lies.
        kind: what a merge must be told where it cannot tell.
        elements: how many it has.
        lost: how many of them a merge does not bring back bit for bit, by tensor.
    """

    folder: Path
    kind: str
    elements: int
    lost: Counter[str] = field(default_factory=Counter)


def make_delta(request: DeltaRequest, control: Control) -> Made:
    """Write the delta into a hidden folder and rename it to `request.output`, whole or not at all.

    Raises:
        VicunaError: everything that can go wrong, with reason, sentence and exit code.
    """
    sources = request.sources()
    output = request.output.absolute()
    with sources.explaining(output.parent):
        if output.exists() and not (output.is_dir() and not any(output.iterdir())):
            raise _taken(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        key = "delta" + hashlib.sha256(str(output).encode()).hexdigest()[:16]
        with (
            ArtifactLock(output.parent, key, control.cancellation) as lock,
            Staging(output.parent, key, lock) as staging,
        ):
            for folder in staging.seize():
                remove(folder)
            staging.journal.begin()  # a later run cannot resume from it
            return _make(request, sources, output, staging, control)


def _taken(output: Path) -> UsageError:
    return UsageError(f"--output {output} exists and is not an empty folder; name another")


def _make(request: DeltaRequest, sources: Sources, output: Path, staging: Staging, control: Control) -> Made:
    scratch = staging.path / _SCRATCH
    scratch.mkdir()
    lost: Counter[str] = Counter()
    plan = _plan(request, sources, scratch, lost, control)
    require_space(staging.root, plan.bytes_at_once)
    store = _store(sources, scratch, plan.shards, control)
    control.begin(plan.bytes_to_read + store.bytes_to_fetch)
    write_shards(staging.path, plan.shards, store, control, CHUNK_BYTES)
    write_small_files(plan, staging)
    remove(scratch)
    control.cancellation.check()
    try:
        staging.show(output)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise _taken(output) from error
        raise
    elements = sum(tensor.elements for shard in plan.shards for tensor in shard.tensors)
    return Made(output, plan.kind, elements, lost)


def _plan(request: DeltaRequest, sources: Sources, scratch: Path, lost: Counter[str], control: Control) -> Plan:
    problems = Problems()
    for each in sources.all:
        with problems.collecting():
            each.look_up(control)
            each.bring_small_files(scratch, control.cancellation)
            each.open()
    base, tuned = (each.checkpoint for each in sources.all)
    plan = plan_delta(base, tuned, request.dtype, lost, problems) if base and tuned else None
    problems.raise_if_any()
    assert plan is not None  # noqa: S101 - no plan means problems
    for reason, message in problems.warnings:
        control.reporter.warning(reason, sources.in_words(message))
    return plan


def _store(sources: Sources, scratch: Path, shards: Sequence[Shard], control: Control) -> Store:
    return RemoteStore(scratch, shards, control) if sources.remote else LocalStore()
