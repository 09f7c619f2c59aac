"""Reading and writing the header of a safetensors file.

Format: 8 bytes little-endian header length, a JSON object, then the tensors' bytes without holes
(https://huggingface.co/docs/safetensors/index#format).
"""

import json
import struct
from collections.abc import Iterable
from typing import Any

from vicuna_server.errors import InputError
from vicuna_server.merge.files import DataFile
from vicuna_server.merge.tensors import DTYPE_BYTES, Tensor

__all__ = ["build_header", "header_size", "read_tensors"]

_MOST_HEADER_BYTES = 100_000_000  # the limit of the format's own library


def read_tensors(file: DataFile) -> list[Tensor]:
    """List the tensors of one file from its header alone.

    Raises:
        InputError: `TruncatedShard` when bytes are missing, `NotACheckpoint` when it is another kind of file.
    """
    size = file.size
    length = header_size(file)
    text = file.read(8, length - 8)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        tensors = [_tensor(file, name, entry, length) for name, entry in header.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("NotACheckpoint", f"{file} has a broken safetensors header; fetch it again") from error
    end = max((tensor.offset + tensor.nbytes for tensor in tensors), default=length)
    if end > size:
        raise InputError("TruncatedShard", f"{file} has {size} bytes where its header needs {end}; fetch it again")
    if end < size:
        raise InputError("NotACheckpoint", f"{file} has {size - end} bytes its header does not know; fetch it again")
    return tensors


def header_size(file: DataFile) -> int:
    """Return the bytes before the first tensor: the length field and the header.

    Raises:
        InputError: as `read_tensors`.
    """
    size = file.size
    first = file.read(0, 64)
    if first.startswith(b"version https://git-lfs"):
        raise InputError("NotACheckpoint", f"{file} is a git-lfs pointer, not the weights; run git lfs pull")
    if len(first) < 8:
        raise InputError("TruncatedShard", f"{file} has only {size} bytes; fetch it again")
    length = int(struct.unpack("<Q", first[:8])[0])
    if length > _MOST_HEADER_BYTES or first[8:9] not in (b"{", b""):
        raise InputError("NotACheckpoint", f"{file} is no safetensors file; fetch it again")
    if 8 + length > size:
        raise InputError("TruncatedShard", f"{file} ends inside its header; fetch it again")
    return 8 + length


def _tensor(file: DataFile, name: str, entry: dict[str, Any], data_start: int) -> Tensor:
    dtype = str(entry["dtype"])
    start, end = (int(position) for position in entry["data_offsets"])
    if dtype not in DTYPE_BYTES:
        raise InputError("UnsupportedDtype", f"{file}: {name} is {dtype}; give the weights in float16 or float32")
    tensor = Tensor(name, dtype, tuple(int(size) for size in entry["shape"]), file, data_start + start)
    if tensor.nbytes != end - start or start < 0 or min(tensor.shape, default=0) < 0:
        raise ValueError(name)
    return tensor


def build_header(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> bytes:
    """Make the header of a file that holds (name, dtype, shape) in this order, without holes."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, dtype, shape in tensors:
        nbytes = DTYPE_BYTES[dtype]
        for size in shape:
            nbytes *= size
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + nbytes]}
        position += nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    return struct.pack("<Q", len(text)) + text
