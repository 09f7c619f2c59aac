"""A folder of weights in any of the layouts that models are published in, read from headers alone."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vicuna_server.errors import InputError
from vicuna_server.files.beneath import is_file
from vicuna_server.files.data_file import DataFile, LocalFile, map_concurrently
from vicuna_server.prompts import KEPT_TEMPLATE
from vicuna_server.weights.formats import meta_format, pickle_format, safetensors_format
from vicuna_server.weights.formats.computed import is_computed
from vicuna_server.weights.formats.foreign_names import FolderContent, broken_link, look_into
from vicuna_server.weights.formats.small_file import most_bytes, read_object
from vicuna_server.weights.formats.weight_files import INDEX_FILES, Pick, pick_weights, read_weight_map
from vicuna_server.weights.samples import alike
from vicuna_server.weights.tensors import Tensor, TensorSource

__all__ = ["CONFIG_FILES", "TOKENIZER_FILES", "Checkpoint", "open_checkpoint"]

CONFIG_FILES = ("config.json", "generation_config.json", meta_format.PARAMS)
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json"),
    KEPT_TEMPLATE,
)
_MOST_NAMED = 3


@dataclass(frozen=True)
class Checkpoint:
    """One source: its config, its tensors by name in the order they lie in the files, and the files themselves.

    The small files (config, index, tokenizer) lie in `folder`; the weights may lie elsewhere.

    Attributes:
        folder: where the small files lie.
        config: config.json's content; made from params.json for Meta's layout.
        tensors: by name.
        weight_files: what holds them.
        small_files: names in `folder` of what else a merge reads.
        warnings: (reason, sentence) of what is odd but repaired.
        tokenizer_folder: where the tokenizer's files lie, if not in `folder`.
    """

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, TensorSource]
    weight_files: list[DataFile]
    small_files: list[str]
    warnings: tuple[tuple[str, str], ...] = ()
    tokenizer_folder: Path | None = None

    @property
    def files(self) -> list[DataFile]:
        """All files a merge reads, sorted by name."""
        small = [self.folder / name for name in self.small_files]
        if self.tokenizer_folder is not None:
            small += [path for name in TOKENIZER_FILES if is_file(path := self.tokenizer_folder / name)]
        return sorted([*map(LocalFile, small), *self.weight_files], key=lambda file: file.name)

    def read_generation_config(self) -> dict[str, Any] | None:
        """Return generation_config.json's content; None where there is none.

        Raises:
            InputError: `NotACheckpoint` where it is something else.
        """
        try:
            return read_object(self.folder / "generation_config.json", "NotACheckpoint", "a configuration")
        except FileNotFoundError:
            return None


def open_checkpoint(folder: Path, elsewhere: Mapping[str, DataFile] = MappingProxyType({})) -> Checkpoint:
    """Read config, index and the headers of all weight files.

    Args:
        folder: where the small files lie, and the weights too unless they are elsewhere.
        elsewhere: weight files by name that do not lie in the folder.

    Raises:
        InputError: `SourceNotFound` (no such folder), `NotACheckpoint` (no weights or no config), `TensorMissing`
            (the index names what is not there), `DuplicateTensor`, `TruncatedShard`, `LegacyPickle`, `UnsafePickle`,
            and what `meta_format` raises.
    """
    content = look_into(folder, "config.json and the weights")
    here = {name: LocalFile(folder / name) for name in content.files}
    present: dict[str, DataFile] = {**elsewhere, **here}
    everything = replace(content, files=frozenset(present))
    pick = pick_weights(folder, everything, lambda name: _read_index(folder / name))
    files = [present[name] for name in pick.files]
    _look_ahead(files)
    if pick.files[0].endswith(".pth"):
        return _open_meta(folder, files, _small_files(pick, here, unread="config.json"))
    config = _read_config(folder, content)
    model_type = config.get("model_type")
    found = _gather(files, model_type)
    if not found:
        raise InputError(
            "NotACheckpoint",
            f"{folder}: {_named(pick)} holds no tensors: it was saved empty; save the model again",
        )
    warnings = (
        _check_index(folder / pick.index, found, model_type) if pick.index else _broken_indexes(folder, pick, here)
    )
    warnings += [
        ("IndexIgnored", f"{folder / name} names files that are not there; {_named(pick)} is used")
        for name in pick.stale
    ]
    small = _small_files(pick, here, unread=meta_format.PARAMS)
    return Checkpoint(folder, config, {**found}, files, small, tuple(warnings))


def _open_meta(folder: Path, files: list[DataFile], small: list[str]) -> Checkpoint:
    """Read Meta's layout, whose parts are put together into transformers' tensors."""
    params = meta_format.read_params(folder / meta_format.PARAMS)
    parts = [(file, pickle_format.read_tensors(file)) for file in files]
    config, tensors = meta_format.to_transformers(params, parts)
    return Checkpoint(folder, config, tensors, files, small, (), _tokenizer_above(folder))


def _small_files(pick: Pick, here: Collection[str], *, unread: str) -> list[str]:
    """Return what a merge reads beside the weights; `unread` is the configuration of the other layout."""
    index = [pick.index] if pick.index else []
    return sorted(({*CONFIG_FILES, *TOKENIZER_FILES, *index} - {unread}).intersection(here))


def _broken_indexes(folder: Path, pick: Pick, here: Collection[str]) -> list[tuple[str, str]]:
    """Warn of indexes of the files' own format: one would have been used if it were sound."""
    suffix = Path(pick.files[0]).suffix
    broken = [name for name in INDEX_FILES if name in here and suffix in name and name not in pick.stale]
    return [("IndexIgnored", f"{folder / name} is not an index of weights; it is ignored") for name in broken]


