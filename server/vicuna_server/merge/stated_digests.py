"""Sources whose digest is stated: before anything made of them is shown, it is compared with what was read."""

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vicuna_server.artifacts.digests import FILES_AT_ONCE, digest_files, read_ahead
from vicuna_server.artifacts.identity import check_digest, folder_digest
from vicuna_server.files.data_file import LocalFile
from vicuna_server.files.ledger import Ledger, Record
from vicuna_server.merge.inputs import Sources
from vicuna_server.run.control import Control
from vicuna_server.weights.checkpoint import CONFIG_FILES, TOKENIZER_FILES

__all__ = ["StatedDigests"]


class StatedDigests:
    """The comparison of a merge's sources with the digests that are stated of them.

    Of a local folder every byte that the merge reads is hashed as it is read, and compared at the end. Weights
    elsewhere are hashed while they are fetched, against what their source lists: that is compared before.
    """

    def __init__(self, sources: Sources) -> None:
        stated = [each for each in sources.all if each.digest]
        self._local = [each for each in stated if each.remote is None]
        self._remote = [each for each in stated if each.remote is not None]
        self._ledger = Ledger(self._covers)

    @property
    def ledger(self) -> Ledger | None:
        """Where reads are to be noted; None where there is nothing to vouch for."""
        return self._ledger if self._local else None

    @property
    def resumable(self) -> bool:
        """Whether what an earlier run made may be used: nobody knows which bytes of a local folder that one read."""
        return not self._local

    @property
    def bytes_to_list(self) -> int:
        """Bytes that `check_listed` reads."""
        return sum(file.size for each in self._remote for file in each.files if file.sha256 is None)

    def check_listed(self, control: Control) -> None:
        """Compare what remote sources list, before any weight is fetched.

        Raises:
            InputError: `DigestMismatch`.
            InterruptedRunError: a signal came.
        """
        for each in self._remote:
            check_digest(each.source.uri, each.digest or "", digest_files(each.files, control.advance))

    def settle(self, control: Control) -> None:
        """Read what has not been read of local folders yet, and compare.

        Raises:
            InputError: `DigestMismatch`, also where a file was not the same each time it was read.
            InterruptedRunError: a signal came.
        """
        covered = [[file for file in each.files if isinstance(file, LocalFile)] for each in self._local]
        hashes = self._finish({file.path: file for files in covered for file in files}, control)
        for each, files in zip(self._local, covered, strict=True):
            found = folder_digest({file.name: hashes[file.path] for file in files})
            check_digest(each.source.uri, each.digest or "", found)

    def _finish(self, files: Mapping[Path, LocalFile], control: Control) -> dict[Path, str]:
        """Read all files to their ends and return their sha256 by path."""
        for record in self._inconstant(files):
            raise record.changed()
        records = [self._ledger.record_of(path) or Record(path) for path in files]
        to_read = sum(files[record.path].size - record.next_offset for record in records)
        control.meter.grow(to_read - sum(record.bytes_again for record in records))
        with ThreadPoolExecutor(FILES_AT_ONCE, "merge-hash") as pool:
            return dict(zip(files, pool.map(lambda record: _finish(record, control.advance), records), strict=True))

    def _covers(self, path: Path) -> bool:
        """Whether a file may be one of a vouched source's: a tokenizer may lie in the folder above."""
        folders = [each.folder for each in self._local if each.folder]
        above = path.name in TOKENIZER_FILES and path.parent in [folder.parent for folder in folders]
        return path.parent in folders or above

    def _inconstant(self, covered: Collection[Path]) -> Iterator[Record]:
        """Yield the records of files that were there at one look and not at another."""
        folders = [each.folder for each in self._local]
        for path, record in self._ledger.records.items():
            if path in covered:
                if record.was_missed:
                    yield record
            elif record.was_read and path.parent in folders and path.name in (*CONFIG_FILES, *TOKENIZER_FILES):
                yield record


def _finish(record: Record, advance: Callable[[int], None]) -> str:
    """Read a file to its end and return its sha256."""

    def blocks() -> Iterator[memoryview]:
        for block in read_ahead(record.path, record.next_offset):
            yield block
            advance(len(block))

    return record.finish(blocks())
