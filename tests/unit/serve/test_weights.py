"""Weights taken tensor by tensor out of safetensors files."""

from itertools import permutations
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vicuna_server.engine import weights
from vicuna_server.engine.weights import Weights


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
