"""Finding the tensors inside a `pytorch_model*.bin` without loading them.

torch's file is a zip of stored (never compressed) records: `data.pkl` describes tensors over storages
`data/<key>`. `torch.load(weights_only=True, mmap=True)` runs that description on a memory map; where each
storage begins in the file follows from its address and is checked against the zip's directory.
"""

import pickle
import struct
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vicuna_server.errors import InputError
from vicuna_server.merge.tensors import DTYPE_BYTES, Tensor

if TYPE_CHECKING:
    import torch

__all__ = ["read_description", "read_tensors"]

_LOCAL_HEADER = 30  # bytes of a zip's local file header before name and extra field
_CODES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8",
    "bool": "BOOL",
}  # fmt: skip


def read_tensors(path: Path) -> list[Tensor]:
    """List the tensors of one pickled checkpoint file; no code of the pickle runs, no weight is read.

    Raises:
        InputError: `LegacyPickle` (torch before 1.6), `UnsafePickle` (wants to run code), `TruncatedShard`,
            `NotACheckpoint`, `UnsupportedDtype`.
    """
    offsets = _record_offsets(path)
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            "UnsafePickle",
            f"{path} holds more than tensors and could run code when loaded; give the weights as safetensors",
        ) from error
    except (RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
        raise InputError("NotACheckpoint", f"{path} cannot be read by torch; fetch it again") from error
    tensors = _tensor_items(path, state)
    return _locate(path, tensors, offsets)


def read_description(path: Path) -> bytes:
    """Return the pickled description (`data.pkl`), which names every tensor and its shape.

    Raises:
        InputError: as `read_tensors`.
    """
    with _open(path) as archive:
        for info in archive.infolist():
            if info.filename.endswith("/data.pkl"):
                return archive.read(info)
    raise InputError("NotACheckpoint", f"{path} is a zip file but no torch checkpoint")


def _open(path: Path) -> zipfile.ZipFile:
    with path.open("rb") as file:
        first = file.read(64)
    if first.startswith(b"version https://git-lfs"):
        raise InputError("NotACheckpoint", f"{path} is a git-lfs pointer, not the weights; run git lfs pull")
    if first[:1] == b"\x80":
        raise InputError(
            "LegacyPickle",
            f"{path} was written by torch before 1.6 and cannot be read in bounded memory; "
            "load and save it again with a current torch, or give the weights as safetensors",
        )
    if not first.startswith(b"PK"):
        raise InputError("NotACheckpoint", f"{path} is no torch checkpoint; fetch it again")
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError("TruncatedShard", f"{path} ends too early; fetch it again") from error


def _record_offsets(path: Path) -> list[int]:
    """Return where the storages' bytes begin in the file, from the zip's directory."""
    offsets = []
    with _open(path) as archive, path.open("rb") as file:
        for info in archive.infolist():
            if "/data/" not in info.filename or not info.file_size:
                continue
            if info.compress_type != zipfile.ZIP_STORED:
                raise InputError("NotACheckpoint", f"{path} is compressed; save it again with torch.save")
            file.seek(info.header_offset)
            header = file.read(_LOCAL_HEADER)
            name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
            offsets.append(info.header_offset + _LOCAL_HEADER + name_bytes + extra_bytes)
    return sorted(offsets)


def _tensor_items(path: Path, state: Any) -> dict[str, "torch.Tensor"]:
    import torch

    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state:
        raise InputError("NotACheckpoint", f"{path} holds no table of tensors; give a model's weights")
    strangers = [str(name) for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if strangers:
        raise InputError("NotACheckpoint", f"{path} holds something else than tensors: {strangers[0]}")
    return state


def _locate(path: Path, state: dict[str, "torch.Tensor"], offsets: list[int]) -> list[Tensor]:
    """Turn addresses in the memory map into offsets in the file, and check each against the directory."""
    storages = {tensor.untyped_storage().data_ptr() for tensor in state.values() if tensor.untyped_storage().nbytes()}
    starts = dict(zip(sorted(storages), offsets, strict=False))
    shifts = {address - offset for address, offset in starts.items()}
    if len(storages) != len(offsets) or len(shifts) > 1:
        raise InputError("NotACheckpoint", f"{path} holds more than a model's weights; save those alone")
    found = []
    for name, tensor in state.items():
        code = _CODES.get(str(tensor.dtype).removeprefix("torch."))
        if code is None:
            raise InputError("UnsupportedDtype", f"{path}: {name} is {tensor.dtype}; save it in float16 or float32")
        if not tensor.is_contiguous():
            raise InputError("NotACheckpoint", f"{path}: {name} is not stored contiguously; save it again")
        start = starts.get(tensor.untyped_storage().data_ptr(), 0)
        offset = start + tensor.storage_offset() * DTYPE_BYTES[code]
        found.append(Tensor(name, code, tuple(tensor.shape), path, int(offset)))
    return found
