"""LoRA adapters of the small checkpoints, and what peft itself makes of them."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from support.checkpoints import CONFIG, HIDDEN, LAYERS, Weights

INNER = 32
PREFIX = "base_model.model."
PROJECTIONS = dict.fromkeys(("self_attn.q_proj", "self_attn.v_proj"), (HIDDEN, HIDDEN)) | {
    "mlp.down_proj": (HIDDEN, INNER),
    "mlp.up_proj": (INNER, HIDDEN),
}


def adapter_config(**fields: Any) -> dict[str, Any]:
    """Return an adapter_config.json as peft's trainers write it."""
    plain = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "bias": "none"}
    targets = {"target_modules": [name.rpartition(".")[2] for name in PROJECTIONS], "modules_to_save": None}
    return plain | targets | {"base_model_name_or_path": "somebody/llama", "lora_dropout": 0.05} | fields


def low_rank_weights(seed: int, rank: int = 4, dtype: torch.dtype = torch.float32, **ranks: int) -> Weights:
    """Random factors of every projection; `ranks` gives other ones by the last part of a module's name."""
    random = torch.Generator().manual_seed(seed)
    found = {}
    for layer in range(LAYERS):
        for name, (rows, columns) in PROJECTIONS.items():
            module = f"model.layers.{layer}.{name}"
            r = ranks.get(name.rpartition(".")[2], rank)
            found[f"{module}.lora_A.weight"] = torch.randn(r, columns, generator=random).mul_(0.3).to(dtype)
            found[f"{module}.lora_B.weight"] = torch.randn(rows, r, generator=random).mul_(0.3).to(dtype)
    return found


def write_adapter(
    folder: Path, weights: Weights, config: dict[str, Any], *, layout: str = "safetensors", prefix: str = PREFIX
) -> Path:
    """Write an adapter as peft does (`safetensors`) or did (`bin`), its names behind `prefix`."""
    folder.mkdir(parents=True)
    state = {prefix + name: tensor.contiguous() for name, tensor in weights.items()}
    if layout == "bin":
        torch.save(state, folder / "adapter_model.bin")
    else:
        save_file(state, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def merged_by_peft(base: Weights, adapters: Sequence[Path], *, vocabulary: int | None = None) -> Weights:
    """Load the base, then per adapter: load it, `merge_and_unload`; as merge scripts on a CPU do.

    Args:
        base: the model's weights, in the type that the model is loaded in; without a head it is tied.
        adapters: folders, merged in order.
        vocabulary: what the embeddings are resized to before the first adapter.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from peft import PeftModel

        model = _model(base, vocabulary)
        for adapter in adapters:
            model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def written_by_peft(folder: Path, base: Weights, *, vocabulary: int | None = None, **config: Any) -> Path:
    """Let peft make an adapter of the base, fill it with random numbers and save it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(11)
        model = get_peft_model(_model(base, vocabulary), LoraConfig(task_type="CAUSAL_LM", **config))
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.normal_(std=0.2)
        model.save_pretrained(str(folder))
    return folder


def _model(base: Weights, vocabulary: int | None) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    tied = "lm_head.weight" not in base
    sizes: dict[str, Any] = CONFIG | {"vocab_size": len(base["model.embed_tokens.weight"]), "tie_word_embeddings": tied}
    model: Any = LlamaForCausalLM(LlamaConfig(**sizes))
    model.to(base["model.embed_tokens.weight"].dtype)
    model.load_state_dict(base, strict=not tied)
    if vocabulary:
        model.resize_token_embeddings(vocabulary, mean_resizing=False)
    return model


def ulps(left: torch.Tensor, right: torch.Tensor) -> int:
    """Return how many representable numbers two equal-typed tensors lie apart, at most."""
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    whole = torch.int32 if left.dtype == torch.float32 else torch.int16

    def place(tensor: torch.Tensor) -> torch.Tensor:
        bits = tensor.view(whole).to(torch.int64)
        sign = torch.iinfo(whole).min
        return torch.where(bits < 0, sign - bits, bits)

    return int((place(left) - place(right)).abs().max())
