"""Deltas that add rows to the vocabulary: which kind they are, and what each kind makes of them."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.checkpoints import HIDDEN, LAYERS, VOCABULARY, Weights, delta_weights, model_weights, write_checkpoint
from vicuna_server.errors import InputError, UsageError
from vicuna_server.files.data_file import LocalFile
from vicuna_server.merge.arithmetic import checksum
from vicuna_server.merge.job import run_merge
from vicuna_server.merge.preflight.kinds import resolve_kind
from vicuna_server.merge.request import Request
from vicuna_server.problems import Problems
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Silent, make_reporter
from vicuna_server.weights import torch_tensors
from vicuna_server.weights.checkpoint import open_checkpoint
from vicuna_server.weights.tensors import Tensor

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Merge = Callable[..., tuple[str, Weights, Path]]


@pytest.fixture
def merge(tmp_path: Path) -> Merge:
    def run(base: Weights, delta: Weights, layout: str = "safetensors", **options: Any) -> tuple[str, Weights, Path]:
        write_checkpoint(tmp_path / "base", base, layout)
        write_checkpoint(tmp_path / "delta", delta, layout)
        words = {"base": str(tmp_path / "base"), "delta": str(tmp_path / "delta"), "chat_template": "alpaca"}
        request = Request(output=tmp_path / "out", **(words | options))
        manifest = run_merge(request, Control(make_reporter(quiet=True), threading.Event()))
        folder = tmp_path / "out" / manifest.artifact_id
        return manifest.recipe.kind, load_file(folder / "model.safetensors"), folder

    return run


def _stanford(base: Weights, delta: Weights) -> Weights:
    """Recover as Stanford's script: everything float32, new rows start as the mean of the old ones."""
    raw = {name: tensor.float() for name, tensor in base.items()}
    for name in (EMBEDDING, HEAD):
        new = len(delta[name]) - len(raw[name])
        raw[name] = torch.cat([raw[name], raw[name].mean(dim=0, keepdim=True).expand(new, -1)])
    return {name: tensor + delta[name] for name, tensor in raw.items()}


def _alpaca_delta(rows: int, dtype: torch.dtype = torch.float32) -> Weights:
    """A delta as Stanford's: the embedding's new rows were never trained."""
    delta = delta_weights(2, dtype, vocabulary=VOCABULARY + rows)
    delta[EMBEDDING][VOCABULARY:] = 0
    return delta


@pytest.mark.parametrize("layout", ["safetensors", "bin"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 3])
def test_alpaca_is_found_and_recovered_as_stanford_does(
    merge: Merge, layout: str, dtype: torch.dtype, rows: int
) -> None:
    base, delta = model_weights(1, dtype), _alpaca_delta(rows)
    kind, got, folder = merge(base, delta, layout, dtype="float32")
    want = _stanford(base, delta)
    assert kind == "alpaca"
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], tensor) for name, tensor in want.items())
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == VOCABULARY + rows


def test_alpaca_is_cast_to_the_outputs_type_last(merge: Merge) -> None:
    base, delta = model_weights(1), _alpaca_delta(1)
    _, got, _ = merge(base, delta, dtype="float16")
    assert all(torch.equal(got[name], tensor.half()) for name, tensor in _stanford(base, delta).items())


def test_a_stated_alpaca_is_added_in_float32_though_stored_in_float16(merge: Merge) -> None:
    base, delta = model_weights(1), delta_weights(2, torch.float16, vocabulary=VOCABULARY + 1)
    _, got, _ = merge(base, delta, kind="alpaca", dtype="float32")
    assert all(torch.equal(got[name], tensor) for name, tensor in _stanford(base, delta).items())


def test_alpaca_without_new_rows_is_a_plain_sum(merge: Merge) -> None:
    base, delta = model_weights(1, torch.float32), delta_weights(2, torch.float32)
    kind, got, _ = merge(base, delta, kind="alpaca", dtype="float32")
    assert kind == "alpaca"
    assert all(torch.equal(got[name], base[name] + delta[name]) for name in base)


@pytest.mark.parametrize("columns", [64, 1000])
def test_the_mean_in_blocks_is_torchs_own_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setattr(torch_tensors, "_BLOCK_BYTES", 4 * 3000 * 128)  # two groups of columns at once
    monkeypatch.setattr(torch_tensors, "_READ_ELEMENTS", 7000)
    matrix = torch.randn(3000, columns, generator=torch.Generator().manual_seed(3)).half()
    (tmp_path / "raw").write_bytes(b"1234" + matrix.numpy().tobytes())
    file = LocalFile(tmp_path / "raw")
    got = torch_tensors.mean_row(Tensor("m", "F16", (3000, columns), file, 4), lambda _: tmp_path / "raw")
    assert torch.equal(got, matrix.float().mean(dim=0))


