"""Meta's own checkpoints of LLaMA: `consolidated.NN.pth`, one file per model-parallel part, and `params.json`.

The rules are those of transformers' convert_llama_weights_to_hf.py, without its way through bfloat16: parts are
joined, the rows of wq and wk are put from pairs into halves (`view(heads, size / 2, 2, columns).transpose(1, 2)`),
and every value keeps its bits.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vicuna_server.errors import InputError
from vicuna_server.files.data_file import DataFile
from vicuna_server.weights.formats.joined import JoinedTensor
from vicuna_server.weights.formats.small_file import read_small
from vicuna_server.weights.tensors import Tensor, TensorSource

__all__ = ["PARAMS", "pick_parts", "read_params", "to_transformers"]

PARAMS = "params.json"
_PART = re.compile(r"consolidated\.(\d\d)\.pth")
_DROPPED_SUFFIX = "rope.freqs"
_EMBEDDING = "model.embed_tokens.weight"
_QUERY = "model.layers.0.self_attn.q_proj.weight"
_GATE = "model.layers.0.mlp.gate_proj.weight"
_NEEDED = (_EMBEDDING, _QUERY, _GATE, "model.norm.weight", "lm_head.weight")
_CODE_THETA = 1_000_000.0
_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}


@dataclass(frozen=True)
class _Rule:
    """What becomes of one kind of tensor.

    Attributes:
        name: its new name.
        dimension: what its parts are joined on; None: every part holds it whole.
        halves: whether each head's rows are put from pairs into halves.
    """

    name: str
    dimension: int | None = None
    halves: bool = False


_OUTER = {
    "tok_embeddings.weight": _Rule(_EMBEDDING, 1),
    "norm.weight": _Rule("model.norm.weight"),
    "output.weight": _Rule("lm_head.weight", 0),
}
_INNER = {
    "attention.wq.weight": _Rule("self_attn.q_proj.weight", 0, halves=True),
    "attention.wk.weight": _Rule("self_attn.k_proj.weight", 0, halves=True),
    "attention.wv.weight": _Rule("self_attn.v_proj.weight", 0),
    "attention.wo.weight": _Rule("self_attn.o_proj.weight", 1),
    "feed_forward.w1.weight": _Rule("mlp.gate_proj.weight", 0),
    "feed_forward.w2.weight": _Rule("mlp.down_proj.weight", 1),
    "feed_forward.w3.weight": _Rule("mlp.up_proj.weight", 0),
    "attention_norm.weight": _Rule("input_layernorm.weight"),
    "ffn_norm.weight": _Rule("post_attention_layernorm.weight"),
}


def pick_parts(place: Path | str, names: Sequence[str]) -> list[str]:
    """Return the names of the parts in order; none where this is not a checkpoint of Meta's.

    Raises:
        InputError: `TensorMissing` when one is missing in between.
    """
    parts = sorted(name for name in names if _PART.fullmatch(name)) if PARAMS in names else []
    for number, part in enumerate(parts):
        if part != f"consolidated.{number:02}.pth":
            raise InputError("TensorMissing", f"{place} lacks consolidated.{number:02}.pth; fetch it again")
    return parts


def read_params(path: Path) -> dict[str, Any]:
    """Read `params.json` and check what is needed of it.

    Raises:
        InputError: `NotACheckpoint`.
    """
    try:
        params = json.loads(read_small(path, "NotACheckpoint", "the description of a LLaMA model"))
        sizes = {key: params[key] for key in ("dim", "n_layers", "n_heads")}
        sizes["n_kv_heads"] = params.get("n_kv_heads") or params["n_heads"]
        params |= sizes
        sound = all(type(size) is int and size > 0 for size in sizes.values()) and type(params["norm_eps"]) is float
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError("NotACheckpoint", f"{path} is not a description of a LLaMA model; fetch it again") from error
    if not sound or params["dim"] % (2 * params["n_heads"]):
        raise InputError(
            "NotACheckpoint", f"{path} has a dim, n_layers, n_heads or norm_eps that no LLaMA can have; fetch it again"
        )
    if params.get("use_scaled_rope"):
        raise InputError("NotACheckpoint", f"{path} asks for scaled rope; give this model in Hugging Face's layout")
    return dict(params)


def to_transformers(
    params: Mapping[str, Any], parts: Sequence[tuple[DataFile, list[Tensor]]]
) -> tuple[dict[str, Any], dict[str, TensorSource]]:
    """Return config.json's content, and the tensors under transformers' names in the order they lie in part 0.

    Args:
        params: from `read_params`.
        parts: each file, in order, and its tensors.

    Raises:
        InputError: `TensorMissing`, `ShapeMismatch`, `UnsupportedDtype`, `NotACheckpoint` for another model's tensor.
    """
    tables = [{tensor.name: tensor for tensor in found} for _, found in parts]
    files = [file for file, _ in parts]
    tensors: dict[str, TensorSource] = {}
    for tensor in sorted(tables[0].values(), key=lambda one: one.offset):
        if tensor.name.endswith(_DROPPED_SUFFIX):
            continue
        rule = _rule(files[0], tensor.name)
        same = [_in_part(file, table, tensor) for file, table in zip(files, tables, strict=True)]
        tensors[rule.name] = _join(rule, same, params)
    _check_shapes(files, tensors, params)
    return _config(files[0], tensors, params), tensors


def _rule(file: DataFile, name: str) -> _Rule:
    rule = _OUTER.get(name)
    if rule is not None:
        return rule
    match = re.fullmatch(r"layers\.(\d+)\.(.+)", name)
    inner = _INNER.get(match[2]) if match else None
    if match is None or inner is None:
        raise InputError(
            "NotACheckpoint", f"{file} holds {name}, which is not a tensor of LLaMA; give a model of LLaMA's layout"
        )
    return replace(inner, name=f"model.layers.{int(match[1])}.{inner.name}")


def _in_part(file: DataFile, table: Mapping[str, Tensor], like: Tensor) -> Tensor:
    tensor = table.get(like.name)
    if tensor is None:
        raise InputError("TensorMissing", f"{file} lacks {like.name}, which the first part has; fetch it again")
    if (tensor.shape, tensor.dtype) != (like.shape, like.dtype):
        raise InputError(
            "ShapeMismatch",
            f"{like.name} is {tensor.dtype} {list(tensor.shape)} in {file} and {like.dtype} {list(like.shape)} in the "
            "first part; give parts of one model",
        )
    return tensor


def _join(rule: _Rule, parts: list[Tensor], params: Mapping[str, Any]) -> TensorSource:
    dimension = rule.dimension
    if dimension is None or (len(parts) == 1 and not rule.halves):
        return replace(parts[0], name=rule.name)
    if rule.name == _EMBEDDING and parts[0].shape[-1] == params["dim"]:
        dimension = 0  # Llama 3 cuts the embedding by rows
    head_rows = params["dim"] // params["n_heads"] if rule.halves else 0
    _check_matrix(parts[0], head_rows)
    return JoinedTensor(rule.name, tuple(parts), dimension, head_rows)


def _check_matrix(part: Tensor, head_rows: int) -> None:
    """Refuse what cannot be cut into heads of so many rows (0: what is not a matrix at all)."""
    if len(part.shape) != 2 or (head_rows and part.shape[0] % head_rows):
        whole = f" of heads of {head_rows} rows" if head_rows else ""
        raise InputError(
            "ShapeMismatch",
            f"{part.name} in {part.file} is {list(part.shape)}, not a matrix{whole}; give the {PARAMS} of this model",
        )


def _check_shapes(files: Sequence[DataFile], tensors: Mapping[str, TensorSource], params: Mapping[str, Any]) -> None:
    """Compare what the parts make together with params.json and with each other."""
    for name in _NEEDED:
        if name not in tensors:
            raise InputError("TensorMissing", f"{files[0]} lacks what becomes {name}; fetch it again")
    dim, rows = params["dim"], tensors[_QUERY].shape[0]
    if 0 < rows < dim and len(files) * dim % rows == 0:
        raise InputError(
            "TensorMissing",
            f"{files[0]} and its like are {len(files)} of {len(files) * dim // rows} parts; fetch the missing ones",
        )
    vocabulary, wide = tensors[_EMBEDDING].shape[0], tensors[_GATE].shape[0]
    some = dim // params["n_heads"] * params["n_kv_heads"]
    matrices = {
        "q_proj": (dim, dim), "k_proj": (some, dim), "v_proj": (some, dim), "o_proj": (dim, dim),
        "gate_proj": (wide, dim), "up_proj": (wide, dim), "down_proj": (dim, wide),
        "embed_tokens": (vocabulary, dim), "lm_head": (vocabulary, dim),
    }  # fmt: skip
    for name, tensor in tensors.items():
        wanted = matrices.get(name.split(".")[-2], (dim,))
        if tensor.shape != wanted:
            raise InputError(
                "ShapeMismatch",
                f"{name} of {files[0]} is {list(tensor.shape)} where {PARAMS} and the other tensors want "
                f"{list(wanted)}; give the files of one model",
            )


def _config(file: DataFile, tensors: Mapping[str, TensorSource], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what transformers needs to know; sizes are taken from the tensors (params.json may say -1).

    Which tokens begin and end a text is the tokenizer's to say, whose files are not of this layout.
    """
    embedding, gate = tensors[_EMBEDDING], tensors[_GATE]
    if embedding.dtype not in _DTYPES:
        raise InputError("UnsupportedDtype", f"{file} holds {embedding.dtype}; give float16, bfloat16 or float32")
    theta = float(params.get("rope_theta", 10000.0))
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": params["dim"],
        "intermediate_size": gate.shape[0],
        "num_hidden_layers": params["n_layers"],
        "num_attention_heads": params["n_heads"],
        "num_key_value_heads": params["n_kv_heads"],
        "hidden_act": "silu",
        "max_position_embeddings": params.get("max_seq_len") or _positions(embedding.dtype, theta),
        "rms_norm_eps": params["norm_eps"],
        "rope_theta": theta,
        "tie_word_embeddings": False,
        "vocab_size": embedding.shape[0],
        "torch_dtype": _DTYPES[embedding.dtype],
    }


def _positions(dtype: str, theta: float) -> int:
    """Return the length a model was trained for, which params.json leaves out.

    A larger rope base means LLaMA 3 (500000; 8192) or Code Llama (1000000; 16384); of the others LLaMA 2 is published
    in bfloat16 (4096), LLaMA in float16 (2048).
    """
    if theta > 10000.0:
        return 16384 if theta >= _CODE_THETA else 8192
    return 4096 if dtype == "BF16" else 2048
