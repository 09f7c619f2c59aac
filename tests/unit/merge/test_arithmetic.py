"""base + delta, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vicuna_server.files.data_file import LocalFile
from vicuna_server.merge.arithmetic import copying
from vicuna_server.merge.arithmetic.combining import combine as combine_tensor
from vicuna_server.merge.arithmetic.combining import count_non_finite
from vicuna_server.merge.arithmetic.layout import OutputTensor
from vicuna_server.merge.planning.pairing import sum_dtype
from vicuna_server.weights.tensors import DTYPE_BYTES, Tensor
from vicuna_server.weights.torch_tensors import TORCH, view_as

_NOWHERE = LocalFile(Path("nowhere"))


def combine(base: memoryview, base_dtype: str, delta: memoryview | None, delta_dtype: str, output: str) -> memoryview:
    def tensor(data: memoryview, dtype: str) -> Tensor:
        return Tensor("t", dtype, (data.nbytes // DTYPE_BYTES[dtype],), _NOWHERE, 0)

    left = tensor(base, base_dtype)
    right = tensor(delta, delta_dtype) if delta is not None else None
    into = memoryview(bytearray((right or left).elements * DTYPE_BYTES[output]))
    summed = sum_dtype("additive-v1.1", base_dtype, delta_dtype, output) if right else None
    combine_tensor(
        OutputTensor("t", (right or left).shape, output, left, right, sum_dtype=summed), base, delta, 0, into
    )
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


def _tailed(seed: int, dtype: torch.dtype, size: float) -> torch.Tensor:
    """Weights as trained models have them: heavy tails, some tiny."""
    random = torch.Generator().manual_seed(seed)
    return (size * torch.randn(4000, generator=random) * torch.exp(torch.randn(4000, generator=random))).to(dtype)


@pytest.mark.parametrize("output", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("delta_dtype", TORCH)
@pytest.mark.parametrize("base_dtype", TORCH)
def test_a_sum_is_rounded_once_and_no_worse_than_fastchats(base_dtype: str, delta_dtype: str, output: str) -> None:
    base, delta = _tailed(1, TORCH[base_dtype], 0.05), _tailed(2, TORCH[delta_dtype], 0.002)
    got = view_as(combine(_view(base), base_dtype, _view(delta), delta_dtype, output), output)
    exact = base.double() + delta.double()
    fastchat = base.half() + delta.half()
    if {base_dtype, delta_dtype} == {"F16"}:
        assert torch.equal(got, fastchat.to(TORCH[output]))
    else:
        rounded = exact.float().to(TORCH[output]) if "F64" not in (base_dtype, delta_dtype) else exact.to(TORCH[output])
        off = (got.double() - rounded.double()).abs() / exact.abs().clamp_min(1e-6)
        assert off.max() <= torch.finfo(torch.float32).eps  # a sum of two float32 is rounded as float32 first
    ours, theirs = (got.double() - exact).abs(), (fastchat.to(TORCH[output]).double() - exact).abs()
    assert ours.max() <= theirs.max()
    assert ours.sum() <= theirs.sum()


def test_values_that_the_outputs_type_has_not_are_counted() -> None:
    base = torch.tensor([1.0, 2.0**-30, 1 + 2.0**-7, -0.0, 2.0**-24]).bfloat16()
    source = Tensor("t", "BF16", (5,), _NOWHERE, 0)
    for output, changed in (("F16", 1), ("F32", 0)):
        into = memoryview(bytearray(5 * DTYPE_BYTES[output]))
        assert (
            combine_tensor(OutputTensor("t", (5,), output, source, counted=True), _view(base), None, 0, into) == changed
        )
        assert combine_tensor(OutputTensor("t", (5,), output, source), _view(base), None, 0, into) == 0


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
def test_values_that_are_not_numbers_are_counted(dtype: str, torch_dtype: torch.dtype) -> None:
    values = torch.ones(100, dtype=torch_dtype)
    assert count_non_finite(_view(values), dtype) == 0
    values[[3, 50, 99]] = torch.tensor([float("inf"), float("-inf"), float("nan")], dtype=torch_dtype)
    assert count_non_finite(_view(values), dtype) == 3
    assert count_non_finite(memoryview(b""), dtype) == 0
    assert count_non_finite(_view(torch.arange(9)), "I64") == 0


@pytest.mark.parametrize("dtype", [*TORCH, "I64"])
def test_what_is_only_copied_is_judged_alike_without_torch(dtype: str) -> None:
    kind = TORCH.get(dtype, torch.int64)
    plain = torch.tensor([0, -1, 3, 60000, -2, 7] * 100, dtype=torch.float64).to(kind)
    odd = plain.clone()
    if kind.is_floating_point:
        plain[5], odd[3], odd[4], odd[-1] = torch.finfo(kind).max, float("nan"), float("inf"), -float("inf")
    for tensor in (plain, odd, plain[:0]):
        assert copying.count_non_finite(_view(tensor), dtype) == count_non_finite(_view(tensor), dtype)
    assert copying.count_non_finite(_view(odd), dtype) == 3 * kind.is_floating_point
    into = memoryview(bytearray(odd.nbytes))
    source = Tensor("t", dtype, tuple(odd.shape), _NOWHERE, 0)
    assert copying.is_copy(OutputTensor("t", source.shape, dtype, source, None))
    assert copying.copy(OutputTensor("t", source.shape, dtype, source, None), _view(odd), None, 0, into) == 0
    assert bytes(into) == bytes(_view(odd))
