"""Sources elsewhere as one protocol: list, read ranges, fetch whole with resume, and the digests that they state.

A repository on a Hugging Face hub is one (`hub/repository.py`). Another kind implements `RemoteSource` and
`RemoteFile`, and `merge/inputs.py` makes it from its URI; no other module knows where a file comes from.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vicuna_server.run.control import Control

__all__ = ["RemoteFile", "RemoteSource"]


@dataclass(frozen=True)
class RemoteFile(ABC):
    """A `DataFile` elsewhere, in one state of its source: its bytes never change. Hashable by source and content.

    Attributes:
        uri: the source, as the user named it.
        name: the file's own name, without a folder.
        size: in bytes.
        sha256: 64 hex digits, where the source states them; else None.
    """

    uri: str
    name: str
    size: int
    sha256: str | None

    @property
    @abstractmethod
    def stored_name(self) -> str:
        """What it is called on the volume: 16 hex digits that stand for source and content, a hyphen and its name.

        A later run knows by it what it finds.
        """

    @abstractmethod
    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes at `offset`, fewer at the end of the file.

        Raises:
            InputError: `SourceForbidden`, `SourceNotFound`, `SourceUnsupported`.
            UnreachableError: the source, or the way there, fails.
        """

    @abstractmethod
    def fetch(self, path: Path, pause: Callable[[float], None], count: Callable[[int], None]) -> None:
        """Make `path` the whole file; bytes that are there already, from a run that was cut, are kept.

        Args:
            path: where it is to lie; its folder exists.
            pause: waits so many seconds, and raises where the run is to end; asked before each write.
            count: called with how many bytes have come, those that are there already included; each byte once.

        Raises:
            InputError: `DigestMismatch` when the bytes are not those that the source states; as `read`.
            UnreachableError: the source, or the way there, fails.
            OSError: it cannot be written, a full disk included.
        """

    def __str__(self) -> str:
        return f"{self.uri}/{self.name}"


class RemoteSource(Protocol):
    """One source elsewhere."""

    @property
    def fingerprint(self) -> str | None:
        """What stands for its bytes; None before `list` where only that tells."""

    def list(self, control: Control) -> Mapping[str, RemoteFile]:
        """Return its files by name.

        Args:
            control: holds all that is read from the files to the rate, and ends the run on a signal.

        Raises:
            InputError: `SourceNotFound`, `SourceForbidden`, `SourceUnsupported`.
            UnreachableError: the source, or the way there, fails.
            InterruptedRunError: a signal came.
        """
