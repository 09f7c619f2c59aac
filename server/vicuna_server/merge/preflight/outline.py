"""Whether a model of an architecture that nothing is known of looks whole: its layers, its embedding, its head."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from vicuna_server.merge.preflight.comparison import Tensors
from vicuna_server.problems import Problems

__all__ = ["UNGATHERED", "check_outline", "check_plain"]

UNGATHERED = (
    "it was saved under DeepSpeed ZeRO-3 without gathering the weights, or as a stub beside them; run the "
    "zero_to_fp32.py that lies in the training run's checkpoint, or save it again with "
    "stage3_gather_16bit_weights_on_model_save"
)
_LAYER_FIELDS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_LAYER = re.compile(r"(?P<stem>[^0-9]+\.)(?P<number>\d{1,6})\.(?P<leaf>.+)")
_EMBEDDING = re.compile(r"embed|wte|shared", re.IGNORECASE)
_HEAD = re.compile(r"head|embed_out|output", re.IGNORECASE)
_PACKED = frozenset({"I8", "U8", "I16", "U16", "I32", "U32", "F8_E4M3", "F8_E5M2"})


def check_plain(what: str, tensors: Tensors, problems: Problems) -> None:
    """Note weights that are empty or packed.

    Args:
        what: what to call the model in messages.
        tensors: type and shape by name.
        problems: gets `EmptyTensors`, `UnsupportedDtype`.
    """
    weights = [name for name in tensors if name.endswith("weight")]
    empty = next((name for name in weights if prod(tensors[name][1]) == 0), None)
    if empty is not None:
        problems.add("EmptyTensors", f"{what}: {empty} has no content, shape {list(tensors[empty][1])}: {UNGATHERED}")
        return
    packed = _packed(weights, tensors)
    if packed is not None:
        problems.add(
            "UnsupportedDtype",
            f"{what} holds {packed} as {tensors[packed][0]}, quantised or packed, and its config.json does not say "
            "how; give the original weights in float16, bfloat16 or float32, and quantise when serving",
        )


def check_outline(what: str, config: Mapping[str, Any], tensors: Tensors, problems: Problems) -> None:
    """Note layers, an embedding or a head that are not there: `TensorMissing`.

    Args:
        what: what to call the model in messages.
        config: its config.json, whatever it holds.
        tensors: type and shape by name.
        problems: gets `TensorMissing`.
    """
    lost = _lost(config, tensors)
    if lost:
        problems.add("TensorMissing", f"{what} lacks {lost}; fetch it again")


def _packed(weights: Iterable[str], tensors: Tensors) -> str | None:
    """Return the first matrix whose type several values are packed into."""
    return next((name for name in weights if tensors[name][0] in _PACKED and len(tensors[name][1]) > 1), None)


def _numbered(names: Iterable[str]) -> dict[str, set[int]]:
    """Return the numbers of the layers by what stands before them."""
    found: defaultdict[str, set[int]] = defaultdict(set)
    for name in names:
        match = _LAYER.fullmatch(name)
        if match:
            found[match["stem"]].add(int(match["number"]))
    return found


def _lost(config: Mapping[str, Any], tensors: Tensors) -> str | None:
    """Return what is not there in words."""
    layer = _lost_layer(config, tensors)
    if layer:
        return layer
    if not any(map(_EMBEDDING.search, tensors)):
        return "an embedding"
    if config.get("tie_word_embeddings") is False and not any(map(_HEAD.search, tensors)):
        return "a head, and its config.json says that it is not the embedding (tie_word_embeddings)"
    return None


def _layers(tensors: Tensors) -> set[int]:
    """Return the numbers of the layers: where several rows of modules have numbers, of the one with most tensors."""
    sizes: Counter[str] = Counter(match["stem"] for name in tensors if (match := _LAYER.fullmatch(name)))
    return _numbered(tensors)[sizes.most_common(1)[0][0]] if sizes else set()


def _lost_layer(config: Mapping[str, Any], tensors: Tensors) -> str | None:
    """Return the first layer that the config or a later layer implies, and that has no tensor."""
    present = _layers(tensors)
    stated = next((config[field] for field in _LAYER_FIELDS if type(config.get(field)) is int), None)
    layers = max([stated or 0, *(number + 1 for number in present)])
    missing = next((number for number in range(layers) if number not in present), None)
    return None if missing is None else f"layer {missing} of the {layers} its config.json names"
