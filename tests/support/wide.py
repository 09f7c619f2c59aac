"""Checkpoints of some megabytes, in files that follow one another as published ones do."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from support.checkpoints import CONFIG, Weights, write_tokenizer

HIDDEN, INNER, LAYERS, VOCABULARY = 256, 512, 12, 64


def wide_weights(seed: int, norm: float) -> Weights:
    """Random weights of 16 MB; a model's norms are 1, a delta's 0."""
    random = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        shapes |= {f"{prefix}self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"}
        shapes |= {f"{prefix}mlp.{name}_proj.weight": (INNER, HIDDEN) for name in ("gate", "up")}
        shapes[f"{prefix}mlp.down_proj.weight"] = (HIDDEN, INNER)
        shapes |= {f"{prefix}{name}.weight": (HIDDEN,) for name in ("input_layernorm", "post_attention_layernorm")}
    shapes |= {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}
    vectors = {name: torch.full(shape, norm).half() for name, shape in shapes.items() if len(shape) == 1}
    return {name: torch.randn(shape, generator=random).mul_(0.1).half() for name, shape in shapes.items()} | vectors


def write_in_files(folder: Path, weights: Weights, count: int) -> Path:
    """Write weights as `count` safetensors files, in order, with index, config and tokenizer."""
    folder.mkdir(parents=True)
    names = list(weights)
    most = -(-len(names) // count)
    weight_map: dict[str, str] = {}
    for number in range(count):
        file_name = f"model-{number + 1:05}-of-{count:05}.safetensors"
        group = names[number * most : (number + 1) * most]
        save_file({name: weights[name] for name in group}, folder / file_name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(group, file_name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    sizes = {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY}
    (folder / "config.json").write_text(json.dumps(CONFIG | sizes))
    write_tokenizer(folder)
    return folder
