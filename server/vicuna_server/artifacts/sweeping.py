"""Room on the volume: what dead runs of other merges left goes when it is old, or when the room is needed."""

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from vicuna_server.artifacts.lock import LOCK_PREFIX, ArtifactLock
from vicuna_server.artifacts.quarantine import DAMAGED
from vicuna_server.artifacts.staging import STAGING_PREFIX, remove, staging_key
from vicuna_server.files.storage import measure, require_space, volume_time
from vicuna_server.run.cancellation import Cancellation
from vicuna_server.run.reporter import Reporter
from vicuna_server.wording import readable_size

__all__ = ["MOST_SECONDS", "DeadStaging", "dead_staging", "drop_staging", "make_room", "remove_dead", "sweep"]

MOST_SECONDS = 7 * 24 * 3600
_UNFINISHED = ("an unfinished merge", "; that merge starts anew")


@dataclass(frozen=True)
class DeadStaging:
    """A staging folder that no running merge works in.

    Attributes:
        path: the folder.
        size: bytes of its files.
        changed: when its newest file was last written, in seconds by the volume's clock.
    """

    path: Path
    size: int
    changed: float


def dead_staging(root: Path, cancellation: Cancellation, but: str = "") -> list[DeadStaging]:
    """List what nobody works in, oldest first, leaving out the key `but`."""
    found = [
        DeadStaging(path, *measure(path))
        for path in root.glob(f"{STAGING_PREFIX}*")
        if staging_key(path) != but and _is_free(root, staging_key(path), cancellation)
    ]
    return sorted(found, key=lambda each: each.changed)


def sweep(root: Path, lock: ArtifactLock, cancellation: Cancellation) -> None:
    """Remove what is older than 7 days, by the volume's own clock, and what takeovers of this lock left half-way."""
    for path in root.glob(f"{lock.path.name}.*"):
        path.unlink(missing_ok=True)
    now = volume_time(root)
    for dead in dead_staging(root, cancellation, but=lock.key):
        if now - dead.changed > MOST_SECONDS:
            remove_dead(root, dead, cancellation)


def make_room(root: Path, needed: int, lock: ArtifactLock, cancellation: Cancellation, reporter: Reporter) -> None:
    """Let go of what other merges could have resumed, oldest first, until `needed` bytes are free.

    Damaged artifacts that were put aside go last: a server may still read one.

    Raises:
        OutOfSpaceError: there is not enough even so.
    """
    for dead in sorted(dead_staging(root, cancellation, but=lock.key), key=_is_damaged):
        if shutil.disk_usage(root).free >= needed:
            break
        if remove_dead(root, dead, cancellation):
            what, then = ("a damaged artifact", "") if _is_damaged(dead) else _UNFINISHED
            size = readable_size(dead.size)
            reporter.warning("StagingRemoved", f"{dead.path.name}, {size} of {what}, was removed to make room{then}")
    require_space(root, needed)


def _is_damaged(dead: DeadStaging) -> bool:
    return staging_key(dead.path).startswith(DAMAGED)


def drop_staging(root: Path, key: str, cancellation: Cancellation) -> None:
    """Remove what dead runs left on the way to an artifact that is there by now, their lock included."""
    folders = list(root.glob(f"{STAGING_PREFIX}{key}-*"))
    if folders or (root / f"{LOCK_PREFIX}{key}").exists():
        with contextlib.suppress(OSError), ArtifactLock(root, key, cancellation).try_acquire() as taken:
            for folder in folders if taken else ():
                remove(folder)


def remove_dead(root: Path, dead: DeadStaging, cancellation: Cancellation) -> bool:
    """Remove one, unless a run took it up meanwhile."""
    with ArtifactLock(root, staging_key(dead.path), cancellation).try_acquire() as taken:
        if taken:
            remove(dead.path)
        return taken


def _is_free(root: Path, key: str, cancellation: Cancellation) -> bool:
    with ArtifactLock(root, key, cancellation).try_acquire() as taken:
        return taken
