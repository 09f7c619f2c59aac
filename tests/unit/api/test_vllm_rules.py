"""What an engine does not take is refused by field, with the next step."""

from typing import Any

import pytest

from support.cluster import model_body
from vicuna_contract.heads import Heads
from vicuna_operator.api.model import parse_model
from vicuna_operator.api.types import ServingSpec
from vicuna_operator.api.vllm_rules import heads_fault


def refused(**serving: Any) -> str:
    return str(parse_model(model_body(serving=serving)).spec_error or "")


@pytest.mark.parametrize(
    ("serving", "field", "step"),
    [
        ({"engineImage": "a"}, "engineImage", "set engine to vllm, or remove it"),
        ({"engine": "builtin", "engineArgs": ["--enforce-eager"]}, "engineArgs", "set engine to vllm, or remove it"),
        ({"engine": "vllm", "quantization": "int8"}, "quantization", "engineArgs to [--quantization=fp8_per_tensor]"),
        ({"engine": "vllm", "quantization": "nf4"}, "quantization", "or leave engine out"),
        ({"engine": "vllm", "maxGpuMemory": "13Gi"}, "maxGpuMemory", "[--gpu-memory-utilization=0.5]"),
        ({"engine": "vllm", "device": "cpu"}, "numGpus", "set numGpus to 0 or leave device out"),
        (
            {"engine": "vllm", "engineArgs": ["--enforce-eager", "--trust-remote-code"]},
            "engineArgs[1]",
            "allowed are --",
        ),
        ({"engine": "vllm", "engineArgs": ["--tensor-parallel-size", "2"]}, "engineArgs[0]", "spec.serving.numGpus"),
        ({"engine": "llama.cpp"}, "engine", "'builtin' or 'vllm'"),
    ],
)
def test_each_is_named_with_the_next_step(serving: dict[str, Any], field: str, step: str) -> None:
    message = refused(**serving)
    assert message.startswith(f"spec.serving.{field}: ")
    assert step in message


@pytest.mark.parametrize(
    "serving",
    [
        {},
        {"engine": "builtin", "quantization": "int8", "maxGpuMemory": "13Gi", "device": "cpu"},
        {"engine": "builtin", "engineArgs": []},
        {"engine": "vllm", "engineImage": "a", "engineArgs": ["--quantization=fp8_per_tensor"], "numGpus": 8},
        {"engine": "vllm", "numGpus": 0, "device": "cpu"},
        {"engine": "vllm", "device": "cuda"},
    ],
)
def test_what_is_taken(serving: dict[str, Any]) -> None:
    assert refused(**serving) == ""


@pytest.mark.parametrize(
    ("gpus", "heads", "told"),
    [
        (3, Heads(40, 40), "share the model's 40 attention heads equally; set it to 1, 2, 4, 5, 8, 10, or leave"),
        (16, Heads(24, 8), "24 attention heads (8 of keys and values) equally; set it to 1, 2, 4, 8, or leave"),
        (4, Heads(40, 40), ""),
        (0, Heads(40, 40), ""),
        (3, None, ""),
    ],
)
def test_heads(gpus: int, heads: Heads | None, told: str) -> None:
    fault = heads_fault(ServingSpec(engine="vllm", num_gpus=gpus), heads)
    assert told in fault
    assert bool(fault) is bool(told)
    assert heads_fault(ServingSpec(num_gpus=gpus), heads) == ""
