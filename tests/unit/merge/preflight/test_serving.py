"""What the server will refuse is told from the config, before the weights are merged."""

from typing import Any

import pytest

from vicuna_server.merge.preflight.serving import unserved_part, without_code


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"model_type": "mistral", "sliding_window": 4096}, "attention with a sliding_window"),
        ({"model_type": "mistral"}, "attention with a sliding_window"),  # transformers' default
        ({"model_type": "mistral", "sliding_window": None}, None),
        ({"model_type": "phi3", "sliding_window": 2047}, "attention with a sliding_window"),
        ({"model_type": "phi3"}, None),
        ({"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": False}, None),
        ({"model_type": "qwen2", "sliding_window": 4096}, None),
        (
            {"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": True},
            "attention with a sliding_window",
        ),
        ({"model_type": "llama", "sliding_window": 4096}, None),  # LLaMA's code knows none
        ({"model_type": "gemma2", "attn_logit_softcapping": 50.0}, "attention with attn_logit_softcapping"),
        (
            {"model_type": "x", "layer_types": ["full_attention", "linear_attention"]},
            "layers of type linear_attention (layer_types)",
        ),
        ({"model_type": "x", "layer_types": ["full_attention"]}, None),
        ({"model_type": "gpt2"}, "decoder for gpt2 models"),
        ({"model_type": "llama", "layer_types": [5]}, "layers of type 5 (layer_types)"),
        ({}, None),
    ],
)
def test_what_the_server_has_not_is_told(config: dict[str, Any], part: str | None) -> None:
    assert unserved_part(config) == part


def test_program_files_are_left_out_of_a_config() -> None:
    config = {"model_type": "llama", "auto_map": {"AutoConfig": "configuration_x.X"}}
    assert without_code(config) == {"model_type": "llama"}
