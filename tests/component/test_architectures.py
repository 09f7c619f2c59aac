"""The table of names and shapes is what transformers builds from the same config, in every family and variant."""

from typing import Any

import pytest
import torch
import transformers

from vicuna_server.merge.preflight.architectures import HEAD, skeleton_of

SMALL: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 64, "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2,
    "num_key_value_heads": 4,
}  # fmt: skip
GPT = {
    "vocab_size": 40,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "num_key_value_heads": 4,
}
LLAMAS = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3")
GROUPED: dict[str, Any] = {"num_key_value_heads": 2}

CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, SMALL) for name in (*LLAMAS, "gpt_neox", "phi")),
    *((name, SMALL | GROUPED | {"head_dim": 16}) for name in LLAMAS),
    *((name, SMALL | {"num_key_value_heads": None}) for name in ("llama", "qwen2", "qwen3", "phi3", "phi")),
    *((name, SMALL | {"attention_bias": True}) for name in (*LLAMAS, "gpt_neox")),
    *((name, SMALL | {"attention_bias": False}) for name in ("llama", "gpt_neox")),
    *((name, SMALL | {"tie_word_embeddings": tied}) for name in (*LLAMAS, "gpt_neox", "phi") for tied in (False, True)),
    ("llama", SMALL | {"mlp_bias": True}),
    ("llama", SMALL | {"head_dim": None}),
    ("phi", SMALL | GROUPED | {"qk_layernorm": True}),
    ("phi", SMALL | {"head_dim": 16, "qk_layernorm": True}),
    *((name, GPT | {"rotary_dim": 4}) for name in ("gptj", "gpt2")),
    *((name, GPT | {"n_inner": 50, "rotary_dim": 4, "tie_word_embeddings": False}) for name in ("gptj", "gpt2")),
    ("gpt2", {**GPT, "hidden_size": 24, "n_embd": 24}),
    ("gpt2", {"vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}),
    ("opt", SMALL | {"ffn_dim": 48}),
    ("opt", SMALL | {"ffn_dim": 48, "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    ("opt", SMALL | {"ffn_dim": 48, "enable_bias": False, "layer_norm_elementwise_affine": False}),
    ("opt", SMALL | {"ffn_dim": 48, "_remove_final_layer_norm": True, "tie_word_embeddings": False}),
]


def _built(model_type: str, config: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], str, bool]:
    hub: Any = transformers
    with torch.device("meta"):
        model = hub.AutoModelForCausalLM.from_config(hub.AutoConfig.for_model(model_type, **config))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    return shapes, model.base_model_prefix, tied


@pytest.mark.parametrize(("model_type", "config"), CASES)
def test_names_and_shapes_are_those_that_transformers_builds(model_type: str, config: dict[str, Any]) -> None:
    shapes, prefix, tied = _built(model_type, config)
    skeleton = skeleton_of({"model_type": model_type, **config})
    assert skeleton is not None
    assert (skeleton.prefix, skeleton.tied) == (f"{prefix}.", tied)
    assert {name: skeleton.shape(name) for name in shapes} == shapes
    assert list(skeleton.missing(shapes)) == []
    assert skeleton.count == len(shapes) - tied
    assert set(skeleton.missing([])) == shapes.keys() - ({HEAD} if tied else set())


@pytest.mark.parametrize("model_type", [*LLAMAS, "gpt_neox", "gptj", "gpt2", "opt", "phi"])
def test_what_a_config_leaves_out_is_what_transformers_takes(model_type: str) -> None:
    shapes, _, tied = _built(model_type, {})
    skeleton = skeleton_of({"model_type": model_type})
    assert skeleton is not None
    assert skeleton.tied == tied
    assert {name: skeleton.shape(name) for name in shapes} == shapes
    assert skeleton.count == len(shapes) - tied
