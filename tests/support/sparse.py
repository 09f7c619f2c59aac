"""Checkpoints of any size that take no room: sparse files whose norms alone hold something."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from support.checkpoints import write_tokenizer
from vicuna_server.weights.formats.safetensors_format import build_header
from vicuna_server.weights.tensors import DTYPE_BYTES

_CODES = {"F32": "<f4", "F16": "<f2"}


@dataclass(frozen=True)
class Shape:
    """The sizes of a LLaMA."""

    hidden: int
    inner: int
    layers: int
    heads: int
    vocabulary: int = 32000
    tied: bool = False

    @property
    def config(self) -> dict[str, object]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": self.tied,
            "torch_dtype": "float16",
        }

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocabulary, self.hidden)}
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            found |= {f"{prefix}self_attn.{name}_proj.weight": (self.hidden, self.hidden) for name in "qkvo"}
            found |= {f"{prefix}mlp.{name}_proj.weight": (self.inner, self.hidden) for name in ("gate", "up")}
            found[f"{prefix}mlp.down_proj.weight"] = (self.hidden, self.inner)
            found |= {
                f"{prefix}{name}.weight": (self.hidden,) for name in ("input_layernorm", "post_attention_layernorm")
            }
        found["model.norm.weight"] = (self.hidden,)
        return found if self.tied else found | {"lm_head.weight": (self.vocabulary, self.hidden)}


LLAMA_13B = Shape(5120, 13824, 40, 40)


def write_sparse_checkpoint(folder: Path, shape: Shape, dtype: str = "F16", *, norm: float, shards: int = 3) -> Path:
    """Write a checkpoint in safetensors shards; `norm` fills every norm, all other weights are holes: zero."""
    folder.mkdir(parents=True)
    names = list(shape.tensors)
    most = -(-len(names) // shards)
    weight_map: dict[str, str] = {}
    for number in range(shards):
        file_name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        group = {name: shape.tensors[name] for name in names[number * most : (number + 1) * most]}
        _write_sparse_file(folder / file_name, group, dtype, norm)
        weight_map |= dict.fromkeys(group, file_name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(shape.config))
    write_tokenizer(folder)
    return folder


def write_sparse_adapter(folder: Path, factors: Mapping[str, tuple[int, ...]], rank: int) -> Path:
    """Write an adapter of one rank whose factors, by the names peft gives them, are holes."""
    folder.mkdir(parents=True)
    _write_sparse_file(folder / "adapter_model.safetensors", factors, "F32", 0.0)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def _write_sparse_file(path: Path, group: Mapping[str, tuple[int, ...]], dtype: str, norm: float) -> None:
    header = build_header((name, dtype, shape) for name, shape in group.items())
    position = len(header)
    with path.open("wb") as file:
        file.write(header)
        for shape in group.values():
            elements = int(np.prod(shape))
            if len(shape) == 1:
                os.pwrite(file.fileno(), np.full(elements, norm, _CODES[dtype]).tobytes(), position)
            position += elements * DTYPE_BYTES[dtype]
        file.truncate(position)
