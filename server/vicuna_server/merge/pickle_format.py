"""Finding the tensors inside a `pytorch_model*.bin` without loading them.

torch's file is a zip of stored (never compressed) records: `data.pkl` describes tensors over storages
`data/<key>`. `torch.load(weights_only=True, map_location="meta")` runs that description without reading a storage
and notes where each begins; that is checked against the zip's directory.
"""

import pickle
import struct
import zipfile
from typing import TYPE_CHECKING, Any

from vicuna_server.errors import InputError
from vicuna_server.merge.files import DataFile, buffered
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


def read_tensors(file: DataFile) -> list[Tensor]:
    """List the tensors of one pickled checkpoint file; no code of the pickle runs, no weight is read.

    Raises:
        InputError: `LegacyPickle` (torch before 1.6), `UnsafePickle` (wants to run code), `TruncatedShard`,
            `NotACheckpoint`, `UnsupportedDtype`.
    """
    offsets = _record_offsets(file)
    import torch

    try:
        state = torch.load(buffered(file), map_location="meta", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            "UnsafePickle",
            f"{file} holds more than tensors and could run code when loaded; give the weights as safetensors",
        ) from error
    except (RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
        raise InputError("NotACheckpoint", f"{file} cannot be read by torch; fetch it again") from error
    tensors = _tensor_items(file, state)
    return _locate(file, tensors, offsets)


def read_description(file: DataFile) -> bytes:
    """Return the pickled description (`data.pkl`), which names every tensor and its shape.

    Raises:
        InputError: as `read_tensors`.
    """
    with _open(file) as archive:
        for info in archive.infolist():
            if info.filename.endswith("/data.pkl"):
                return archive.read(info)
    raise InputError("NotACheckpoint", f"{file} is a zip file but no torch checkpoint")


def _open(file: DataFile) -> zipfile.ZipFile:
    first = file.read(0, 64)
    if first.startswith(b"version https://git-lfs"):
        raise InputError("NotACheckpoint", f"{file} is a git-lfs pointer, not the weights; run git lfs pull")
    if first[:1] == b"\x80":
        raise InputError(
            "LegacyPickle",
            f"{file} was written by torch before 1.6 and cannot be read in bounded memory; "
            "load and save it again with a current torch, or give the weights as safetensors",
        )
    if not first.startswith(b"PK"):
        raise InputError("NotACheckpoint", f"{file} is no torch checkpoint; fetch it again")
    try:
        return zipfile.ZipFile(buffered(file))
    except zipfile.BadZipFile as error:
        raise InputError("TruncatedShard", f"{file} ends too early; fetch it again") from error


def _record_offsets(file: DataFile) -> dict[int, int]:
    """Return where each storage's bytes begin in the file and how many they are, from the zip's directory."""
    records = {}
    with _open(file) as archive:
        for info in archive.infolist():
            if "/data/" not in info.filename or not info.file_size:
                continue
            if info.compress_type != zipfile.ZIP_STORED:
                raise InputError("NotACheckpoint", f"{file} is compressed; save it again with torch.save")
            header = file.read(info.header_offset, _LOCAL_HEADER)
            name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
            records[info.header_offset + _LOCAL_HEADER + name_bytes + extra_bytes] = info.file_size
    return records


def _tensor_items(file: DataFile, state: Any) -> dict[str, "torch.Tensor"]:
    import torch

    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state:
        raise InputError("NotACheckpoint", f"{file} holds no table of tensors; give a model's weights")
    strangers = [str(name) for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if strangers:
        raise InputError("NotACheckpoint", f"{file} holds something else than tensors: {strangers[0]}")
    return state


def _locate(file: DataFile, state: dict[str, "torch.Tensor"], records: dict[int, int]) -> list[Tensor]:
    """Place each tensor in the file, inside the record that torch says holds its storage."""
    found = []
    for name, tensor in state.items():
        code = _CODES.get(str(tensor.dtype).removeprefix("torch."))
        if code is None:
            raise InputError("UnsupportedDtype", f"{file}: {name} is {tensor.dtype}; save it in float16 or float32")
        if not tensor.is_contiguous():
            raise InputError("NotACheckpoint", f"{file}: {name} is not stored contiguously; save it again")
        if not tensor.numel():
            found.append(Tensor(name, code, tuple(tensor.shape), file, 0))
            continue
        start = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
        inside = int(tensor.storage_offset()) * DTYPE_BYTES[code]
        place = Tensor(name, code, tuple(tensor.shape), file, int(start or 0) + inside)
        if start not in records or inside + place.nbytes > records[start]:
            raise InputError("NotACheckpoint", f"{file}: {name} lies outside its record; fetch it again")
        found.append(place)
    return found
