"""Weights taken tensor by tensor out of safetensors files."""

import json
from itertools import permutations
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vicuna_server.engine.builtin import weights
from vicuna_server.engine.builtin.weights import Weights


@pytest.mark.parametrize(("old", "new"), list(permutations([torch.float16, torch.bfloat16, torch.float32], 2)))
def test_every_number_is_converted_as_torch_does(
    old: torch.dtype, new: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_PIECE", 1000)
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    every = numbers.view(torch.float16 if old is torch.float32 else old).to(old).view(256, 256)
    save_file({"layer.weight": every}, tmp_path / "model.safetensors")
    module = torch.nn.Linear(256, 256, bias=False, device="meta")
    Weights(tmp_path, new).fill(module, "layer")
    assert module.weight.dtype is new
    torch.testing.assert_close(module.weight.detach(), every.to(new), atol=0, rtol=0, equal_nan=True)


def test_modules_are_taken_in_the_order_of_the_files(tmp_path: Path) -> None:
    for number, names in ((1, ("layers.10.a", "layers.2.a", "layers.1.b")), (2, ("layers.1.a", "layers.0.a"))):
        save_file({name: torch.zeros(1) for name in names}, tmp_path / f"model-{number}.safetensors")
    index = {"weight_map": {"x": "model-1.safetensors", "y": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    order = Weights(tmp_path, torch.float32).by_place([f"layers.{number}" for number in (0, 1, 2, 10)])
    assert order == ["layers.1", "layers.10", "layers.2", "layers.0"]  # safetensors sorts a file's by name