def _named(pick: Pick) -> str:
    return ", ".join(pick.files[:_MOST_NAMED])


def _look_ahead(files: list[DataFile]) -> None:
    """Read where headers begin and directories end of what lies elsewhere: it keeps what it read last for a while."""
    elsewhere = [file for file in files if not isinstance(file, LocalFile)]
    for _ in map_concurrently(lambda file: (file.read(0, 1), file.read(file.size - 1, 1)), elsewhere, elsewhere):
        pass


def _gather(files: list[DataFile], model_type: object) -> dict[str, Tensor]:
    """Return the tensors of all files; where two hold the same one, that of the first.

    Raises:
        InputError: `DuplicateTensor` when they differ.
    """
    tensors: dict[str, Tensor] = {}
    for file in files:
        read = pickle_format.read_tensors if file.name.endswith(".bin") else safetensors_format.read_tensors
        for tensor in sorted(read(file), key=lambda one: (one.offset, one.name)):
            if is_computed(tensor.name, model_type):
                continue
            other = tensors.setdefault(tensor.name, tensor)
            if other is not tensor and not alike(other, tensor):
                raise InputError(
                    "DuplicateTensor",
                    f"{tensor.name} lies in {other.file} and, with other values, in {file}; remove one of the files",
                )
    return tensors


def _check_index(path: Path, tensors: Mapping[str, Tensor], model_type: object) -> list[tuple[str, str]]:
    """Compare an index with what the headers say, which counts; return warnings.

    Raises:
        InputError: `TensorMissing` when no file holds what the index names.
    """
    promised = read_weight_map(str(path), _read_index(path), required=True) or {}
    for name, shard in sorted(promised.items()):
        if name not in tensors and not is_computed(name, model_type):
            raise InputError(
                "TensorMissing", f"{path} says that {name} is in {shard}, which lacks it; fetch both again"
            )
    wrong = [name for name, tensor in tensors.items() if promised.get(name) != tensor.file.name]
    if not wrong:
        return []
    shown = ", ".join(wrong[:_MOST_NAMED]) + (f" and {len(wrong) - _MOST_NAMED} more" if wrong[_MOST_NAMED:] else "")
    return [("IndexIgnored", f"{path} is wrong about {shown}; what the weight files say is used")]


def _read_index(path: Path) -> bytes:
    """Return an index; nothing where it is too large to be one."""
    most = most_bytes(path.name)
    content = LocalFile(path).read(0, most + 1)
    return content if len(content) <= most else b""


def _tokenizer_above(folder: Path) -> Path | None:
    """Return the folder above where the tokenizer lies there, as in Meta's releases of several sizes."""
    above = folder.absolute().parent
    here = is_file(folder / "tokenizer.model") or is_file(folder / "tokenizer.json")
    return above if not here and is_file(above / "tokenizer.model") else None


def _read_config(folder: Path, content: FolderContent) -> dict[str, Any]:
    path = folder / "config.json"
    link = broken_link(content, [path.name])
    if link:
        raise InputError("NotACheckpoint", f"{folder}: {link}")
    try:
        return read_object(path, "NotACheckpoint", "a model's configuration")
    except FileNotFoundError as error:
        raise InputError("NotACheckpoint", f"{folder} has no config.json; name a model's folder") from error
