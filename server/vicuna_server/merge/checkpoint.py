"""A folder of weights in any of the layouts that models are published in, read from headers alone."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vicuna_server.errors import InputError
from vicuna_server.merge import pickle_format, safetensors_format
from vicuna_server.merge.files import DataFile, LocalFile
from vicuna_server.merge.tensors import TensorSource

__all__ = ["CONFIG_FILES", "TOKENIZER_FILES", "Checkpoint", "open_checkpoint", "pick_weights"]

CONFIG_FILES = ("config.json", "generation_config.json")
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json"),
)
# in order of preference: index file, single file, prefix and suffix of shards whose index is missing
_LAYOUTS = (
    ("model.safetensors.index.json", "model.safetensors", "model-", ".safetensors"),
    ("pytorch_model.bin.index.json", "pytorch_model.bin", "pytorch_model-", ".bin"),
)
# buffers that some releases carry and others do not; every program computes them again
_IGNORED_SUFFIXES = ("rotary_emb.inv_freq",)


@dataclass(frozen=True)
class Checkpoint:
    """One source: its config, its tensors by name in the order they lie in the files, and the files themselves.

    The small files (config, index, tokenizer) lie in `folder`; the weights may lie elsewhere.
    """

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, TensorSource]
    weight_files: list[DataFile]
    small_files: list[str]

    @property
    def files(self) -> list[DataFile]:
        """All files a merge reads, sorted by name."""
        small = [LocalFile(self.folder / name) for name in self.small_files]
        return sorted([*small, *self.weight_files], key=lambda file: file.name)


def open_checkpoint(folder: Path, elsewhere: Mapping[str, DataFile] = MappingProxyType({})) -> Checkpoint:
    """Read config, index and the headers of all weight files.

    Args:
        folder: where the small files lie, and the weights too unless they are elsewhere.
        elsewhere: weight files by name that do not lie in the folder.

    Raises:
        InputError: `SourceNotFound` (no such folder), `NotACheckpoint` (no weights or no config), `TensorMissing`
            (the index names what is not there), `TruncatedShard`, `LegacyPickle`, `UnsafePickle`.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise InputError("SourceNotFound", f"{folder} {what}; name the folder that holds config.json and the weights")
    try:
        here = {path.name: LocalFile(path) for path in folder.iterdir() if path.is_file()}
    except OSError as error:
        raise InputError("SourceForbidden", f"{folder} cannot be read: {error.strerror}; check its mode") from error
    present: dict[str, DataFile] = {**elsewhere, **here}
    index_file, weight_names = pick_weights(folder, sorted(present), lambda name: (folder / name).read_bytes())
    weight_files = [present[name] for name in weight_names]
    config = _read_config(folder)
    tensors: dict[str, TensorSource] = {}
    for file in weight_files:
        read = pickle_format.read_tensors if file.name.endswith(".bin") else safetensors_format.read_tensors
        for tensor in sorted(read(file), key=lambda found: (found.offset, found.name)):
            if not tensor.name.endswith(_IGNORED_SUFFIXES):
                tensors.setdefault(tensor.name, tensor)
    if not tensors:
        raise InputError("NotACheckpoint", f"{folder} holds no tensors; name a model's folder")
    if index_file:
        _check_index(folder / index_file, tensors)
    small = {*CONFIG_FILES, *TOKENIZER_FILES, *([index_file] if index_file else [])}
    return Checkpoint(folder, config, tensors, weight_files, sorted(small & here.keys()))


def pick_weights(place: Path | str, names: list[str], read: Callable[[str], bytes]) -> tuple[str | None, list[str]]:
    """Choose index and weight files among a folder's file names; safetensors before pickles.

    Args:
        place: what to call the folder in messages.
        names: the files there.
        read: returns the content of one of them.

    Raises:
        InputError: `NotACheckpoint` when there are no weights, `TensorMissing` when a shard is not there.
    """
    present = set(names)
    for index, single, prefix, suffix in _LAYOUTS:
        if index in present:
            shards = sorted(set(_weight_map(f"{place}/{index}", read(index)).values()))
            missing = [shard for shard in shards if shard not in present]
            if missing:
                raise InputError(
                    "TensorMissing", f"{place}: {index} names {', '.join(missing)}, which is not there; fetch it again"
                )
            return index, shards
        if single in present:
            return None, [single]
        shards = sorted(name for name in names if name.startswith(prefix) and name.endswith(suffix))
        if shards:
            _check_shard_count(place, shards, suffix)
            return None, shards
    raise InputError(
        "NotACheckpoint", f"{place} holds no model.safetensors or pytorch_model.bin, whole or in shards; name a model"
    )


def _weight_map(what: str, content: bytes) -> dict[str, str]:
    try:
        weight_map = json.loads(content)["weight_map"]
        good = all(isinstance(name, str) and "/" not in name and name for name in weight_map.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("NotACheckpoint", f"{what} is no index of weights; fetch it again") from error
    if not good or not weight_map:
        raise InputError("NotACheckpoint", f"{what} names no files of its own folder; fetch it again")
    return dict(weight_map)


def _check_shard_count(place: Path | str, shards: list[str], suffix: str) -> None:
    """Without an index, `-of-0000N` in the names still says how many there must be."""
    total = shards[0].removesuffix(suffix).rpartition("-of-")[2]
    if total.isdigit() and int(total) != len(shards):
        raise InputError(
            "TensorMissing", f"{place} has {len(shards)} of {int(total)} weight files; fetch the missing ones"
        )


def _check_index(path: Path, tensors: Mapping[str, TensorSource]) -> None:
    promised = _weight_map(str(path), path.read_bytes())
    for name, shard in sorted(promised.items()):
        if name not in tensors and not name.endswith(_IGNORED_SUFFIXES):
            raise InputError("TensorMissing", f"{path} promises {name} in {shard}, which lacks it; fetch it again")


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError("NotACheckpoint", f"{folder} has no config.json; name a model's folder") from error
    except (OSError, ValueError) as error:
        raise InputError("NotACheckpoint", f"{path} cannot be read as JSON; fetch it again") from error
    if not isinstance(config, dict):
        raise InputError("NotACheckpoint", f"{path} is no JSON object; fetch it again")
    return config
