"""Hashing what was read of files whose digest is stated, on its way from the reader to who adds it up.

One thread hashes what was read of the base, the next one what was read of the delta, while other chunks are read,
added and written. It has to be done before the addition, which writes over what was read.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from vicuna_server.files.data_file import LocalFile
from vicuna_server.files.ledger import Record

__all__ = ["HashedRead", "HashingStage"]


@dataclass(frozen=True)
class HashedRead:
    """What was read at one place of a file.

    Attributes:
        record: the file's.
        offset: where it lies.
        blocks: the bytes, in the file's order.
    """

    record: Record
    offset: int
    blocks: Sequence[memoryview]

    def hash(self) -> int:
        """Hash it; return how many bytes of the file will have to be read once more for it.

        Raises:
            InputError: as `Record.take`.
        """
        before = self.record.bytes_again
        self.record.take(self.offset, self.blocks, LocalFile(self.record.path).read_again)
        return self.record.bytes_again - before


class HashingStage(threading.Thread):
    """Takes from one queue and gives to the next, in order; an error is passed on like anything else.

    Args:
        reads: returns what is to be hashed of an item.
        source: where it takes from.
        target: where it gives to.
        grow: called with how many bytes will have to be read once more.
    """

    def __init__(
        self,
        reads: Callable[[Any], Sequence[HashedRead]],
        source: SimpleQueue[Any],
        target: SimpleQueue[Any],
        grow: Callable[[int], None],
    ) -> None:
        super().__init__(name="merge-hash", daemon=True)
        self._reads = reads
        self._source = source
        self._target = target
        self._grow = grow

    def run(self) -> None:
        """Hash until there is nothing more."""
        while (item := self._source.get()) is not None:
            try:
                if not isinstance(item, BaseException):
                    self._grow(sum(read.hash() for read in self._reads(item)))
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                item = error
            self._target.put(item)

    def stop(self) -> None:
        """End, once what has come is hashed, and wait for the end."""
        self._source.put(None)
        self.join()
