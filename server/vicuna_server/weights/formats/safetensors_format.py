"""Reading and writing the header of a safetensors file.

Format: 8 bytes little-endian header length, a JSON object, then the tensors' bytes without holes
(https://huggingface.co/docs/safetensors/index#format). A header is data from a stranger: nothing it says is used
before it is checked, and what the format's own library refuses is refused here.
"""

import json
import struct
from collections.abc import Iterable
from math import prod
from typing import Any, NoReturn, TypeGuard

from vicuna_server.errors import InputError
from vicuna_server.files.data_file import DataFile
from vicuna_server.weights.formats.foreign_bytes import recognise
from vicuna_server.weights.tensors import DTYPE_BYTES, Tensor

__all__ = ["build_header", "header_size", "read_tensors"]

# The format allows 100 MB. The largest models need 1 MB a file; parsed, a header takes up to 20 times its size.
_MOST_HEADER_BYTES = 16 * 1024 * 1024
_MOST_DIMENSIONS = 64  # torch's own limit
_METADATA = "__metadata__"


def read_tensors(file: DataFile) -> list[Tensor]:
    """List the tensors of one file from its header alone; together they fill the file without overlap or hole.

    Raises:
        InputError: `TruncatedShard` when bytes are missing, `NotACheckpoint` when it is another kind of file or its
            header lies, `UnsupportedDtype`.
    """
    size = file.size
    length = header_size(file)
    try:
        entries = _parse(file.read(8, length - 8))
        tensors = [_tensor(file, name, entry, length) for name, entry in entries]
    except (ValueError, RecursionError) as error:
        raise InputError(
            "NotACheckpoint", f"{file} has a broken safetensors header ({_first_words(error)}); fetch it again"
        ) from error
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.nbytes))
    end = max((tensor.offset + tensor.nbytes for tensor in tensors), default=length)
    if end > size:
        raise InputError("TruncatedShard", f"{file} has {size} bytes where its header needs {end}; fetch it again")
    position = length
    for tensor in tensors:
        if tensor.offset != position:
            what = "overlaps the tensor before it" if tensor.offset < position else "leaves a hole before it"
            raise InputError("NotACheckpoint", f"{file}: {tensor.name} {what}; fetch it again")
        position += tensor.nbytes
    if end < size:
        raise InputError(
            "NotACheckpoint", f"{file} has {size - end} bytes that its header does not describe; fetch it again"
        )
    return tensors


def header_size(file: DataFile) -> int:
    """Return the bytes before the first tensor: the length field and the header.

    Raises:
        InputError: as `read_tensors`.
    """
    size = file.size
    first = file.read(0, 64)
    if len(first) < 8:
        raise InputError("TruncatedShard", f"{file} has only {size} bytes; fetch it again")
    length = int(struct.unpack("<Q", first[:8])[0])
    if first.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")):
        raise InputError("NotACheckpoint", f"{file} is a checkpoint of torch, not safetensors; name it ….bin")
    if first[8:9] not in (b"{", b""):
        what = recognise(file, "the weights") or "is not a safetensors file; fetch it again"
        raise InputError("NotACheckpoint", f"{file} {what}")
    if length > _MOST_HEADER_BYTES:
        raise InputError(
            "NotACheckpoint",
            f"{file} claims a header of {length} bytes, more than {_MOST_HEADER_BYTES}; fetch it again",
        )
    if 8 + length > size:
        raise InputError("TruncatedShard", f"{file} ends inside its header; fetch it again")
    return 8 + length


def _parse(text: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Return the header's entries as (name, table), without the metadata."""
    header = json.loads(text.decode(), object_pairs_hook=_table, parse_int=_integer, parse_constant=_refuse)
    if not isinstance(header, dict):
        raise ValueError("it is not an object")
    metadata = header.pop(_METADATA, None)
    if metadata is not None and not (isinstance(metadata, dict) and all(type(v) is str for v in metadata.values())):
        raise ValueError("its metadata is not a table of strings")
    return list(header.items())


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name occurs twice")
    for name in table:
        name.encode()  # fails for half a surrogate pair, which cannot be printed
    return table


def _integer(text: str) -> int:
    return int(text) if text != "-0" else _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _tensor(file: DataFile, name: str, entry: Any, data_start: int) -> Tensor:
    if not isinstance(entry, dict):
        raise ValueError(f"{_short(name)} is not an object")
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if type(dtype) is not str or not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"{_short(name)} lacks a valid dtype, shape or data_offsets")
    if dtype not in DTYPE_BYTES:
        raise InputError(
            "UnsupportedDtype", f"{file}: {_short(name)} is {_short(dtype)}; give the weights in float16 or float32"
        )
    start, end = offsets
    if len(shape) > _MOST_DIMENSIONS or prod(shape) * DTYPE_BYTES[dtype] != end - start:
        raise ValueError(f"{_short(name)} has a shape that does not fit its bytes")
    return Tensor(name, dtype, tuple(shape), file, data_start + start)


def _are_counts(value: Any) -> TypeGuard[list[int]]:
    """Whether it is a list of integers of 0 .. 2**63 - 1; JSON's true is none."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:100] + "…"


def _first_words(error: BaseException) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else _short(str(error).partition("\n")[0])


def build_header(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> bytes:
    """Make the header of a file that holds (name, dtype, shape) in this order, without holes."""
    entries: dict[str, object] = {_METADATA: {"format": "pt"}}
    position = 0
    for name, dtype, shape in tensors:
        nbytes = prod(shape) * DTYPE_BYTES[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + nbytes]}
        position += nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    return struct.pack("<Q", len(text)) + text
