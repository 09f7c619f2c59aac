"""The directory of a zip archive: which records lie where, read in bounded memory and few reads.

Python's zipfile takes whatever directory a file claims into memory and says where a record's header begins, not its
bytes. Layout: APPNOTE 4.3 (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT), ZIP64 included.
"""

import struct
from dataclasses import dataclass, replace
from functools import partial

from vicuna_server.errors import InputError
from vicuna_server.files.data_file import DataFile, map_concurrently

__all__ = ["Record", "read_directory"]

_MOST_DIRECTORY_BYTES = 16 * 1024 * 1024  # a hundred thousand tensors
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s4B4H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_MOST_COMMENT_BYTES = 65535
_BIG = 0xFFFFFFFF  # this or more is written in ZIP64 fields
_ALIGNMENT = 64  # torch.save begins each record's bytes at a multiple of this
_SAMPLES = 16


@dataclass(frozen=True)
class Record:
    """One file of the archive.

    Attributes:
        name: its path in the archive.
        header: where its local header begins, in bytes.
        size: its size in the archive, in bytes.
        stored: whether its bytes are there as they are, neither compressed nor encrypted.
        streamed: whether a data descriptor follows its bytes.
        start: where its bytes begin.
    """

    name: bytes
    header: int
    size: int
    stored: bool
    streamed: bool
    start: int = 0


def read_directory(file: DataFile) -> list[Record]:
    """List the records in the order they lie in the file.

    Raises:
        InputError: `TruncatedShard` when there is no directory, `NotACheckpoint` when it is broken.
    """
    try:
        offset, size = _find(file)
        if size > _MOST_DIRECTORY_BYTES:
            raise ValueError(f"its directory claims {size} bytes, more than {_MOST_DIRECTORY_BYTES}")
        records = sorted(_entries(file.read(offset, size)), key=lambda record: record.header)
        return _with_starts(file, records, offset)
    except (ValueError, struct.error) as error:
        raise InputError("NotACheckpoint", f"{file} is a broken zip archive ({error}); fetch it again") from error


def _find(file: DataFile) -> tuple[int, int]:
    """Return offset and size of the central directory."""
    total = file.size
    tail_start = max(0, total - _END.size - _MOST_COMMENT_BYTES)
    tail = file.read(tail_start, total - tail_start)
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) - place < _END.size:
        raise InputError("TruncatedShard", f"{file} ends too early; fetch it again")
    end = tail_start + place
    _, _, _, _, entries, size, offset, _ = _END.unpack_from(tail, place)
    if entries == 0xFFFF or size == _BIG or offset == _BIG:
        locator = _END64_LOCATOR.unpack(file.read(end - _END64_LOCATOR.size, _END64_LOCATOR.size))
        end = locator[2]
        found = _END64.unpack(file.read(end, _END64.size))
        if locator[0] != b"PK\x06\x07" or found[0] != b"PK\x06\x06":
            raise ValueError("its ZIP64 directory is not where it should be")
        size, offset = found[-2:]
    if offset + size > end:
        raise ValueError("its directory is not where it should be")
    return offset, size


def _entries(directory: bytes) -> list[Record]:
    records = []
    names = set()
    position = 0
    while position < len(directory):
        fields = _CENTRAL.unpack_from(directory, position)
        signature, flags, method, packed, size = fields[0], fields[5], fields[6], fields[10], fields[11]
        name_bytes, extra_bytes, comment_bytes, header = fields[12], fields[13], fields[14], fields[18]
        position += _CENTRAL.size
        name = directory[position : position + name_bytes]
        extra = directory[position + name_bytes : position + name_bytes + extra_bytes]
        position += name_bytes + extra_bytes + comment_bytes
        if signature != b"PK\x01\x02" or position > len(directory):
            raise ValueError("its directory ends in the middle")
        if name in names:
            raise ValueError("it holds two records of one name")
        names.add(name)
        size, packed, header = _widened(extra, size, packed, header)
        stored = method == 0 and not flags & 1 and packed == size
        records.append(Record(name, header, packed, stored, bool(flags & 8)))
    return records


def _widened(extra: bytes, *narrow: int) -> list[int]:
    """Return sizes and offset with those that did not fit 32 bits taken from the ZIP64 field."""
    wide = b""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        if kind == 1:
            wide = extra[position + 4 : position + 4 + length]
        position += 4 + length
    values = []
    for value in narrow:
        if value == _BIG:
            values.append(int(struct.unpack_from("<Q", wide)[0]))
            wide = wide[8:]
        else:
            values.append(value)
    return values


def _with_starts(file: DataFile, records: list[Record], end: int) -> list[Record]:
    """Say where each record's bytes begin.

    That stands in the local headers, all over the file: hundreds of small reads, each a request where the file lies
    on a hub. As torch.save writes them, bytes end where the next record begins; this is used where it holds for a
    sample, else the local headers are read.
    """
    ends = [*(record.header for record in records[1:]), end]
    guesses = [_guess(record, stop) for record, stop in zip(records, ends, strict=True)]
    step = max(1, len(records) // _SAMPLES)
    sure = all(guess % _ALIGNMENT == 0 for guess in guesses) and guesses[::step] == list(
        map_concurrently(partial(_read_start, file), records[::step], [file])
    )
    placed = [
        replace(record, start=guess if sure else _read_start(file, record))
        for record, guess in zip(records, guesses, strict=True)
    ]
    for record in placed:
        if record.start + record.size > end or record.start <= record.header:
            raise ValueError("a record lies outside the file")
    return placed


def _guess(record: Record, stop: int) -> int:
    descriptor = (24 if max(record.size, record.header) >= _BIG else 16) if record.streamed else 0
    return stop - descriptor - record.size


def _read_start(file: DataFile, record: Record) -> int:
    block = file.read(record.header, _LOCAL.size + len(record.name))
    fields = _LOCAL.unpack_from(block)
    if fields[0] != b"PK\x03\x04" or block[_LOCAL.size :] != record.name:
        raise ValueError("a record is not where its directory says")
    return record.header + _LOCAL.size + int(fields[-2]) + int(fields[-1])
