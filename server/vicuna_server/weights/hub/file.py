"""One file of a repository on a hub, read by range requests."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vicuna_server.weights.hub.client import HubClient
from vicuna_server.weights.hub.download import fetch
from vicuna_server.weights.hub.retry import RetryPolicy
from vicuna_server.weights.remote import RemoteFile

__all__ = ["Blocks", "HubFile"]

_BLOCK_BYTES = 64 * 1024
_MOST_BLOCKS = 128  # 8 MiB
_LOCKS = 64
_CACHED_READ_BYTES = 16 * _BLOCK_BYTES  # larger reads are rarely repeated


class Blocks:
    """The blocks read last, of all files of a repository: headers, directories and vectors cost few requests."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._fetching = [threading.Lock() for _ in range(_LOCKS)]

    def fetching(self, name: str, number: int) -> threading.Lock:
        """Return what is held while a block is fetched: who wants the same one meanwhile finds it afterwards."""
        return self._fetching[hash((name, number)) % _LOCKS]

    def get(self, name: str, number: int) -> bytes | None:
        """Return a block if it is there."""
        with self._lock:
            block = self._blocks.get((name, number))
            if block is not None:
                self._blocks.move_to_end((name, number))
            return block

    def put(self, name: str, number: int, block: bytes) -> None:
        """Keep a block, in place of the one not used for longest."""
        with self._lock:
            self._blocks[name, number] = block
            while len(self._blocks) > _MOST_BLOCKS:
                self._blocks.popitem(last=False)


@dataclass(frozen=True)
class HubFile(RemoteFile):
    """A file on a hub, in one commit.

    Attributes:
        sha256: listed for what git-lfs holds (all large files); None for others.
        blob_id: 40 hex digits, git's name for others' content: sha1 over `blob <size>`, a zero byte and the bytes.
        url: where it is fetched.
        client: fetches it.
        blocks: the repository's.
    """

    url: str
    client: HubClient = field(compare=False, repr=False)
    blocks: Blocks = field(compare=False, repr=False)
    blob_id: str | None = None

    @property
    def stored_name(self) -> str:
        """What it is called on the volume: the digits stand for its repository and sha256, or its URL without one."""
        content = f"{self.uri} {self.sha256 or self.url}"
        return f"{hashlib.sha256(content.encode()).hexdigest()[:16]}-{self.name}"

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes at `offset`, fewer at the end of the file; as `RemoteFile.read`."""
        stop = min(offset + size, self.size)
        if stop <= offset:
            return b""
        if stop - offset > _CACHED_READ_BYTES:
            return self.client.read(str(self), self.url, offset, stop)
        first, last = offset // _BLOCK_BYTES, (stop - 1) // _BLOCK_BYTES
        with self.blocks.fetching(self.name, first):
            data = b"".join(self._read_blocks(first, last))
        return data[offset - first * _BLOCK_BYTES : stop - first * _BLOCK_BYTES]

    def _read_blocks(self, first: int, last: int) -> list[bytes]:
        """Return blocks [first, last], those that are not there by one request."""
        found = {number: self.blocks.get(self.name, number) for number in range(first, last + 1)}
        missing = [number for number, block in found.items() if block is None]
        if missing:
            start = missing[0] * _BLOCK_BYTES
            data = self.client.read(str(self), self.url, start, min((missing[-1] + 1) * _BLOCK_BYTES, self.size))
            for number in range(missing[0], missing[-1] + 1):
                place = number * _BLOCK_BYTES - start
                found[number] = block = data[place : place + _BLOCK_BYTES]
                self.blocks.put(self.name, number, block)
        return [block or b"" for block in found.values()]

    def fetch(self, path: Path, pause: Callable[[float], None], count: Callable[[int], None]) -> None:
        """Make `path` the whole file; as `RemoteFile.fetch`."""
        fetch(self, path, pause, count)

    def stream(self, start: int) -> Iterator[bytes]:
        """Yield its bytes from `start` on by one request, as `HubClient.stream` does."""
        return self.client.stream(str(self), self.url, start, self.size)

    def retry_policy(self, pause: Callable[[float], None]) -> RetryPolicy:
        """Return how long to go on trying to stream it."""
        return self.client.retry_policy(str(self), pause)
