"""A base whose values lost three bits is told from one that kept them."""

from pathlib import Path

import pytest
import torch

from support.checkpoints import model_weights, write_checkpoint
from support.meta import whole_weights, write_meta
from vicuna_server.merge.preflight.lossy import base_is_lossy
from vicuna_server.weights.checkpoint import open_checkpoint


def _lossy(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.to(torch.bfloat16).to(torch.float16) for name, tensor in weights.items()}


def test_values_that_went_through_bfloat16_are_seen(tmp_path: Path) -> None:
    weights = model_weights(1)
    assert base_is_lossy(open_checkpoint(write_checkpoint(tmp_path / "lossy", _lossy(weights))))
    assert not base_is_lossy(open_checkpoint(write_checkpoint(tmp_path / "whole", weights)))


def test_subnormal_values_prove_nothing(tmp_path: Path) -> None:
    """2**-24 has its last bit set in float16, and bfloat16 holds it."""
    weights = model_weights(1)
    for name, tensor in weights.items():
        if tensor.dim() == 2:
            tensor[0, :4] = 2**-24
            assert _lossy({name: tensor})[name][0, 0] == 2**-24
    assert base_is_lossy(open_checkpoint(write_checkpoint(tmp_path / "lossy", _lossy(weights))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_float16_can_have_lost_bits(tmp_path: Path, dtype: torch.dtype) -> None:
    weights = {name: tensor.to(dtype) for name, tensor in _lossy(model_weights(1)).items()}
    assert not base_is_lossy(open_checkpoint(write_checkpoint(tmp_path / "m", weights)))


def test_zeros_prove_nothing(tmp_path: Path) -> None:
    weights = {name: torch.zeros_like(tensor) for name, tensor in model_weights(1).items()}
    assert not base_is_lossy(open_checkpoint(write_checkpoint(tmp_path / "m", weights)))


def test_permuted_rows_are_read_in_whole_units(tmp_path: Path) -> None:
    assert not base_is_lossy(open_checkpoint(write_meta(tmp_path / "7B", whole_weights(), 2)))
    assert base_is_lossy(open_checkpoint(write_meta(tmp_path / "lossy", _lossy(whole_weights()), 2)))
