"""Which files of a folder or repository hold the weights: judged from names and from the index, if there is one."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from vicuna_server.errors import InputError
from vicuna_server.merge.adapters.config import ADAPTER_CONFIG
from vicuna_server.merge.formats import meta_format

__all__ = ["INDEX_FILES", "pick_weights", "read_weight_map"]

# in order of preference: index file, single file, prefix and suffix of shards whose index is missing
_LAYOUTS = (
    ("model.safetensors.index.json", "model.safetensors", "model-", ".safetensors"),
    ("pytorch_model.bin.index.json", "pytorch_model.bin", "pytorch_model-", ".bin"),
)
INDEX_FILES = tuple(index for index, *_ in _LAYOUTS)
_COUNT = re.compile(r"-of-(\d+)\.\w+$")


def pick_weights(place: Path | str, names: list[str], read: Callable[[str], bytes]) -> tuple[str | None, list[str]]:
    """Choose index and weight files among a folder's file names: safetensors, else pickles, else Meta's parts.

    An index that cannot be read, where the shards' own names tell enough, is no index.

    Args:
        place: what to call the folder in messages.
        names: the files there.
        read: returns the content of one of them.

    Raises:
        InputError: `NotACheckpoint` when there are no weights or the index points elsewhere, `IsAnAdapter` when there
            are an adapter's, `TensorMissing` when a shard is not there.
    """
    present = set(names)
    for index, single, prefix, suffix in _LAYOUTS:
        series = sorted(name for name in names if name.startswith(prefix) and name.endswith(suffix))
        weight_map = None
        if index in present:
            weight_map = read_weight_map(f"{place}/{index}", read(index), required=not series and single not in present)
        if weight_map is not None:
            return index, _indexed(place, index, set(weight_map.values()), present)
        if single in present:
            return None, [single]
        if series:
            _check_count(place, series)
            return None, series
    parts = meta_format.pick_parts(place, names)
    if parts:
        return None, parts
    if ADAPTER_CONFIG in present:
        raise InputError("IsAnAdapter", f"{place} is a LoRA adapter; give it by --adapter (weights.adapters)")
    raise InputError(
        "NotACheckpoint",
        f"{place} holds no model.safetensors or pytorch_model.bin, whole or in shards, and no consolidated.00.pth with "
        f"{meta_format.PARAMS}; name a model",
    )


def read_weight_map(what: str, content: bytes, *, required: bool) -> dict[str, str] | None:
    """Return which tensor an index says lies in which file; None where it is broken but not required.

    Raises:
        InputError: `NotACheckpoint` when it names files of another folder, or is broken and required.
    """
    try:
        weight_map = dict(json.loads(content)["weight_map"])
        if not weight_map or not all(type(name) is str and name for name in weight_map.values()):
            raise ValueError("it names no files")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if not required:
            return None
        raise InputError("NotACheckpoint", f"{what} is no index of weights; fetch it again") from error
    if any("/" in name for name in weight_map.values()):
        raise InputError("NotACheckpoint", f"{what} names no files of its own folder; fetch it again")
    return weight_map


def _indexed(place: Path | str, index: str, shards: set[str], present: set[str]) -> list[str]:
    """Return the shards that an index names, and those of the same series that it forgot."""
    missing = sorted(shards - present)
    if missing:
        raise InputError(
            "TensorMissing", f"{place}: {index} names {', '.join(missing)}, which is not there; fetch it again"
        )
    series = {(shard.partition("-")[0], match[0]) for shard in shards if (match := _COUNT.search(shard))}
    forgotten = {
        name for name in present if any(name.startswith(f"{stem}-") and name.endswith(end) for stem, end in series)
    }
    return sorted(shards | forgotten)


def _check_count(place: Path | str, shards: list[str]) -> None:
    """Without an index, `-of-0000N` in the names still says how many there must be."""
    match = _COUNT.search(shards[0])
    if match and int(match[1]) != len(shards):
        raise InputError(
            "TensorMissing", f"{place} has {len(shards)} of {int(match[1])} weight files; fetch the missing ones"
        )
