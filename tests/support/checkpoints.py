"""Small checkpoints of LLaMA's architecture in every published layout, for merge tests."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

HIDDEN, LAYERS, VOCABULARY = 16, 2, 64
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": LAYERS,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "bos_token_id": 1,
    "eos_token_id": 2,
}
Weights = dict[str, torch.Tensor]


def model_weights(
    seed: int, dtype: torch.dtype = torch.float16, vocabulary: int = VOCABULARY, layers: int = LAYERS
) -> Weights:
    """Random weights with norms of one, as a model has them."""
    random = torch.Generator().manual_seed(seed)
    shapes = {"model.embed_tokens.weight": (vocabulary, HIDDEN)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        shapes |= {f"{prefix}self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"}
        shapes |= {f"{prefix}mlp.{name}_proj.weight": (32, HIDDEN) for name in ("gate", "up")}
        shapes[f"{prefix}mlp.down_proj.weight"] = (HIDDEN, 32)
    shapes["lm_head.weight"] = (vocabulary, HIDDEN)
    weights = {name: torch.randn(shape, generator=random).mul_(0.1).to(dtype) for name, shape in shapes.items()}
    norms = ["model.norm.weight"]
    for layer in range(layers):
        norms += [f"model.layers.{layer}.{name}.weight" for name in ("input_layernorm", "post_attention_layernorm")]
    return weights | {name: torch.ones(HIDDEN, dtype=dtype) for name in norms}


def delta_weights(
    seed: int, dtype: torch.dtype = torch.float16, vocabulary: int = VOCABULARY, layers: int = LAYERS
) -> Weights:
    """Random differences with norms near zero, as a delta has them."""
    weights = model_weights(seed, dtype, vocabulary, layers)
    return {name: tensor * 0.01 if tensor.dim() == 1 else tensor for name, tensor in weights.items()}


def write_checkpoint(
    folder: Path,
    weights: Weights,
    layout: str = "safetensors",
    *,
    config: dict[str, Any] | None = None,
    tokenizer: bool = True,
    index: bool = True,
) -> Path:
    """Write weights as `safetensors`, `bin`, `safetensors-sharded` or `bin-sharded`, with config and tokenizer."""
    folder.mkdir(parents=True)
    suffix = "bin" if layout.startswith("bin") else "safetensors"
    whole = f"pytorch_model.{suffix}" if suffix == "bin" else f"model.{suffix}"
    files = _shards(whole, list(weights)) if layout.endswith("sharded") else {whole: list(weights)}
    for file_name, group in files.items():
        _save({name: weights[name] for name in group}, folder / file_name)
    if layout.endswith("sharded") and index:
        _write_index(folder / f"{whole}.index.json", files)
    (folder / "config.json").write_text(json.dumps(CONFIG | (config or {})))
    if tokenizer:
        write_tokenizer(folder)
    return folder


def _shards(whole: str, names: list[str]) -> dict[str, list[str]]:
    """Deal names out to three files, named as those of one that is cut in three."""
    stem, _, suffix = whole.rpartition(".")
    groups = enumerate((names[0::3], names[1::3], names[2::3]), start=1)
    return {f"{stem}-{number:05}-of-00003.{suffix}": group for number, group in groups}


def _write_index(path: Path, files: dict[str, list[str]]) -> None:
    weight_map = {name: file_name for file_name, group in files.items() for name in group}
    path.write_text(json.dumps({"weight_map": weight_map}))


def _save(state: Weights, path: Path) -> None:
    if path.suffix == ".bin":
        torch.save(state, path)
    else:
        save_file(state, path, metadata={"format": "pt"})


def write_tokenizer(folder: Path, vocabulary: int = VOCABULARY, **config: Any) -> None:
    """Write a tokenizer of whole words that transformers can load."""
    words = ["<unk>", "<s>", "</s>", *(f"w{number}" for number in range(vocabulary - 3))]
    special = [
        {"id": number, "content": word, "special": True, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False}
        for number, word in enumerate(words[:3])
    ]
    vocab = {word: number for number, word in enumerate(words)}
    content = {"version": "1.0", "added_tokens": special, "pre_tokenizer": {"type": "Whitespace"}}
    content["model"] = {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    plain = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(plain | {"unk_token": "<unk>"} | config))
