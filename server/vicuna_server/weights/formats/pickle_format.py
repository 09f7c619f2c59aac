"""Finding the tensors inside a `pytorch_model*.bin` or `consolidated.*.pth` without loading or running them.

torch's file is a zip of stored (never compressed) records under one folder: `data.pkl` describes tensors over
storages `data/<key>` (torch/serialization.py, torch/csrc/jit/serialization/pickler.h).
"""

from typing import Any

from vicuna_server.errors import InputError
from vicuna_server.files.data_file import DataFile
from vicuna_server.weights.formats.foreign_bytes import recognise
from vicuna_server.weights.formats.pickle_machine import ForeignTensorError, StoredTensor, UnsafeError, describe
from vicuna_server.weights.formats.zip_directory import Record, read_directory
from vicuna_server.weights.tensors import DTYPE_BYTES, Tensor

__all__ = ["read_description", "read_tensors"]

_MOST_DESCRIPTION_BYTES = 16 * 1024 * 1024  # a 70B model in one file needs 0.2 MB
_CONVERT = (  # weights_only here too: the old format can run code as well
    "import sys, torch; state = torch.load(sys.argv[1], map_location='cpu', weights_only=True); "
    "torch.save(state, sys.argv[1] + '.new')"
)


def read_tensors(file: DataFile) -> list[Tensor]:
    """List the tensors of one pickled checkpoint file; no code of the pickle runs, no weight is read.

    Raises:
        InputError: `LegacyPickle` (torch before 1.6), `UnsafePickle` (wants to run code), `TruncatedShard`,
            `NotACheckpoint`.
    """
    records = _open(file)
    if records.get("byteorder") and _content(file, records["byteorder"]) != b"little":
        raise InputError(
            "NotACheckpoint", f"{file} was written on a big-endian machine; save it again on a little-endian one"
        )
    try:
        content = describe(_content(file, records["data.pkl"]))
        return [_locate(file, name, tensor, records) for name, tensor in _tensor_items(file, content)]
    except UnsafeError as error:
        raise InputError(
            "UnsafePickle",
            f"{file} holds more than tensors ({_short(error)}) and could run code when loaded; "
            "give the weights as safetensors",
        ) from error
    except ForeignTensorError as error:
        raise InputError(
            "NotACheckpoint", f"{file} holds sparse, quantised or wrapped tensors ({_short(error)}); save plain ones"
        ) from error
    except ValueError as error:
        raise InputError("NotACheckpoint", f"{file} is broken: {_short(error)}; fetch it again") from error


def read_description(file: DataFile) -> bytes:
    """Return the pickled description (`data.pkl`), which names every tensor and its shape.

    Raises:
        InputError: as `read_tensors`.
    """
    return _content(file, _open(file)["data.pkl"])


def _open(file: DataFile) -> dict[str, Record]:
    """Return the archive's records by their names below its folder."""
    _require_zip(file)
    every = read_directory(file)
    folders = [record.name.removesuffix(b"data.pkl") for record in every if record.name.endswith(b"/data.pkl")]
    if len(folders) != 1 or folders[0].count(b"/") != 1:
        raise InputError("NotACheckpoint", f"{file} is a zip file but no torch checkpoint; give the model's weights")
    folder = folders[0]
    records = {
        record.name.removeprefix(folder).decode(errors="replace"): record
        for record in every
        if record.name.startswith(folder)
    }
    if "constants.pkl" in records:
        raise InputError("NotACheckpoint", f"{file} is a TorchScript program; give the model's weights")
    return records


def _require_zip(file: DataFile) -> None:
    first = file.read(0, 64)
    if first[:1] == b"\x80":
        raise InputError(
            "LegacyPickle",
            f"{file} was written by torch before 1.6; convert it in its folder: "
            f'python -c "{_CONVERT}" {file.name} && mv {file.name}.new {file.name}',
        )
    if first[8:10] == b'{"':
        raise InputError("NotACheckpoint", f"{file} is a safetensors file; name it model.safetensors")
    if not first.startswith(b"PK"):
        what = recognise(file, "the weights") or "is not a checkpoint of torch; fetch it again"
        raise InputError("NotACheckpoint", f"{file} {what}")


def _content(file: DataFile, record: Record) -> bytes:
    if record.size > _MOST_DESCRIPTION_BYTES:
        raise InputError(
            "NotACheckpoint",
            f"{file} describes its tensors in {record.size} bytes, more than {_MOST_DESCRIPTION_BYTES}; "
            "give the weights as safetensors",
        )
    _require_stored(file, record)
    return file.read(record.start, record.size)


def _require_stored(file: DataFile, record: Record) -> None:
    if not record.stored:
        raise InputError("NotACheckpoint", f"{file} is compressed; save it again with torch.save")


def _tensor_items(file: DataFile, state: Any) -> list[tuple[str, StoredTensor]]:
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise ValueError("it is not a table of tensors")
    if not state:
        raise InputError(
            "NotACheckpoint",
            f"{file} was saved empty, as under DeepSpeed ZeRO-3 without gathering the weights or with a replaced "
            "state_dict; fetching it again does not help: save it again",
        )
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, StoredTensor):
            raise ValueError(f"{name!r} in it is something else than a tensor")
        name.encode()  # fails for half a surrogate pair, which cannot be printed
    return list(state.items())


def _locate(file: DataFile, name: str, tensor: StoredTensor, records: dict[str, Record]) -> Tensor:
    """Place a tensor in the file, inside the record that holds its storage."""
    if not _is_contiguous(tensor):
        raise InputError("NotACheckpoint", f"{file}: {name} is not stored contiguously; save it again")
    width = DTYPE_BYTES[tensor.dtype]
    if not tensor.elements:
        return Tensor(name, tensor.dtype, tensor.shape, file, 0)
    record = records.get(f"data/{tensor.storage.key}")
    if record is None or (tensor.offset + tensor.elements) * width > record.size:
        raise InputError("NotACheckpoint", f"{file}: {name} lies outside its record; fetch it again")
    _require_stored(file, record)
    return Tensor(name, tensor.dtype, tensor.shape, file, record.start + tensor.offset * width)


def _is_contiguous(tensor: StoredTensor) -> bool:
    expected = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.strides), strict=True):
        if size != 1:
            if stride != expected and tensor.elements:
                return False
            expected *= size
    return True


def _short(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= 100 else text[:100] + "…"
