"""`adapter_config.json`: how an adapter's matrices are to be scaled, and which kinds of adapter are refused.

Format: peft's LoraConfig (https://huggingface.co/docs/peft/package_reference/lora, checked against peft 0.21.2).
"""

import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicuna_server.errors import InputError
from vicuna_server.weights.formats.small_file import read_object
from vicuna_server.weights.formats.weight_files import ADAPTER_CONFIG

__all__ = ["ADVICE", "AdapterConfig", "read_adapter_config"]

_MOST_LETTERS = 60
_LARGEST = 1e18

# fields about training and origin: they do not change the arithmetic, the tensors do
_HARMLESS = frozenset({
    "peft_type", "peft_version", "task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode",
    "r", "lora_alpha", "lora_dropout", "rank_pattern", "alpha_pattern", "use_rslora", "fan_in_fan_out", "merge_weights",
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save", "megatron_core",
    "loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size", "runtime_config",
    "ensure_weight_tying",
})  # fmt: skip
# values of fields that would change the arithmetic; every field not named here or above must be empty or false
_ALLOWED: Mapping[str, tuple[Any, ...]] = {
    "bias": (None, "none"),
    # other initialisations, such as pissa and loftq, change the base as well
    "init_lora_weights": (None, True, False, "gaussian", "eva", "orthogonal"),
}
# of a pattern: then even a hostile one matches a module's name within a second
_MOST_REPEATS, _MOST_GROUPS, _MOST_PATTERN_LETTERS = 4, 4, 500
ADVICE = "merge it with peft on a large machine and give the result as base"


@dataclass(frozen=True)
class AdapterConfig:
    """What decides about the arithmetic, and what a person wants to know.

    Attributes:
        rank: of matrices that no pattern names.
        alpha: numerator of the scale, where no pattern names another.
        rank_pattern: ranks by regular expressions of modules' names.
        alpha_pattern: alphas by regular expressions of modules' names.
        use_rslora: divide by the rank's square root.
        fan_in_fan_out: stated for layers that are stored transposed; PEFT ignores it for linear layers, as here.
        base: the base it was trained on, as its author's machine named it; empty where it is not stated.
        targets: names of the modules it changes, as stated.
        saved: names of the modules it replaces, as stated.
        ties: whether what replaces the embedding is the head's as well where the model ties them.
    """

    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    use_rslora: bool = False
    fan_in_fan_out: bool = False
    base: str = ""
    targets: tuple[str, ...] = ()
    saved: tuple[str, ...] = ()
    ties: bool = False

    def parts(self, name: str) -> bool:
        """Whether peft replaces this tensor's module by a copy of its own, which is tied to nothing any more."""
        module = name.removesuffix(".weight")
        return not self.ties and any(module == saved or module.endswith(f".{saved}") for saved in self.saved)

    def rank_of(self, module: str) -> int:
        """Return the rank stated for a module."""
        return int(_look_up(self.rank_pattern, module, self.rank))

    def scale_of(self, module: str, rank: int) -> float:
        """Return what the product of a module's matrices is multiplied by: alpha/r, or alpha/sqrt(r) for rsLoRA."""
        alpha = _look_up(self.alpha_pattern, module, self.alpha)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Read adapter_config.json.

    Raises:
        InputError: `NotAnAdapter` where there is none or it is broken; `UnsupportedAdapter`, naming every field that
            asks for what a plain low-rank update is not.
    """
    path = folder / ADAPTER_CONFIG
    content = _read(path)
    kind = content.get("peft_type")
    if kind != "LORA":
        raise InputError(
            "UnsupportedAdapter", f"{path}: peft_type is {_short(kind)}; only LORA can be merged here, {ADVICE}"
        )
    strange = [f"{name} is {_short(value)}" for name, value in content.items() if not _is_plain(name, value)]
    strange += _slow_patterns(content)
    if strange:
        raise InputError("UnsupportedAdapter", f"{path}: {', '.join(strange)}; {ADVICE}")
    try:
        return AdapterConfig(
            rank=_rank("r", content.get("r", 8)),
            alpha=_number("lora_alpha", content.get("lora_alpha", 8)),
            rank_pattern=_table("rank_pattern", content, _rank),
            alpha_pattern=_table("alpha_pattern", content, _number),
            use_rslora=content.get("use_rslora") is True,
            fan_in_fan_out=content.get("fan_in_fan_out") is True,
            base=_text(content.get("base_model_name_or_path")),
            targets=_names(content.get("target_modules")),
            saved=_names(content.get("modules_to_save")),
            ties=content.get("ensure_weight_tying") is True,
        )
    except ValueError as error:
        raise InputError("NotAnAdapter", f"{path}: {error}; fetch it again") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_object(path, "NotAnAdapter", "an adapter's configuration")
    except FileNotFoundError as error:
        raise InputError(
            "NotAnAdapter", f"{path.parent} has no {ADAPTER_CONFIG}; name the folder of a LoRA adapter"
        ) from error


def _is_plain(name: str, value: Any) -> bool:
    """Whether a field asks for nothing beyond a plain low-rank update."""
    if name in _ALLOWED:
        return any(value is allowed or (type(value) is str and value == allowed) for allowed in _ALLOWED[name])
    return name in _HARMLESS or not value


def _slow_patterns(content: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} has the pattern {_short(pattern)}, which may take for ever to match"
        for name in ("rank_pattern", "alpha_pattern")
        if isinstance(content.get(name), dict)
        for pattern in content[name]
        if not _is_quick(pattern)
    ]


def _is_quick(pattern: str) -> bool:
    """Whether a regular expression can be matched in reasonable time: few repeats and groups, no repeated group."""
    return (
        len(pattern) <= _MOST_PATTERN_LETTERS
        and len(re.findall(r"[*+?{]", pattern)) <= _MOST_REPEATS
        and pattern.count("(") <= _MOST_GROUPS
        and not re.search(r"\)[*+{]", pattern)
    )


def _look_up(table: Mapping[str, float], module: str, default: float) -> float:
    """Return the value of the first pattern that matches the whole name or its end (peft, utils/other.py)."""
    return next((value for key, value in table.items() if re.match(_whole_or_end(key), module)), default)


def _whole_or_end(pattern: str) -> str:
    return rf"(.*\.)?({pattern})$"


def _table(name: str, content: Mapping[str, Any], read: Any) -> dict[str, Any]:
    table = content.get(name) or {}
    if not isinstance(table, dict):
        raise ValueError(f"{name} is not an object")
    for pattern in table:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                re.compile(_whole_or_end(pattern))
        except (re.error, OverflowError) as error:
            raise ValueError(f"{name} has a pattern that is not a regular expression: {_short(pattern)}") from error
    return {pattern: read(f"{name}.{pattern}", value) for pattern, value in table.items()}


def _rank(name: str, value: Any) -> int:
    if type(value) is not int or not 0 < value < 2**31:
        raise ValueError(f"{name} is {_short(value)}, not a positive integer")
    return value


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) <= _LARGEST:
        raise ValueError(f"{name} is {_short(value)}, not a number")
    return value  # type: ignore[no-any-return]  # an integer stays one, as in peft


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _names(value: Any) -> tuple[str, ...]:
    """Return a list of names, or the one expression, as stated."""
    if isinstance(value, str):
        return (value,)
    return tuple(sorted(name for name in value if isinstance(name, str))) if isinstance(value, list) else ()


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_LETTERS else text[:_MOST_LETTERS] + "…"
