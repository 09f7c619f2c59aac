"""config.json and generation_config.json of a result, made true to the weights and the tokenizer beside them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vicuna_server.errors import InputError
from vicuna_server.files.beneath import is_file, read_file
from vicuna_server.files.json_files import dump_json
from vicuna_server.merge.arithmetic.layout import OutputTensor
from vicuna_server.merge.preflight.architectures import shown
from vicuna_server.merge.preflight.configs import unquantised
from vicuna_server.merge.preflight.generation_fields import unreadable_fields
from vicuna_server.merge.preflight.serving import without_code
from vicuna_server.merge.preflight.token_ids import check_rows, true_ids
from vicuna_server.merge.preflight.tying import HEAD, denied_head
from vicuna_server.merge.preflight.vocabulary import embedding_of, with_vocabulary
from vicuna_server.problems import Problems
from vicuna_server.weights.checkpoint import Checkpoint
from vicuna_server.weights.formats.meta_format import PARAMS
from vicuna_server.weights.tokenizers.token_table import TokenTable, read_token_table
from vicuna_server.weights.tokenizers.tokenizer import Tokenizer

__all__ = ["small_files"]

_GENERATION = "generation_config.json"
_CLASSES = {"LLaMAForCausalLM": "LlamaForCausalLM"}  # the class name in the first conversions
_END_OF_TURN = "<|eot_id|>"
_MOST_LETTERS = 60


def small_files(
    config_source: Checkpoint, tokenizer: Tokenizer, outputs: Sequence[OutputTensor], dtype: str, problems: Problems
) -> dict[str, Path | bytes]:
    """Return what stands beside the weights by name: a path to copy, or the content.

    Args:
        config_source: whose config it is.
        tokenizer: its files, repaired.
        outputs: the tensors that the config is made true to.
        dtype: float16, bfloat16 or float32.
        problems: gets what cannot be made true, `VocabularyMismatch`, and warnings for what is.
    """
    shapes = {output.name: output.shape for output in outputs}
    embedding = embedding_of(shapes)
    rows = shapes[embedding][0] if embedding else None
    table = read_token_table(tokenizer.files)
    config = _true_to_weights(config_source, outputs, dtype, problems)
    stated = _stated_generation(config_source)
    generation = stated
    if table is not None:
        config = true_ids(config, table, rows, f"config.json of {config_source.folder}", problems, fill=True)
        if rows is not None:
            check_rows(table, rows, str(config_source.folder), problems)
        generation = _true_generation(config_source, generation, table, rows, problems)
    generation = _readable(config_source, generation, problems)
    _name_tokenizer_class(config, tokenizer)
    small: dict[str, Path | bytes] = {"config.json": dump_json(config), **tokenizer.files}
    path = config_source.folder / _GENERATION
    if generation is not None and generation != stated:
        return small | {_GENERATION: dump_json(generation)}
    return small | ({_GENERATION: path} if is_file(path) else {})


def _true_to_weights(
    config_source: Checkpoint, outputs: Sequence[OutputTensor], dtype: str, problems: Problems
) -> dict[str, Any]:
    """Return config.json with element type, vocabulary's size, class and tying as they are in the artifact."""
    result = with_vocabulary(
        without_code(unquantised(config_source.config)), {output.name: output.shape for output in outputs}
    )
    for key in [key for key in ("torch_dtype", "dtype") if key in result] or ["torch_dtype"]:
        result[key] = dtype
    if isinstance(result.get("architectures"), list):
        result["architectures"] = [_CLASSES.get(str(name), name) for name in result["architectures"]]
    if _has_denied_head(result, outputs):
        result["tie_word_embeddings"] = False
        problems.warn(
            "HeadNotTied",
            f"config.json of {config_source.folder} ties {HEAD} to the embedding (tie_word_embeddings), but the "
            "weights have another one: it is kept, and tie_word_embeddings becomes false",
        )
    return result


def _has_denied_head(config: Mapping[str, Any], outputs: Sequence[OutputTensor]) -> bool:
    """Whether the config ties a head whose own weights, of base or delta or of an adapter's making, are others."""
    patched = any(output.patches for output in outputs if output.name == HEAD)
    base = {output.name: output.base for output in outputs}
    delta = {output.name: output.delta for output in outputs if output.delta is not None}
    return denied_head(config, base) or denied_head(config, delta) or (patched and _ties(config))


def _ties(config: Mapping[str, Any]) -> bool:
    return config.get("tie_word_embeddings") is True


def _true_generation(
    config_source: Checkpoint,
    generation: dict[str, Any] | None,
    table: TokenTable,
    rows: int | None,
    problems: Problems,
) -> dict[str, Any] | None:
    """Return generation_config.json with true ids; one is made for LLaMA 3's own files, whose turns end by a token."""
    if generation is not None:
        what = f"{_GENERATION} of {config_source.folder}"
        return true_ids(generation, table, rows, what, problems, fill=False)
    end, turn = table.roles.get("eos"), table.id_of(_END_OF_TURN)
    if PARAMS in config_source.small_files and end is not None and turn not in (None, end):
        return {"bos_token_id": table.roles.get("bos"), "eos_token_id": [end, turn]}
    return None


def _name_tokenizer_class(config: dict[str, Any], tokenizer: Tokenizer) -> None:
    """Let config.json, where it names the tokenizer's class, name the one that tokenizer_config.json does."""
    item = tokenizer.files.get("tokenizer_config.json")
    named = (_parsed(item if isinstance(item, bytes) else read_file(item)) or {}) if item is not None else {}
    if config.get("tokenizer_class") and named.get("tokenizer_class"):
        config["tokenizer_class"] = named["tokenizer_class"]


def _stated_generation(config_source: Checkpoint) -> dict[str, Any] | None:
    """Return generation_config.json; None where there is none or it is broken, which the preflight tells."""
    try:
        return config_source.read_generation_config()
    except InputError:
        return None


def _readable(config_source: Checkpoint, stated: dict[str, Any] | None, problems: Problems) -> dict[str, Any] | None:
    """Return generation_config.json without the fields beside which transformers would load no model."""
    unreadable = unreadable_fields(stated or {})
    if stated is None or not unreadable:
        return stated
    one = unreadable[0]
    more = f" (and {len(unreadable) - 1} more)" if unreadable[1:] else ""
    problems.warn(
        "GenerationFieldsIgnored",
        f"{_GENERATION} of {config_source.folder} says {one[:_MOST_LETTERS]} is {shown(stated[one])}{more}, "
        "which transformers cannot read; left out: no weight depends on it",
    )
    return {name: value for name, value in stated.items() if name not in unreadable}


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
