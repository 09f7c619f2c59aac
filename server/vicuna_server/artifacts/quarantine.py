"""A second look at an artifact that is there and that somebody doubts: every byte, not only sizes and headers."""

from pathlib import Path

from vicuna_server.artifacts.lock import ArtifactLock
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.artifacts.staging import STAGING_PREFIX
from vicuna_server.artifacts.verify import NOT_SEALED, verify
from vicuna_server.files.storage import fsync_folder
from vicuna_server.run.control import Control

__all__ = ["DAMAGED", "verify_or_quarantine"]

DAMAGED = "damaged"
"""Begins the key of the staging folder that a damaged artifact becomes.

The folder is removed when no server reads it any more (the operator knows that of its own volumes), after 7 days, or
when its room is needed.
"""


def verify_or_quarantine(root: Path, found: Manifest, control: Control) -> Manifest | None:
    """Return the manifest of an artifact of which every byte is right; quarantine a damaged one, and return None.

    It is renamed and never written to: a server that has loaded it goes on reading the same files. Artifacts of
    earlier versions have manifests without a checksum of their own, which does not count as damage.

    Raises:
        InterruptedRunError: a signal came, or another merger took over.
        OSError: the volume does not let it be renamed.
    """
    folder = root / found.artifact_id
    with ArtifactLock(root, found.artifact_id, control.cancellation) as lock:
        control.begin(found.total_size)
        faults = [fault for fault in verify(folder, control.advance)[1] if fault != NOT_SEALED]
        if not faults:
            return found
        lock.require()
        aside = root / f"{STAGING_PREFIX}{DAMAGED}{found.artifact_id}-{lock.nonce}"
        folder.rename(aside)
        fsync_folder(root)
    shown = "; ".join(f"{fault.file} {fault.what}" for fault in faults[:3])
    control.reporter.warning(
        "ArtifactReplaced",
        f"artifact {found.artifact_id} was damaged ({shown}); it was quarantined as {aside.name} and is merged again",
    )
    return None
