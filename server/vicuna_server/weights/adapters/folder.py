"""An adapter's folder: its configuration, and which of its tensors do what to which of the model's."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vicuna_server.errors import InputError
from vicuna_server.files.data_file import DataFile, LocalFile
from vicuna_server.weights.adapters.companions import Companions, companions_among
from vicuna_server.weights.adapters.config import ADVICE, AdapterConfig, read_adapter_config
from vicuna_server.weights.adapters.low_rank import LowRank
from vicuna_server.weights.checkpoint import TOKENIZER_FILES
from vicuna_server.weights.formats import pickle_format, safetensors_format
from vicuna_server.weights.formats.foreign_names import FolderContent, broken_link, look_into, what_is_there
from vicuna_server.weights.formats.weight_files import ADAPTER_CONFIG
from vicuna_server.weights.samples import alike
from vicuna_server.weights.tensors import FLOAT_DTYPES, Tensor, TensorSource

__all__ = ["ADAPTER_WEIGHTS", "Adapter", "open_adapter"]

_WEIGHTS = {  # in order of preference
    "adapter_model.safetensors": safetensors_format.read_tensors,
    "adapter_model.bin": pickle_format.read_tensors,
}
ADAPTER_WEIGHTS = tuple(_WEIGHTS)
_PREFIX = "base_model.model."  # of every name, in files that peft itself wrote
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.default)?(?P<end>\.weight)?")
_VARIANT = re.compile(r"(^|\.)(lora_|token_adapter|trainable_tokens)")  # DoRA's magnitudes, biases of B, single tokens
# names that peft gives to a layer that it wraps; `original_module` is a copy of the base's
_WRAPPERS = re.compile(r"\.(base_layer|modules_to_save(\.default)?)(?=\.)")
_UNTOUCHED = ".original_module."
_SAVED_EMPTY = (
    "was saved empty, as under DeepSpeed ZeRO-3 without gathering the weights or with a state_dict that was replaced; "
    "fetching it again does not help: save the adapter again with peft's save_pretrained"
)
_STRANGE = (
    "beside the adapter's weights, which may be part of what was trained and cannot be merged here; merge them by the "
    "program that wrote them and give the result as base, or remove what does not belong to the adapter"
)
_MOST_NAMED = 3
_MOST_FACTOR_BYTES = 64 * 1024 * 1024  # of A as float32, which is held at once


@dataclass(frozen=True)
class Adapter:
    """One adapter; its tensors by the name of the model's tensor that they change or replace.

    Attributes:
        folder: where it lies.
        config: what adapter_config.json says.
        changes: low-rank updates.
        replacements: whole tensors.
        weight_files: the files that hold them, the adapter's own first.
        small_files: names in `folder` of what else a merge reads.
        warnings: (reason, sentence) of what is odd.
    """

    folder: Path
    config: AdapterConfig
    changes: dict[str, LowRank]
    replacements: dict[str, Tensor]
    weight_files: list[DataFile]
    small_files: list[str]
    warnings: tuple[tuple[str, str], ...] = field(default=())

    @property
    def files(self) -> list[DataFile]:
        """All files a merge reads, sorted by name."""
        small = [LocalFile(self.folder / name) for name in self.small_files]
        return sorted([*small, *self.weight_files], key=lambda file: file.name)

    @property
    def tensors(self) -> list[TensorSource]:
        """All tensors that count."""
        factors = [factor for change in self.changes.values() for factor in (change.down, change.up)]
        return [*factors, *self.replacements.values()]

    @property
    def has_tokenizer(self) -> bool:
        """Whether it brings a tokenizer of its own."""
        here = set(self.small_files)
        return bool(here & {"tokenizer.json", "tokenizer.model"}) or {"vocab.json", "merges.txt"} <= here


def open_adapter(folder: Path, elsewhere: Collection[str] = ()) -> Adapter:
    """Read an adapter's configuration and the headers of its weights.

    Args:
        folder: where it lies.
        elsewhere: names of files of the same source that do not lie in the folder.

    Raises:
        InputError: `SourceNotFound`, `SourceForbidden`, `NotAnAdapter`, `UnsupportedAdapter`, `DuplicateTensor`, and
            what the formats of weights raise.
    """
    content = look_into(folder, ADAPTER_CONFIG)
    present = content.files
    if ADAPTER_CONFIG not in present:
        raise InputError("NotAnAdapter", f"{folder} has no {ADAPTER_CONFIG}: {_in_its_place(folder, content)}")
    config = read_adapter_config(folder)
    name = _own_weights(folder, content)
    companions = companions_among({*present, *elsewhere})
    if companions.strange:
        raise InputError("UnsupportedAdapter", f"{folder} holds {', '.join(companions.strange)} {_STRANGE}")
    weights = LocalFile(folder / name)
    small = sorted({ADAPTER_CONFIG, *TOKENIZER_FILES} & present)
    factors, replacements = _sort(weights, _WEIGHTS[name](weights))
    changes = {module + ".weight": _change(weights, config, module, found) for module, found in factors.items()}
    if not changes and not replacements:
        raise InputError("NotAnAdapter", f"{weights} holds no tensors: it {_SAVED_EMPTY}")
    beside = [LocalFile(folder / each) for each in companions.merged]
    _add_whole(beside, replacements)
    warnings = tuple(_warnings(folder, config, companions))
    return Adapter(folder, config, changes, replacements, [weights, *beside], small, warnings)


def _own_weights(folder: Path, content: FolderContent) -> str:
    """Return the name of the file that holds the adapter."""
    name = next((name for name in ADAPTER_WEIGHTS if name in content.files), None)
    if name is None:
        link = broken_link(content, ADAPTER_WEIGHTS)
        raise InputError(
            "NotAnAdapter",
            f"{folder} has no {' or '.join(ADAPTER_WEIGHTS)}: {link or 'fetch them'}",
        )
    return name


def _warnings(folder: Path, config: AdapterConfig, companions: Companions) -> Iterator[tuple[str, str]]:
    if config.fan_in_fan_out:
        yield (
            "AdapterConfigIgnored",
            f"{folder / ADAPTER_CONFIG}: fan_in_fan_out is ignored: the layers are linear",
        )
    if companions.models:
        yield (
            "AdapterFilesIgnored",
            f"{folder} holds {', '.join(companions.models[:_MOST_NAMED])}, a whole model's, beside the adapter; only "
            "the adapter is merged",
        )


def _add_whole(files: list[LocalFile], replacements: dict[str, Tensor]) -> None:
    """Add the tensors of files beside the adapter's own to those that replace the model's.

    Raises:
        InputError: `UnsupportedAdapter` where one holds factors, `DuplicateTensor` where two files hold one tensor.
    """
    for file in files:
        read = safetensors_format.read_tensors if file.name.endswith(".safetensors") else pickle_format.read_tensors
        factors, whole = _sort(file, read(file))
        if factors:
            raise InputError(
                "UnsupportedAdapter", f"{file} holds lora_A and lora_B of {next(iter(factors))}; put them into one file"
            )
        for name, tensor in whole.items():
            other = replacements.setdefault(name, tensor)
            if other is not tensor and not alike(other, tensor):
                raise InputError(
                    "DuplicateTensor",
                    f"{name} lies in {other.file} and, with other values, in {file}; remove it from one of the files",
                )


def _in_its_place(folder: Path, content: FolderContent) -> str:
    """Say what a folder is that has no adapter's configuration."""
    if "config.json" in content.files:
        return "it is a model's folder; name the folder of a LoRA adapter, or give it as base"
    return broken_link(content, [ADAPTER_CONFIG]) or what_is_there(folder, content, "the folder of a LoRA adapter")


