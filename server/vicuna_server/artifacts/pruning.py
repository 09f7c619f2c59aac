"""Removing artifacts that nobody uses, and what dead merges left."""

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from vicuna_server.artifacts.lock import LOCK_PREFIX, ArtifactLock, seems_held
from vicuna_server.artifacts.lookup import artifact_folders
from vicuna_server.artifacts.quarantine import DAMAGED
from vicuna_server.artifacts.staging import STAGING_PREFIX, remove, staging_key
from vicuna_server.artifacts.sweeping import MOST_SECONDS
from vicuna_server.artifacts.verify import verify_fast
from vicuna_server.files.storage import fsync_folder, measure, volume_time
from vicuna_server.run.cancellation import Cancellation

__all__ = ["Candidate", "candidates", "prune", "tidy_locks"]

_WORKED_ON = "a merge works on it"


@dataclass(frozen=True)
class Candidate:
    """A folder that could go.

    Attributes:
        path: the folder.
        key: its artifactID, or the key of the merge that left it.
        size: bytes of its files.
        age: seconds since it was made, changed, or found by a merge that needed it, by the volume's clock.
        kept: why it stays; None: it can go.
    """

    path: Path
    key: str
    size: int
    age: float
    kept: str | None


def candidates(root: Path, keep: Collection[str], least_age: float, aside: Collection[str] = ()) -> list[Candidate]:
    """List artifacts and unfinished merges, oldest first, and say which can go.

    Args:
        root: the volume.
        keep: artifactIDs in use. An unfinished merge of one that is not whole stays too.
        least_age: seconds; what is younger stays, since whoever made or found it may not have said so yet.
        aside: artifactIDs whose damaged copies nobody reads any more, however young they are.
    """
    now = volume_time(root)
    found = []
    for path in (*artifact_folders(root), *root.glob(f"{STAGING_PREFIX}*")):
        unfinished = path.name.startswith(STAGING_PREFIX)
        key = staging_key(path) if unfinished else path.name
        size, changed = measure(path)
        if key.startswith(DAMAGED):
            kept = _kept_aside(key, now - changed, aside)
        elif key in keep and not (unfinished and not verify_fast(root / key)[1]):
            kept = "in use"
        elif now - changed < least_age:
            kept = "too young"
        else:
            kept = _WORKED_ON if seems_held(root, key) else None
        found.append(Candidate(path, key, size, now - changed, kept))
    return sorted(found, key=lambda each: -each.age)


def _kept_aside(key: str, age: float, aside: Collection[str]) -> str | None:
    """Say why a quarantined copy stays; None: it can go."""
    is_free = age >= MOST_SECONDS or key.removeprefix(DAMAGED) in aside
    return None if is_free else "quarantined as damaged; pods may still read it"


def prune(candidate: Candidate, least_age: float, cancellation: Cancellation) -> str | None:
    """Remove one folder under the lock that a merge of it takes.

    An artifact is hidden by a rename, durable before the first byte goes: half of one is never visible, whenever this
    is killed. A merge that found it in the same instant has touched it, and it is shown again.

    A merge does not find a quarantined copy, so its age does not matter.

    Returns:
        Why it stays after all; None: it is gone.

    Raises:
        OSError: the volume does not let it be renamed.
    """
    root = candidate.path.parent
    lock = ArtifactLock(root, candidate.key, cancellation)
    with lock.try_acquire() as taken:
        if not taken:
            return _WORKED_ON
        hidden = root / f"{STAGING_PREFIX}{candidate.key}-{lock.nonce}"
        try:
            candidate.path.rename(hidden)
        except FileNotFoundError:
            return None
        try:
            damaged = candidate.key.startswith(DAMAGED)
            young = not damaged and volume_time(root) - measure(hidden)[1] < least_age
            if not young:
                fsync_folder(root)
        except OSError:
            hidden.rename(candidate.path)
            raise
        if young:
            hidden.rename(candidate.path)
            return "used a moment ago"
        remove(hidden)
        return f"parts of it could not be removed: {hidden}" if hidden.exists() else None


def tidy_locks(root: Path, cancellation: Cancellation) -> None:
    """Remove the locks of the dead, and what takeovers left half-way."""
    for path in root.glob(f"{LOCK_PREFIX}*"):
        key, _, nonce = path.name.removeprefix(LOCK_PREFIX).partition(".")
        with contextlib.suppress(OSError), ArtifactLock(root, key, cancellation).try_acquire() as taken:
            if taken and nonce:
                path.unlink(missing_ok=True)
