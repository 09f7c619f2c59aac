"""Which files of a folder or repository hold the weights: judged from names and from the index, if there is one."""

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from vicuna_server.errors import InputError
from vicuna_server.weights.formats import meta_format
from vicuna_server.weights.formats.foreign_bytes import recognise_start
from vicuna_server.weights.formats.foreign_names import FolderContent, broken_link, what_is_there

__all__ = ["ADAPTER_CONFIG", "INDEX_FILES", "Pick", "pick_weights", "read_weight_map"]

# in order of preference: index file, single file, prefix and suffix of shards whose index is missing
_LAYOUTS = (
    ("model.safetensors.index.json", "model.safetensors", "model-", ".safetensors"),
    ("pytorch_model.bin.index.json", "pytorch_model.bin", "pytorch_model-", ".bin"),
)
ADAPTER_CONFIG = "adapter_config.json"  # beside it lie an adapter's weights, not a model's
INDEX_FILES = tuple(index for index, *_ in _LAYOUTS)
_COUNT = re.compile(r"-of-(\d+)\.\w+$")
_PLACE = re.compile(r"-(\d{1,6})-of-(\d{1,6})")
_MOST_NAMED = 3


@dataclass(frozen=True)
class Pick:
    """The weights of a folder.

    Attributes:
        index: the index that tells where tensors lie, if there is one.
        files: names of the files that hold them.
        stale: indexes none of whose files are there.
    """

    index: str | None
    files: list[str]
    stale: tuple[str, ...] = ()


def pick_weights(place: Path | str, content: FolderContent, read: Callable[[str], bytes]) -> Pick:
    """Choose index and weight files among a folder's file names: safetensors, else pickles, else Meta's parts.

    An index that cannot be read is ignored where the shards' own names say enough. An index none of whose files are
    there was left by a download or an earlier save: other weights that are whole count.

    Args:
        place: what to call the folder in messages.
        content: what lies there.
        read: returns the content of one of its files.

    Raises:
        InputError: `NotACheckpoint` when there are no weights or the index points elsewhere, `IsAnAdapter` when there
            are an adapter's, `TensorMissing` when a shard is not there.
    """
    stale: dict[str, InputError] = {}
    for layout in _LAYOUTS:
        pick = _pick_layout(place, content, layout, read, stale)
        if pick is not None:
            return pick
    parts = meta_format.pick_parts(place, sorted(content.files))
    if parts:
        return Pick(None, parts, tuple(stale))
    for missing in stale.values():
        raise missing
    if ADAPTER_CONFIG in content.files:
        raise InputError("IsAnAdapter", f"{place} is a LoRA adapter; give it by --adapter (weights.adapters)")
    raise InputError(
        "NotACheckpoint",
        f"{place} holds no model.safetensors or pytorch_model.bin, whole or in shards, and no consolidated.00.pth with "
        f"{meta_format.PARAMS}: {what_is_there(place, content)}",
    )


def _pick_layout(
    place: Path | str,
    content: FolderContent,
    layout: tuple[str, str, str, str],
    read: Callable[[str], bytes],
    stale: dict[str, InputError],
) -> Pick | None:
    """Choose among the files of one layout; None where there are none. Indexes without files are added to `stale`."""
    index, single, prefix, suffix = layout
    series = sorted(name for name in content.files if name.startswith(prefix) and name.endswith(suffix))
    if index in content.files:
        required = not series and single not in content.files
        weight_map = read_weight_map(f"{place}/{index}", read(index), required=required) or {}
        shards = _shards(place, index, set(weight_map.values()), content, stale)
        if shards:
            return Pick(index, _with_forgotten(shards, content.files), tuple(stale))
    if single in content.files:
        return Pick(None, [single], tuple(stale))
    if series:
        _check_series(place, series, content)
        return Pick(None, series, tuple(stale))
    return None


def _shards(
    place: Path | str, index: str, named: set[str], content: FolderContent, stale: dict[str, InputError]
) -> set[str]:
    """Return the files that an index names, all of which are there; none where none is: such an index is stale.

    Raises:
        InputError: `TensorMissing` where some of them are there and others are not.
    """
    if named <= content.files:
        return named
    missing = _missing(place, index, named, content)
    if named & content.files:
        raise missing
    stale[index] = missing
    return set()


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
        instead = recognise_start(content[:512], "an index of weights")
        raise InputError(
            "NotACheckpoint", f"{what} {instead or 'is not an index of weights; fetch it again'}"
        ) from error
    if any("/" in name for name in weight_map.values()):
        raise InputError("NotACheckpoint", f"{what} names files outside its own folder; fetch it again")
    return weight_map


def _missing(place: Path | str, index: str, shards: set[str], content: FolderContent) -> InputError:
    """Say which of the shards that an index names are not there."""
    missing = sorted(shards - content.files)
    link = broken_link(content, missing)
    names = ", ".join(missing[:_MOST_NAMED]) + (
        f" and {len(missing) - _MOST_NAMED} more" * (len(missing) > _MOST_NAMED)
    )
    why = f"files that are not there: {link}" if link else f"{names}, which is not there; fetch it again"
    return InputError("TensorMissing", f"{place}: {index} names {why}")


def _with_forgotten(shards: set[str], present: Collection[str]) -> list[str]:
    """Return the shards that an index names, and those of the same series that it forgot."""
    series = {(shard.partition("-")[0], match[0]) for shard in shards if (match := _COUNT.search(shard))}
    forgotten = {
        name for name in present if any(name.startswith(f"{stem}-") and name.endswith(end) for stem, end in series)
    }
    return sorted(shards | forgotten)


def _check_series(place: Path | str, shards: list[str], content: FolderContent) -> None:
    """Without an index, `-0000M-of-0000N` in the names still says how many there must be, and of how many saves.

    Raises:
        InputError: `TensorMissing` where one is not there, `DuplicateTensor` where there are two series.
    """
    series: dict[int, set[int]] = {}
    for match in filter(None, map(_PLACE.search, shards)):
        series.setdefault(int(match[2]), set()).add(int(match[1]))
    counts = [f"{len(numbers)} of {total} (…-of-{total:05})" for total, numbers in sorted(series.items())]
    if counts[1:]:
        raise InputError(
            "DuplicateTensor",
            f"{place} holds shards of {len(counts)} saves, {' and '.join(counts)}, and no index that tells which one "
            "counts; remove the files of the others",
        )
    for total, numbers in series.items():
        if len(numbers) < total:
            stem = shards[0][: shards[0].index("-")]
            end = Path(shards[0]).suffix
            gone = [f"{stem}-{number:05}-of-{total:05}{end}" for number in range(1, total + 1) if number not in numbers]
            link = broken_link(content, gone)
            rest = f" and {len(gone) - _MOST_NAMED} more" if len(gone) > _MOST_NAMED else ""
            raise InputError(
                "TensorMissing",
                f"{place} has {len(numbers)} of {total} weight files; "
                + (link or f"fetch the missing ones: {', '.join(gone[:_MOST_NAMED])}{rest}"),
            )