@pytest.mark.parametrize(
    ("dtype", "size", "want"),
    [
        (torch.float16, 0.01, "additive-v0"),
        (torch.float32, 0.0, "alpaca"),
        (torch.float32, 0.001, "alpaca"),  # the rows say nothing: the type decides
        (torch.float16, 0.001, "additive-v0"),
        (torch.bfloat16, 0.01, "additive-v0"),  # the type says nothing: the rows decide
        (torch.bfloat16, 0.0, "alpaca"),
        (torch.float16, 0.0, "AmbiguousDelta"),
        (torch.float32, 0.01, "AmbiguousDelta"),
        (torch.bfloat16, 0.001, "AmbiguousDelta"),
    ],
)
def test_type_and_size_of_the_added_rows_tell_the_kind(
    tmp_path: Path, dtype: torch.dtype, size: float, want: str
) -> None:
    base, delta = model_weights(1), delta_weights(2, dtype, vocabulary=VOCABULARY + 1)
    typical = base[EMBEDDING].float().norm(dim=1).median()
    row = torch.zeros_like(delta[EMBEDDING][0])
    row[3] = typical * size
    delta[EMBEDDING][VOCABULARY] = row
    problems = Problems()
    opened = [
        open_checkpoint(write_checkpoint(tmp_path / name, weights)) for name, weights in (("b", base), ("d", delta))
    ]
    found = resolve_kind("auto", opened[0], opened[1], problems)
    assert want in (found, *(reason for reason, _ in problems.found))
    assert bool(problems) == (want == "AmbiguousDelta")


def test_a_delta_with_fewer_rows_fits_no_kind(merge: Merge) -> None:
    base, delta = model_weights(1), delta_weights(2, torch.float32, vocabulary=VOCABULARY - 1)
    with pytest.raises(InputError, match=r"64 rows in the base and 63 in the delta") as caught:
        merge(base, delta, kind="alpaca")
    assert caught.value.reason == "VocabularyMismatch"


def _inverse_frequencies() -> float:
    width = HIDDEN // 2
    return LAYERS * float((1.0 / 10000.0 ** (torch.arange(0, width, 2, dtype=torch.float64) / width)).sum())


@pytest.mark.parametrize("buffers", [False, True])
@pytest.mark.parametrize(("off", "right"), [(0.0, True), (0.009, True), (0.011, False), (-0.011, False)])
def test_stanfords_checksum_is_of_float32_before_the_output_is_rounded(
    merge: Merge,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    buffers: bool,
    off: float,
    right: bool,
) -> None:
    base, delta = model_weights(1), _alpaca_delta(1)
    total = sum(float(tensor.double().sum()) for tensor in _stanford(base, delta).values())
    monkeypatch.setattr(checksum, "_RIGHT", total + off + buffers * _inverse_frequencies())
    merge(base, delta, dtype="bfloat16", alpaca_checksum=True)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    lossy, *said = [event for event in events if event["event"] in ("checksum", "warning")]
    assert lossy["reason"] == "ConversionLossy"  # bfloat16 was asked for
    assert len(said) == 1
    if right:
        assert said[0]["event"] == "checksum"
        assert said[0]["sum"] == pytest.approx(total, abs=1e-6)
    else:
        assert said[0]["reason"] == "ChecksumDiffers"


def test_a_checksum_is_of_all_weights_or_of_none(
    merge: Merge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, delta = model_weights(1), _alpaca_delta(1)
    merge(base, delta)
    again = {"base": str(tmp_path / "base"), "delta": str(tmp_path / "delta"), "chat_template": "alpaca"}
    request = Request(output=tmp_path / "out", alpaca_checksum=True, **again)  # type: ignore[arg-type]
    run_merge(request, Control(make_reporter(quiet=True), threading.Event()))
    assert "ChecksumUnknown" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"of kind additive-v1\.1") as caught:
        run_merge(
            replace(request, kind="additive-v1.1", output=tmp_path / "other"), Control(Silent(), threading.Event())
        )
    assert caught.value.reason == "KindMismatch"
    with pytest.raises(UsageError, match="--alpaca-checksum"):
        run_merge(replace(request, delta=None), Control(Silent(), threading.Event()))
