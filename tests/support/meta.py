"""Small checkpoints in Meta's own layout, and transformers' rule for converting them, written plainly."""

import json
from pathlib import Path
from typing import Any

import torch

DIM, HEADS, LAYERS, WIDE, VOCABULARY = 32, 4, 2, 48, 64
Weights = dict[str, torch.Tensor]
_ROWS = ("wq", "wk", "wv", "w1", "w3", "output")
_COLUMNS = ("wo", "w2", "tok_embeddings")


def whole_weights(dtype: torch.dtype = torch.float16, kv_heads: int = HEADS, seed: int = 5) -> Weights:
    """Random weights under Meta's names, not yet cut into parts."""
    random = torch.Generator().manual_seed(seed)
    some = DIM // HEADS * kv_heads
    shapes: dict[str, tuple[int, ...]] = {"tok_embeddings.weight": (VOCABULARY, DIM), "norm.weight": (DIM,)}
    shapes["output.weight"] = (VOCABULARY, DIM)
    for layer in range(LAYERS):
        prefix = f"layers.{layer}."
        shapes |= {f"{prefix}attention.{name}.weight": (DIM, DIM) for name in ("wq", "wo")}
        shapes |= {f"{prefix}attention.{name}.weight": (some, DIM) for name in ("wk", "wv")}
        shapes |= {f"{prefix}feed_forward.{name}.weight": (WIDE, DIM) for name in ("w1", "w3")}
        shapes[f"{prefix}feed_forward.w2.weight"] = (DIM, WIDE)
        shapes |= {f"{prefix}{name}.weight": (DIM,) for name in ("attention_norm", "ffn_norm")}
    return {
        name: (
            torch.rand(shape, generator=random).add_(0.5) if len(shape) == 1 else torch.randn(shape, generator=random)
        )
        .mul_(1.0 if len(shape) == 1 else 0.1)
        .to(dtype)
        for name, shape in shapes.items()
    }


def write_meta(folder: Path, weights: Weights, parts: int, *, kv_heads: int = HEADS, **params: Any) -> Path:
    """Cut weights into model-parallel parts and write them as Meta does, rope.freqs included."""
    folder.mkdir(parents=True)
    for part in range(parts):
        state = {name: _cut(name, tensor, part, parts) for name, tensor in weights.items()}
        state["rope.freqs"] = torch.ones(DIM // HEADS // 2)
        torch.save(state, folder / f"consolidated.{part:02}.pth")
    known = {"dim": DIM, "multiple_of": 16, "n_heads": HEADS, "n_layers": LAYERS, "norm_eps": 1e-6, "vocab_size": -1}
    if kv_heads != HEADS:
        known["n_kv_heads"] = kv_heads
    (folder / "params.json").write_text(json.dumps(known | params))
    return folder


def _cut(name: str, tensor: torch.Tensor, part: int, parts: int) -> torch.Tensor:
    kind = name.split(".")[-2]
    if kind in _ROWS:
        return tensor.chunk(parts, 0)[part].clone()
    return tensor.chunk(parts, 1)[part].clone() if kind in _COLUMNS else tensor.clone()


def converted(weights: Weights, kv_heads: int = HEADS) -> Weights:
    """Return what transformers' convert_llama_weights_to_hf.py makes of whole weights."""
    names = {"wq": "self_attn.q_proj", "wk": "self_attn.k_proj", "wv": "self_attn.v_proj", "wo": "self_attn.o_proj"}
    names |= {"w1": "mlp.gate_proj", "w2": "mlp.down_proj", "w3": "mlp.up_proj"}
    names |= {"attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    outer = {"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"}
    result = {}
    for name, tensor in weights.items():
        *place, kind, _ = name.split(".")
        if kind in outer:
            result[f"{outer[kind]}.weight"] = tensor
            continue
        heads = {"wq": HEADS, "wk": kv_heads}.get(kind)
        if heads:
            rows, columns = tensor.shape
            tensor = tensor.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)
        result[f"model.layers.{place[1]}.{names[kind]}.weight"] = tensor
    return result
