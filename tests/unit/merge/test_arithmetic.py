"""base + delta, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vicuna_server.merge.files import LocalFile
from vicuna_server.merge.flow.arithmetic import combine as combine_step
from vicuna_server.merge.flow.arithmetic import count_non_finite
from vicuna_server.merge.flow.layout import Step
from vicuna_server.merge.tensors import DTYPE_BYTES, Tensor

_NOWHERE = LocalFile(Path("nowhere"))


def combine(base: memoryview, base_dtype: str, delta: memoryview | None, delta_dtype: str, output: str) -> memoryview:
    def tensor(data: memoryview, dtype: str) -> Tensor:
        return Tensor("t", dtype, (data.nbytes // DTYPE_BYTES[dtype],), _NOWHERE, 0)

    left = tensor(base, base_dtype)
    right = tensor(delta, delta_dtype) if delta is not None else None
    into = memoryview(bytearray((right or left).elements * DTYPE_BYTES[output]))
    combine_step(Step("t", (right or left).shape, output, left, right), base, delta, 0, into)
    return into


def _view(tensor: torch.Tensor) -> memoryview:
    return memoryview(bytearray(tensor.view(torch.uint8).numpy().tobytes()))


def _every_half() -> torch.Tensor:
    bits = torch.arange(65536, dtype=torch.int32).to(torch.int16)
    halves = bits.view(torch.float16)
    return halves[halves.isfinite()]


def test_float16_is_fastchats_sum_for_every_value_of_the_base() -> None:
    base = _every_half()
    delta = base[torch.randperm(len(base), generator=torch.Generator().manual_seed(1))]
    got = bytes(combine(_view(base), "F16", _view(delta), "F16", "F16"))
    reference = base.clone()
    reference += delta
    assert got == reference.numpy().tobytes()
    with np.errstate(over="ignore"):
        assert got == (base.numpy() + delta.numpy()).tobytes()


@pytest.mark.parametrize("output", ["F16", "BF16", "F32"])
def test_both_are_cast_to_the_deltas_type_and_the_sum_to_the_outputs(output: str) -> None:
    types = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
    base, delta = torch.randn(1000), torch.randn(1000).to(torch.bfloat16)
    want = (base.to(torch.bfloat16) + delta).to(types[output])
    assert bytes(combine(_view(base), "F32", _view(delta), "BF16", output)) == bytes(_view(want))


def test_rows_the_base_lacks_count_as_zero() -> None:
    base, delta = torch.tensor([1.0, 2.0]).half(), torch.tensor([0.5, 0.5, -0.25]).half()
    want = torch.tensor([1.5, 2.5, -0.25]).half()
    assert bytes(combine(_view(base), "F16", _view(delta), "F16", "F16")) == bytes(_view(want))
    assert bytes(combine(memoryview(b""), "F16", _view(delta), "F16", "F16")) == bytes(_view(delta))


def test_without_a_delta_the_base_is_cast() -> None:
    base = torch.randn(100)
    assert bytes(combine(_view(base), "F32", None, "F32", "F16")) == bytes(_view(base.half()))
    integers = torch.arange(5)
    assert bytes(combine(_view(integers), "I64", None, "I64", "I64")) == bytes(_view(integers))


@pytest.mark.parametrize(
    ("dtype", "torch_dtype"), [("F16", torch.float16), ("BF16", torch.bfloat16), ("F32", torch.float32)]
)
def test_values_that_are_no_numbers_are_counted(dtype: str, torch_dtype: torch.dtype) -> None:
    values = torch.ones(100, dtype=torch_dtype)
    assert count_non_finite(_view(values), dtype) == 0
    values[[3, 50, 99]] = torch.tensor([float("inf"), float("-inf"), float("nan")], dtype=torch_dtype)
    assert count_non_finite(_view(values), dtype) == 3
    assert count_non_finite(memoryview(b""), dtype) == 0
    assert count_non_finite(_view(torch.arange(9)), "I64") == 0