def _sort(file: DataFile, tensors: list[Tensor]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Return the factors by module and side (`A`, `B`; `EA`, `EB` of an embedding), and the whole tensors by name."""
    factors: dict[str, dict[str, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    strange = []
    for tensor in tensors:
        name = tensor.name.removeprefix(_PREFIX)
        match = _FACTOR.fullmatch(name)
        if match and bool(match["end"]) != bool(match["embedding"]):
            factors.setdefault(match["module"], {})["E" * bool(match["embedding"]) + match["side"]] = tensor
        elif _VARIANT.search(name):
            strange.append(tensor.name)
        elif _UNTOUCHED not in name:
            whole.setdefault(_WRAPPERS.sub("", name), tensor)
    if strange:
        more = f" and {len(strange) - 1} more like it" if strange[1:] else ""
        raise InputError(
            "UnsupportedAdapter", f"{file} holds {strange[0]}{more}, which a plain LoRA adapter does not have; {ADVICE}"
        )
    return factors, whole


def _change(file: DataFile, config: AdapterConfig, module: str, found: dict[str, Tensor]) -> LowRank:
    """Put A and B of one module together.

    Raises:
        InputError: `NotAnAdapter` where one is missing or the two do not fit, `UnsupportedDtype`,
            `UnsupportedAdapter` for ranks that memory is not laid out for.
    """
    embedding = found.keys() == {"EA", "EB"}
    if not embedding and found.keys() != {"A", "B"}:
        raise InputError("NotAnAdapter", f"{file} holds one of lora_A and lora_B of {module}, not both; fetch it again")
    down, up = found["E" * embedding + "A"], found["E" * embedding + "B"]
    for factor in (down, up):
        if factor.dtype not in FLOAT_DTYPES:
            raise InputError("UnsupportedDtype", f"{factor.name} in {file} is {factor.dtype}; save it as floats")
    if not (down.elements and up.elements):
        raise InputError(
            "NotAnAdapter",
            f"{file}: lora_A and lora_B of {module} are {list(down.shape)} and {list(up.shape)}: it {_SAVED_EMPTY}",
        )
    rank = config.rank_of(module)
    _check_rank(file, module, down, up, rank)
    held = up if embedding else down
    if held.elements * 4 > _MOST_FACTOR_BYTES:
        raise InputError(
            "UnsupportedAdapter",
            f"{file}: rank {rank} of {module} is too large for the memory that a merge has; {ADVICE}",
        )
    return LowRank(down, up, config.scale_of(module, rank), of_embedding=embedding)


def _check_rank(file: DataFile, module: str, down: Tensor, up: Tensor, rank: int) -> None:
    matrices = len(down.shape) == len(up.shape) == 2
    if not (matrices and down.shape[0] == up.shape[1] == rank):
        raise InputError(
            "NotAnAdapter",
            f"{file}: lora_A and lora_B of {module} are {list(down.shape)} and {list(up.shape)}, which is not of rank "
            f"{rank} as {ADAPTER_CONFIG} says; fetch both files again",
        )
