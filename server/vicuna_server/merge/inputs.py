"""One source of a merge on its way from URI to opened checkpoint."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from vicuna_contract.sources import FileSource, HubSource, hub_spelling, other_spelling, parse_argument, parse_digest
from vicuna_server.artifacts import identity
from vicuna_server.errors import InputError, UsageError, VicunaError
from vicuna_server.files.data_file import DataFile
from vicuna_server.files.storage import explain
from vicuna_server.run.cancellation import Cancellation
from vicuna_server.run.control import Control
from vicuna_server.weights.adapters.folder import Adapter, open_adapter
from vicuna_server.weights.checkpoint import Checkpoint, open_checkpoint
from vicuna_server.weights.hub.repository import HubRepository
from vicuna_server.weights.remote import RemoteFile, RemoteSource
from vicuna_server.weights.small_files import fetch_small_files, weights_elsewhere

__all__ = ["Input", "Sources", "make_input"]

T = TypeVar("T")


@dataclass
class Input:
    """One source on its way from URI to opened checkpoint or adapter; one elsewhere is looked up, small files brought.

    Attributes:
        role: its part in the merge: base, delta or adapter-N.
        source: where it lies.
        digest: what it must have, as stated.
        remote: how a source elsewhere is read; None for a folder.
        folder: where the small files lie, and a local source's weights.
        checkpoint: what is in it, once opened.
        adapter: what is in it, if that is an adapter.
        remote_files: what a source elsewhere holds, once looked up.
        given: how the command line names it.
    """

    role: str
    source: FileSource | HubSource
    digest: str | None
    remote: RemoteSource | None = None
    folder: Path | None = None
    checkpoint: Checkpoint | None = None
    adapter: Adapter | None = None
    remote_files: Mapping[str, RemoteFile] | None = field(default=None, repr=False)
    given: str = ""

    @property
    def repo_id(self) -> str:
        """ORG/NAME on a hub, empty for a folder."""
        return self.source.repo if isinstance(self.source, HubSource) else ""

    @property
    def is_adapter(self) -> bool:
        """Whether it is merged as an adapter."""
        return self.role.startswith("adapter")

    @property
    def files(self) -> list[DataFile]:
        """All files a merge reads; none before the source is open."""
        opened = self.adapter or self.checkpoint
        return opened.files if opened else []

    def look_up(self, control: Control) -> None:
        """Learn what a source elsewhere holds; nothing is done for a folder.

        Raises:
            InputError, UnreachableError: as `RemoteSource.list`.
        """
        if self.remote is not None and self.remote_files is None:
            self.remote_files = self.remote.list(control)

    def bring_small_files(self, parent: Path, cancellation: Cancellation) -> None:
        """Fetch what is read whole, of a source that was looked up, into a folder of its own below `parent`.

        Raises:
            InputError, UnreachableError: as `fetch_small_files`.
        """
        if self.remote_files is not None and self.folder is None:
            self.folder = parent / self.role
            fetch_small_files(self.remote_files, self.folder, cancellation, adapter=self.is_adapter)

    def open(self) -> None:
        """Read the headers, if the small files are there by now.

        Raises:
            InputError: as `open_checkpoint` and `open_adapter`.
            UnreachableError: the source, or the way there, fails.
        """
        if self.folder is None or (self.adapter if self.is_adapter else self.checkpoint):
            return
        if self.remote is None:
            _refuse_encoded(self.folder)
            _suggest_hub(self.given, self.folder)
        if self.is_adapter:
            self.adapter = open_adapter(self.folder, self.remote_files or ())
        else:
            self.checkpoint = open_checkpoint(self.folder, weights_elsewhere(self.remote_files or {}))

    def known_fingerprint(self) -> str | None:
        """Return the fingerprint if it is known without reading a file."""
        return self.digest or (self.remote.fingerprint if self.remote else None)

    def fingerprint(self) -> str:
        """Return what stands for the bytes; the source is open by now."""
        return self.known_fingerprint() or identity.fingerprint(self.files)


def _suggest_hub(given: str, folder: Path) -> None:
    """Refuse ORG/NAME where there is no such folder: in other programs that names a repository.

    Raises:
        InputError: `SourceNotFound`.
    """
    uri = hub_spelling(given)
    if uri is not None and not folder.exists():
        raise InputError(
            "SourceNotFound", f"{folder} does not exist; where {given} is a repository on a hub, say {uri}"
        )


def _refuse_encoded(folder: Path) -> None:
    """Refuse a path that is there only when it is percent-decoded: it may be meant so, or be a mistake.

    Raises:
        InputError: `SourceNotFound`.
    """
    decoded = other_spelling(str(folder))
    if decoded is not None and not folder.exists() and Path(decoded).exists():
        raise InputError(
            "SourceNotFound",
            f"{folder} does not exist, but {decoded} does; a path is taken as it is written: name that folder itself",
        )


@dataclass(frozen=True)
class Sources:
    """All inputs of a merge by their part in it; adapters in the order they are merged."""

    base: Input
    delta: Input | None = None
    adapters: tuple[Input, ...] = ()

    @property
    def all(self) -> tuple[Input, ...]:
        """Every input, in the order they are applied."""
        return (self.base, *((self.delta,) if self.delta else ()), *self.adapters)

    @property
    def remote(self) -> tuple[Input, ...]:
        """Those that lie elsewhere."""
        return tuple(each for each in self.all if each.remote is not None)

    def in_words(self, message: str) -> str:
        """Return a message with each remote source named as the user did: a folder of ours means nothing to them."""
        folders = {str(each.folder): each.source.uri for each in self.remote if each.folder is not None}
        for folder in sorted(folders, key=len, reverse=True):  # longest first: adapter-10 before adapter-1
            message = message.replace(folder, folders[folder])
        return message

    @contextmanager
    def explaining(self, root: Path | None) -> Iterator[None]:
        """Turn what fails inside into errors that a user understands.

        Args:
            root: the volume that is written to; what the system says of files outside of sources concerns it.
        """
        try:
            yield
        except OSError as error:
            raise explain(error, None if self._hold(error.filename) else root) from error
        except VicunaError as error:
            error.message = self.in_words(error.message)
            raise

    def _hold(self, name: object) -> bool:
        """Return whether a system call's file is one of a source."""
        folders = [each.folder for each in self.all if each.remote is None and each.folder is not None]
        return isinstance(name, str) and any(Path(name).absolute().is_relative_to(folder) for folder in folders)

    def fingerprints(self, of: Callable[[Input], str | None]) -> identity.Fingerprints | None:
        """Ask every input for its fingerprint; None when one has none."""
        base, *others = (of(each) for each in self.all)
        found = [other for other in others if other is not None]
        if base is None or len(found) < len(others):
            return None
        delta = found.pop(0) if self.delta else None
        return identity.Fingerprints(base, delta, tuple(found))


def make_input(role: str, flag: str, uri: str, digest_flag: str, digest: str | None) -> Input:
    """Understand the flags of one source.

    Raises:
        UsageError: the URI or the digest is malformed.
    """
    source = _understood(flag, parse_argument, uri)
    digest = f"sha256:{_understood(digest_flag, parse_digest, digest)}" if digest else None
    if isinstance(source, HubSource):
        return Input(role, source, digest, remote=HubRepository(source))
    folder = Path(source.path).absolute()
    return Input(role, FileSource(str(folder)), digest, folder=folder, given=uri)


def _understood(flag: str, parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{flag} {error}") from None
