"""A hidden folder on the volume in which an artifact grows, until one rename shows it whole."""

import contextlib
import errno
import shutil
from pathlib import Path
from types import TracebackType

from vicuna_contract.names import MANIFEST_NAME
from vicuna_server.artifacts.journal import JOURNAL_NAME, Journal, finished_files
from vicuna_server.artifacts.lock import ArtifactLock
from vicuna_server.artifacts.lookup import find_artifact
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.errors import VicunaError
from vicuna_server.files.exchange import exchange
from vicuna_server.files.storage import fsync_folder, write_file

__all__ = ["STAGING_PREFIX", "Staging", "remove", "staging_key"]

STAGING_PREFIX = ".staging-"


class Staging:
    """A context manager for `.staging-<key>-<nonce>`: on leaving, what a later run can go on with stays.

    A run that ends for good, by success or for a wrong input, leaves nothing. One that may be tried again leaves the
    files its journal says are finished, and in a folder without a journal everything.
    """

    def __init__(self, root: Path, key: str, lock: ArtifactLock) -> None:
        self.root = root
        self.path = root / f"{STAGING_PREFIX}{key}-{lock.nonce}"
        self.journal = Journal(self.path)
        self._key = key
        self._lock = lock
        self._published = False

    def __enter__(self) -> "Staging":
        self.path.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, OSError | VicunaError) and not self._published and not self.path.is_dir():
            raise self._lock.lost() from error  # the merger that took over has moved the folder, which caused the error
        if isinstance(error, OSError) or (isinstance(error, VicunaError) and error.retryable):
            with contextlib.suppress(OSError):  # keep the error that is being raised
                _drop_unfinished(self.path)
        else:
            for path in (self.path, *self.root.glob(f"{self.path.name}.*")):  # and what was seized and not used
                remove(path)

    def seize(self) -> list[Path]:
        """Take the folders that dead runs left of the same thing, by renaming them; return them.

        From then on a run that was only frozen and wakes up finds its folder gone: it can write to no file it did
        not have open, and publish nothing.
        """
        seized = []
        for number, path in enumerate(sorted(self.root.glob(f"{STAGING_PREFIX}{self._key}-*"))):
            if path != self.path:
                ours = self.path.with_name(f"{self.path.name}.{number}")
                try:
                    path.rename(ours)
                except FileNotFoundError:  # another merger took it; it will find that it lost the lock
                    continue
                seized.append(ours)
        return seized

    def write(self, name: str, content: bytes) -> None:
        """Write one small file, perhaps in a folder of its own, and make it durable."""
        path = self.path / name
        inner = path.parent if path.parent != self.path else None
        if inner:
            inner.mkdir(exist_ok=True)
        write_file(path, content)
        if inner:
            fsync_folder(inner)

    def publish(self, manifest: Manifest) -> None:
        """Write the manifest last, make the folder durable and rename it to its artifactID.

        An equal artifact that another merger published meanwhile is as good; a broken one gives way.

        Raises:
            InterruptedRunError: `LockLost`.
        """
        self.write(MANIFEST_NAME, manifest.to_json().encode())
        target = self.root / manifest.artifact_id
        try:
            self.show(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            if find_artifact(self.root, manifest.artifact_id) is None:
                exchange(self.path, target)  # the broken artifact is now the staging folder, which is removed
            self._published = True
            fsync_folder(self.root)

    def show(self, target: Path) -> None:
        """Make the folder durable and rename it to what is not there yet, or an empty folder.

        Raises:
            InterruptedRunError: `LockLost`.
            OSError: something is there.
        """
        self.journal.remove()
        fsync_folder(self.path)
        self._lock.require()
        self.path.rename(target)
        self._published = True
        fsync_folder(self.root)


def staging_key(path: Path) -> str:
    """Return the key of what a staging folder was for."""
    return path.name.removeprefix(STAGING_PREFIX).rpartition("-")[0]


def remove(path: Path) -> None:
    """Remove a folder, or whatever stands in its place; what cannot be removed stays for the next sweep."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _drop_unfinished(folder: Path) -> None:
    """Keep what the journal names, nothing if that is nothing; without a journal, whatever there is."""
    has_journal = (folder / JOURNAL_NAME).exists()
    keep = present = {path.name for path in folder.iterdir()}
    if has_journal:
        keep = present & {entry.path for entry in finished_files(folder)}
    if not keep:
        remove(folder)
        return
    for name in present - keep - {JOURNAL_NAME}:
        remove(folder / name)
