"""Fetching one file of a hub whole: resumed where it was cut, hashed as it comes, accepted only as listed."""

import hashlib
import os
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Protocol

from vicuna_server.errors import InputError
from vicuna_server.weights.hub.retry import RetryPolicy

__all__ = ["fetch"]

_READ_BYTES = 1024 * 1024


class Resumable(Protocol):
    """A file that can be streamed from any byte on; `str()` of it names it to a person."""

    @property
    def size(self) -> int:
        """In bytes."""

    @property
    def sha256(self) -> str | None:
        """What is listed of its content, in hex."""

    @property
    def blob_id(self) -> str | None:
        """Git's name for its content, where that is listed instead."""

    def stream(self, start: int) -> Iterator[bytes]:
        """Yield its bytes from `start` on; raises `CutError` where another try may help."""

    def retry_policy(self, pause: Callable[[float], None]) -> RetryPolicy:
        """Return how long to go on trying."""


def fetch(file: Resumable, path: Path, pause: Callable[[float], None], count: Callable[[int], None]) -> None:
    """Make `path` the whole file; bytes that are there already, from a run that was cut, are kept.

    Args:
        file: what to fetch.
        path: where it is to lie; its folder exists.
        pause: waits so many seconds, and raises where the run is to end; asked before each write.
        count: called with how many bytes have come, those that are there already included; each byte once.

    Raises:
        InputError: `DigestMismatch` when twice its sha256, or git's name for it, is not as listed; as `HubClient.read`.
        UnreachableError: the network, or the hub, fails.
        OSError: it cannot be written, a full disk included.
    """
    if _fetch_once(file, path, pause, count):
        return
    path.unlink()  # bytes of an earlier run, or the transfer, may be wrong: once more from zero
    if not _fetch_once(file, path, pause, lambda _: None):
        path.unlink()
        kind, listed = ("sha256", file.sha256) if file.sha256 else ("git blob id", file.blob_id)
        raise InputError(
            "DigestMismatch",
            f"{file} came twice with another {kind} than its hub lists ({listed}); tell its owner",
        )


def _fetch_once(file: Resumable, path: Path, pause: Callable[[float], None], count: Callable[[int], None]) -> bool:
    """Return whether the file is as listed."""
    digest = _digest(file)
    policy = file.retry_policy(pause)

    def take(block: bytes) -> None:
        digest.update(block)
        count(len(block))

    def receive() -> None:
        for block in file.stream(out.tell()):
            pause(0)
            _write(out, block)
            take(block)
            policy.progressed()

    # never append: a run that was taken over and wakes up then only writes the same bytes to the same places
    with FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+") as out:
        if out.seek(0, os.SEEK_END) > file.size:
            out.truncate(0)
        out.seek(0)
        while present := out.read(_READ_BYTES):
            pause(0)
            take(present)
        policy.run(receive)
    return (file.sha256 or file.blob_id) in (None, digest.hexdigest())


def _digest(file: Resumable) -> "hashlib._Hash":
    """Return what the listing's hash of a file is made with."""
    if file.sha256 or not file.blob_id:
        return hashlib.sha256()
    return hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)


def _write(out: FileIO, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(out.fileno(), view) :]
