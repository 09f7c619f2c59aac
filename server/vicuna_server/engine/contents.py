"""Whether an artifact's files are the ones that its manifest lists, down to the last byte.

Small files are hashed before they are used. Threads hash the weights while torch is imported and the model is loaded,
in the order in which loading reads them, so that both use the same pages of the cache. The model answers once all are
hashed.
"""

import hashlib
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from vicuna_server.artifacts.manifest import FileEntry
from vicuna_server.engine.prefetch import weight_files
from vicuna_server.errors import InputError
from vicuna_server.machine import usable_cpus

__all__ = ["WeightCheck", "check_small_files", "damaged"]

_WEIGHTS = ".safetensors"
_PIECE_BYTES = 4 * 2**20
_MOST_THREADS = 4  # a core hashes 1 to 2 GB a second


def check_small_files(folder: Path, files: Iterable[FileEntry]) -> None:
    """Compare the sha256 of all files that are not weights.

    Raises:
        InputError: `ArtifactDamaged`, naming the file.
    """
    for entry in files:
        if not entry.path.endswith(_WEIGHTS):
            _compare(folder, entry, threading.Event())


class WeightCheck:
    """Hashes the weights of an artifact, some files at a time; it begins at once.

    Args:
        folder: The artifact.
        files: What its manifest lists.
    """

    def __init__(self, folder: Path, files: Iterable[FileEntry]) -> None:
        listed = {entry.path: entry for entry in files if entry.path.endswith(_WEIGHTS)}
        wanted = [entry for path in weight_files(folder) if (entry := listed.pop(path.name, None)) is not None]
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._waiting = deque([*wanted, *listed.values()])
        self._threads = [
            threading.Thread(target=self._work, args=(folder,), name="verify-weights", daemon=True)
            for _ in range(min(_MOST_THREADS, max(1, usable_cpus() // 2)))
        ]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Wait for the last byte.

        Raises:
            InputError: `ArtifactDamaged`, naming the file.
        """
        for thread in self._threads:
            thread.join()
        self.tell()

    def tell(self) -> None:
        """Raise what has been found so far."""
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        """Stop early: the result is not needed."""
        self._ended.set()

    def _work(self, folder: Path) -> None:
        try:
            while not self._ended.is_set():
                _compare(folder, self._waiting.popleft(), self._ended)
        except IndexError:
            return
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._failure = self._failure or error
            self.end()


def damaged(path: Path, what: str) -> InputError:
    """Say how a file differs from what its manifest lists."""
    return InputError(
        "ArtifactDamaged",
        f"{path} {what}; find out what changed it, remove the folder and merge the model again",
    )


def _compare(folder: Path, entry: FileEntry, ended: threading.Event) -> None:
    path, digest, buffer = folder / entry.path, hashlib.sha256(), bytearray(_PIECE_BYTES)
    view = memoryview(buffer)
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(view[:count])
                if ended.is_set():
                    return
    except OSError as error:
        raise damaged(path, f"cannot be read ({error.strerror})") from error
    if digest.hexdigest() != entry.sha256:
        raise damaged(path, "has other bytes than its manifest says")
