"""Judging base and delta before a byte is written: from headers, configs and one small tensor alone."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicuna_server.merge.chat_template import resolve_chat_template
from vicuna_server.merge.checkpoint import Checkpoint
from vicuna_server.merge.identity import sampled_sha256
from vicuna_server.merge.kinds import VOCABULARY_SUFFIXES, resolve_kind
from vicuna_server.merge.layout import Shard, Step, lay_out
from vicuna_server.merge.problems import Problems
from vicuna_server.merge.tensors import FLOAT_DTYPES, OUTPUT_DTYPES, TensorSource
from vicuna_server.merge.tokenizer import Tokenizer, read_tokenizer

__all__ = ["Plan", "make_plan"]

_HEAD = "lm_head.weight"
_EMBEDDING = "model.embed_tokens.weight"
_SHARED_KEYS = (
    *("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("intermediate_size", "head_dim", "tie_word_embeddings"),
)


@dataclass(frozen=True)
class Plan:
    """All that will be written: shards, and the small files by name (a path to copy, or the content)."""

    kind: str
    chat_template: str
    shards: list[Shard]
    small_files: dict[str, Path | bytes]

    @property
    def tensor_count(self) -> int:
        """Number of tensors in the artifact."""
        return sum(len(shard.steps) for shard in self.shards)

    @property
    def bytes_to_read(self) -> int:
        """Bytes of base and delta that the merge reads."""
        return sum(step.bytes_to_read for shard in self.shards for step in shard.steps)

    @property
    def bytes_to_write(self) -> int:
        """Bytes the artifact takes, within a megabyte for index and manifest."""
        small = sum(len(item) if isinstance(item, bytes) else item.stat().st_size for item in self.small_files.values())
        return sum(shard.size for shard in self.shards) + small + 1_000_000


def make_plan(
    base: Checkpoint,
    delta: Checkpoint | None,
    *,
    kind: str,
    dtype: str,
    chat_template: str,
    source_id: str,
    problems: Problems,
) -> Plan | None:
    """Check that the sources fit together and lay out the result; None when `problems` got something.

    Args:
        base: the base.
        delta: the delta; its config and tokenizer become the artifact's.
        kind: one of `kinds.KINDS`.
        dtype: float16, bfloat16 or float32.
        chat_template: one of `chat_template.CHAT_TEMPLATES`.
        source_id: hub id of the delta (of the base without one), empty for a folder.
        problems: gets everything that is wrong.
    """
    resolved = resolve_kind(kind, base, delta, source_id, problems)
    giver = delta or base
    tokenizer = Tokenizer({}, has_chat_template=False)
    template = ""
    with problems.collecting():
        tokenizer = read_tokenizer(giver.folder)
    if tokenizer.files:  # without one, a missing template is only a consequence
        with problems.collecting():
            template = resolve_chat_template(
                chat_template, has_own=tokenizer.has_chat_template, kind=resolved, source_id=source_id
            )
    if delta:
        _compare_configs(base, delta, problems)
    _check_layers(giver, problems)
    steps = list(_steps(base, delta, resolved, OUTPUT_DTYPES[dtype], problems))
    if problems or not steps:
        return None
    config = _output_config(giver.config, steps, dtype)
    small: dict[str, Path | bytes] = {"config.json": config, **tokenizer.files}
    generation = giver.folder / "generation_config.json"
    if generation.is_file():
        small["generation_config.json"] = generation
    return Plan(resolved, template, lay_out(steps), small)


def _compare_configs(base: Checkpoint, delta: Checkpoint, problems: Problems) -> None:
    for key in _SHARED_KEYS:
        ours, theirs = base.config.get(key), delta.config.get(key)
        if ours is not None and theirs is not None and ours != theirs:
            problems.add(
                "ConfigMismatch",
                f"{key} is {ours} in {base.folder}/config.json and {theirs} in {delta.folder}/config.json; "
                "give the base that this delta was made for",
            )


def _check_layers(checkpoint: Checkpoint, problems: Problems) -> None:
    """A whole layer may be missing from base and delta alike when shards were lost with their index."""
    layers = checkpoint.config.get("num_hidden_layers")
    present = {
        int(parts[2])
        for parts in (name.split(".") for name in checkpoint.tensors)
        if len(parts) > 3 and parts[1] == "layers" and parts[2].isdigit()
    }
    if isinstance(layers, int) and present:
        missing = sorted(set(range(layers)) - present)
        if missing:
            problems.add(
                "TensorMissing",
                f"{checkpoint.folder} lacks layer {missing[0]} of the {layers} its config.json names; fetch it again",
            )


def _steps(base: Checkpoint, delta: Checkpoint | None, kind: str, dtype: str, problems: Problems) -> Iterator[Step]:
    skipped = _tied_head(base, delta)
    deltas = {name: tensor for name, tensor in delta.tensors.items() if name not in skipped} if delta else {}
    for name, tensor in base.tensors.items():
        if name in skipped:
            continue
        other = deltas.pop(name, None)
        if delta and other is None:
            problems.add("TensorMissing", f"{delta.folder} lacks {name}, which the base has; give the matching delta")
        elif _fits(tensor, other, kind, problems):
            shape = other.shape if other else tensor.shape
            output = dtype if tensor.dtype in FLOAT_DTYPES else tensor.dtype
            yield Step(name, shape, output, tensor, other)
    for name in deltas:
        problems.add("TensorMissing", f"{base.folder} lacks {name}, which the delta has; give the matching base")


def _fits(tensor: TensorSource, other: TensorSource | None, kind: str, problems: Problems) -> bool:
    if other is None:
        return True
    strange = next((one for one in (tensor, other) if one.dtype not in FLOAT_DTYPES), None)
    if strange is not None:
        problems.add(
            "UnsupportedDtype",
            f"{strange.name} in {strange.files[0]} is {strange.dtype}; base and delta must be unquantised floats",
        )
        return False
    if tensor.shape == other.shape:
        return True
    vocabulary = tensor.name.endswith(VOCABULARY_SUFFIXES) and tensor.shape[1:] == other.shape[1:]
    if not vocabulary:
        problems.add(
            "ShapeMismatch",
            f"{tensor.name} is {list(tensor.shape)} in the base and {list(other.shape)} in the delta; "
            "give the base that this delta was made for",
        )
        return False
    if kind == "additive-v0" and other.shape[0] > tensor.shape[0]:
        return True
    problems.add(
        "VocabularyMismatch",
        f"{tensor.name} has {tensor.shape[0]} rows in the base and {other.shape[0]} in the delta; give the base that "
        "this delta was made for, or say kind additive-v0 if the delta adds rows",
    )
    return False


def _tied_head(base: Checkpoint, delta: Checkpoint | None) -> set[str]:
    """Return {lm_head} where it is the embedding under a second name: such a tensor is merged once."""
    checkpoints = [one for one in (base, delta) if one is not None]
    tied = checkpoints[-1].config.get("tie_word_embeddings") is True
    return {_HEAD} if tied and all(_head_is_embedding(one) for one in checkpoints) else set()


def _head_is_embedding(checkpoint: Checkpoint) -> bool:
    head, embedding = checkpoint.tensors.get(_HEAD), checkpoint.tensors.get(_EMBEDDING)
    if head is None:
        return True
    if embedding is None or (head.dtype, head.shape) != (embedding.dtype, embedding.shape):
        return False
    places = [source.spans(0, source.elements) for source in (head, embedding)]
    if places[0] == places[1]:
        return True
    samples = {sampled_sha256(place[0].file, place[0].offset, head.nbytes) for place in places if len(place) == 1}
    return len(samples) == 1


def _output_config(config: dict[str, Any], steps: list[Step], dtype: str) -> bytes:
    """Return config.json with the element type and the vocabulary's size as they are in the artifact."""
    result = dict(config)
    for key in [key for key in ("torch_dtype", "dtype") if key in result] or ["torch_dtype"]:
        result[key] = dtype
    rows = next((step.shape[0] for step in steps if step.name == _EMBEDDING), None)
    if rows is not None and "vocab_size" in result:
        result["vocab_size"] = rows
    return (json.dumps(result, indent=2, ensure_ascii=False) + "\n").encode()
