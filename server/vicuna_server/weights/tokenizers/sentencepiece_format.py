"""Reading a sentencepiece model (`tokenizer.model`): its pieces, and how it was told to treat text.

The file is one Protocol Buffers message (sentencepiece, src/sentencepiece_model.proto). Only the few fields that
decide about token ids are read, so that neither protobuf nor sentencepiece is needed.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

__all__ = ["Piece", "PieceType", "SentencePieceModel", "is_sentencepiece", "parse_model"]

# the limit that a merge's memory allows; the largest published vocabularies have 262 208 pieces in 5 MB
_MOST_BYTES = 8 * 1024 * 1024
_MOST_PIECES = 2**19
_MOST_PIECE_BYTES = 1024  # sentencepiece trains pieces of 16 characters
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_BPE = 2  # TrainerSpec.ModelType
_TIKTOKEN = re.compile(rb"[A-Za-z0-9+/=]+ \d+\r?\n")  # a line of LLaMA 3's own tokenizer.model


class PieceType(IntEnum):
    """ModelProto.SentencePiece.Type."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """One token; its id is its place in the list."""

    text: str
    score: float
    type: PieceType


@dataclass(frozen=True)
class SentencePieceModel:
    """What decides about token ids.

    Attributes:
        pieces: by id.
        is_bpe: whether pieces are merged by score, as LLaMA's are.
        byte_fallback: whether unknown characters become byte pieces.
        dummy_prefix: whether a space is put in front of every text.
        keeps_text: whether all other spaces and characters stay as they are.
    """

    pieces: tuple[Piece, ...]
    is_bpe: bool
    byte_fallback: bool
    dummy_prefix: bool
    keeps_text: bool


def parse_model(content: bytes) -> SentencePieceModel:
    """Read a model.

    Raises:
        ValueError: it is none, with what is wrong.
    """
    if len(content) > _MOST_BYTES:
        raise ValueError(f"it has {len(content)} bytes, more than {_MOST_BYTES}")
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    try:
        for number, value in _fields(content):
            if number == 1:
                pieces.append(_piece(dict(_fields(_message(value))), len(pieces)))
            elif number == 2:
                trainer = dict(_fields(_message(value)))
            elif number == 3:
                normalizer = dict(_fields(_message(value)))
    except (IndexError, TypeError, struct.error) as error:
        raise ValueError("it is not a sentencepiece model") from error
    if not pieces:
        raise ValueError("it has no pieces")
    return SentencePieceModel(
        tuple(pieces),
        is_bpe=trainer.get(3, 1) == _BPE,
        byte_fallback=bool(trainer.get(35, 0)),
        dummy_prefix=bool(normalizer.get(3, 1)),
        keeps_text=not normalizer.get(2) and not normalizer.get(4, 1) and bool(normalizer.get(5, 1)),
    )


def _piece(fields: dict[int, int | bytes], number: int) -> Piece:
    if number == _MOST_PIECES:
        raise ValueError(f"it has more than {_MOST_PIECES} pieces")
    text = _message(fields[1]) if 1 in fields else b""
    if len(text) > _MOST_PIECE_BYTES:
        raise ValueError(f"it has a piece of {len(text)} bytes, more than {_MOST_PIECE_BYTES}")
    (score,) = struct.unpack("<f", _message(fields.get(2, bytes(4))))
    kind = fields.get(3, PieceType.NORMAL)
    return Piece(text.decode(), score, PieceType(kind if isinstance(kind, int) else -1))


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError("a number where bytes should be")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of a message: numbers for varints, bytes for the rest."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        wire = key & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            length, position = _varint(data, position)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise TypeError("an unknown kind of field")
        if position + length > len(data):
            raise IndexError("the end comes too early")
        yield key >> 3, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, the lowest first, and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise TypeError("a number without end")


def is_sentencepiece(content: bytes) -> bool:
    """Whether a tokenizer.model is whole: fields of sentencepiece's message from end to end, or tiktoken's lines."""
    if _TIKTOKEN.match(content):
        return True
    try:
        pieces = 0
        for number, _ in _fields(content):
            pieces += number == 1
        return pieces > 0
    except (IndexError, TypeError, struct.error):
        return False
