"""What was read of a file, in whatever order, comes again in the one reading that is hashed, or is told."""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from vicuna_server.errors import InputError
from vicuna_server.files import beneath, ledger
from vicuna_server.files.data_file import LocalFile
from vicuna_server.files.ledger import Ledger, Record, keeping, record_of

CONTENT = random.Random(1).randbytes(10_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def take(record: Record, start: int, stop: int, content: bytes = CONTENT, cut: int = 7) -> None:
    view = memoryview(content)[start:stop]
    record.take(start, [view[:cut], view[cut:]], lambda offset, size: content[offset : offset + size])


def note(record: Record, start: int, stop: int, content: bytes = CONTENT) -> None:
    record.note(start, [content[start:stop]])


def finish(record: Record, content: bytes = CONTENT, block: int = 999) -> str:
    view, start = memoryview(content), record.next_offset
    return record.finish(view[place : place + block] for place in range(start, len(content), block))


def forward(record: Record) -> None:
    note(record, 0, 100)
    note(record, 50, 3000)
    note(record, 9990, 10_000)
    for place in range(100, 9000, 1000):
        take(record, place, place + 900)


def backward(record: Record) -> None:
    for place in range(9000, -1, -1000):
        take(record, place, place + 1000)


def passed(record: Record) -> None:
    take(record, 0, 9000)
    note(record, 0, 100)
    note(record, 500, 9500)


def repeated(record: Record) -> None:
    for _ in range(3):
        note(record, 400, 800)
        take(record, 0, 1000)


ORDERS = (forward, backward, passed, repeated, lambda _: None)


@pytest.mark.parametrize("order", ORDERS)
def test_the_hash_is_the_files_in_whatever_order_it_was_read(order: Callable[[Record], None]) -> None:
    record = Record(Path("x"))
    order(record)
    assert finish(record) == SHA256


def test_what_goes_forward_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_READ_BYTES", 30)
    record = Record(Path("x"))
    forward(record)
    assert finish(record) == SHA256
    record = Record(Path("x"))
    forward(record)
    assert (record.next_offset, record.bytes_again) == (9000, 0)


def test_what_went_elsewhere_is_counted_as_to_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_MOST_GAP_BYTES", 1000)
    record = Record(Path("x"))
    take(record, 5000, 6000)
    take(record, 1000, 2000)
    assert (record.next_offset, record.bytes_again) == (2000, 1000)
    take(record, 0, 500)
    assert (record.next_offset, record.bytes_again) == (0, 1500)
    assert finish(record) == SHA256


@pytest.mark.parametrize("order", ORDERS)
def test_one_other_byte_in_what_is_still_to_be_read_is_told(order: Callable[[Record], None]) -> None:
    for place in (0, 60, 450, 5555, 9_995):
        other = CONTENT[:place] + bytes([CONTENT[place] ^ 1]) + CONTENT[place + 1 :]
        record = Record(Path("x"))
        order(record)
        right = place < record.next_offset  # what was read and hashed was right, whatever lies there now
        try:
            assert (finish(record, other) == SHA256) == right
        except InputError:
            assert not right


@pytest.mark.parametrize("first", [True, False])
def test_a_stretch_that_was_read_twice_and_differed_is_told(first: bool) -> None:
    record = Record(Path("x"))
    other = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    note(record, 0, 100, other if first else CONTENT)
    note(record, 0, 100, CONTENT if first else other)
    with pytest.raises(InputError, match="x was changed while it was merged"):
        finish(record)


def test_what_cannot_be_read_between_two_reads_is_told() -> None:
    record = Record(Path("x"))
    with pytest.raises(InputError, match="x was changed while it was merged"):
        record.take(100, [memoryview(CONTENT)[100:200]], lambda offset, size: CONTENT[offset : offset + size - 1])


def test_it_is_told_as_soon_as_the_merge_reads_over_it() -> None:
    record = Record(Path("x"))
    note(record, 0, 100, bytes(100))
    with pytest.raises(InputError, match="x was changed while it was merged"):
        take(record, 0, 1000)


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"1"])
def test_another_length_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    for look in (
        lambda: LocalFile(path).size,
        lambda: LocalFile(path).read(9_990, 100),
        lambda: beneath.read_file(path),
    ):
        path.write_bytes(content)
        with keeping(Ledger(lambda _: True)):
            look()
            record = record_of(path)
            assert record is not None
            with pytest.raises(InputError, match="was changed"):
                finish(record)


def test_files_are_noted_only_of_what_a_ledger_covers_while_it_is_kept(tmp_path: Path) -> None:
    kept = Ledger(lambda path: path.name == "x")
    for name in ("x", "y"):
        (tmp_path / name).write_bytes(CONTENT)
        LocalFile(tmp_path / name).read(0, 10)
    with keeping(kept):
        assert not kept.records
        for name in ("x", "y"):
            LocalFile(tmp_path / name).read(0, 10)
        assert not beneath.is_file(tmp_path / "z" / "x")
    (read, missed) = (kept.records[tmp_path / "x"], kept.records[tmp_path / "z" / "x"])
    assert len(kept.records) == 2
    assert (read.was_read, read.was_missed, missed.was_read, missed.was_missed) == (True, False, False, True)
