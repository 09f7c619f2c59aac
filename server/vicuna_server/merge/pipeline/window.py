"""Which files of remote sources lie on the volume at once: what is being merged, and a little ahead."""

from collections.abc import Sequence

from vicuna_server.merge.arithmetic.layout import Shard
from vicuna_server.merge.pipeline.reading import files_in_order
from vicuna_server.weights.remote import RemoteFile

__all__ = ["Window"]

_MOST_OF_A_SOURCE = 2  # the file that is read, and the next


class Window:
    """Says which file to fetch next, in the order of their first use, and which may go.

    What the output file in the making needs is always let in: base and delta may be cut into files at different
    places, and a tensor may be spread over many. Beyond that two files of each source are held, but never all
    there are at once. A file goes when the last output file made from it is finished: a run that is killed before
    that, and goes on, needs it again.

    Args:
        shards: the output files, in the order they are made.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._first: dict[RemoteFile, int] = {}
        self._last: dict[RemoteFile, int] = {}
        for number, shard in enumerate(shards):
            for file in files_in_order([shard]):
                if isinstance(file, RemoteFile):
                    self._first.setdefault(file, number)
                    self._last[file] = number
        self._waiting = list(self._first)
        self._held: list[RemoteFile] = []
        self._finished = 0
        self.bytes_in_all = sum(file.size for file in self._first)

    @property
    def bytes_held(self) -> int:
        """Bytes of the files that are here, or on their way."""
        return sum(file.size for file in self._held)

    def next(self) -> RemoteFile | None:
        """Return the file to fetch now, which then counts as held; None: no more for the moment."""
        for file in self._waiting:
            if self._first[file] <= self._finished or self._has_room(file):
                self._waiting.remove(file)
                self._held.append(file)
                return file
        return None

    def finish(self) -> list[RemoteFile]:
        """Learn that one more output file is finished; return the files that may go."""
        gone = [file for file in self._held if self._last[file] <= self._finished]
        self._held = [file for file in self._held if file not in gone]
        self._finished += 1
        return gone

    def _has_room(self, file: RemoteFile) -> bool:
        of_its_source = sum(held.uri == file.uri for held in self._held)
        return of_its_source < _MOST_OF_A_SOURCE and self.bytes_held + file.size < self.bytes_in_all
