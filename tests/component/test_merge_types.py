"""What the types of base, delta and result do to a merge: its numbers, its identity, and what is told of losses."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.checkpoints import Weights, delta_weights, model_weights, write_checkpoint
from vicuna_contract.termination import read_report
from vicuna_server.artifacts.identity import Fingerprints, artifact_id
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.artifacts.verify import fingerprints_of, verify
from vicuna_server.cli import main
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Silent

F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32
NAMES = {F16: "float16", BF16: "bfloat16", F32: "float32"}


def _merge(capsys: pytest.CaptureFixture[str], output: Path, *words: object) -> tuple[Path, dict[str, str]]:
    """Merge; return the artifact's folder and the warnings by reason."""
    options = ["--output", str(output), "--chat-template", "alpaca", "--quiet"]
    code = main(["merge", *map(str, words), *options])
    said = capsys.readouterr()
    assert code == 0, said.err
    events: list[dict[str, Any]] = [json.loads(line) for line in said.out.splitlines()]
    warnings = {event["reason"]: event["message"] for event in events if event["event"] == "warning"}
    return Path(events[-1]["path"]), warnings


def _pair(folder: Path, base: torch.dtype, delta: torch.dtype) -> list[object]:
    weights, more = model_weights(1, base), delta_weights(2, delta)
    return ["--base", write_checkpoint(folder / "base", weights), "--delta", write_checkpoint(folder / "delta", more)]


def test_the_ids_of_merges_whose_arithmetic_stayed_are_those_of_version_0_1_0() -> None:
    assert artifact_id(Fingerprints("b", "d"), "additive-v1.1", "float16") == "521cdab057c3c893"
    assert artifact_id(Fingerprints("b"), "none", "bfloat16") == "8f456da23d1b2897"
    assert artifact_id(Fingerprints("b", "d", ("p", "q")), "alpaca", "float32") == "8e2d1724ee47f507"


@pytest.mark.parametrize(
    ("base", "delta", "output", "stays"),
    [
        (F16, F16, F16, True),
        (F16, F16, BF16, True),
        (F16, F16, F32, True),
        (BF16, BF16, BF16, True),
        (F32, F32, F16, True),
        (F16, F32, F16, True),
        (BF16, F32, F16, True),
        (F16, BF16, F16, False),
        (BF16, F16, BF16, False),
        (F32, F16, F16, False),
        (F32, BF16, F32, False),
        (BF16, BF16, F16, False),
    ],
)
def test_only_a_merge_whose_arithmetic_changed_has_another_id(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    base: torch.dtype,
    delta: torch.dtype,
    output: torch.dtype,
    stays: bool,
) -> None:
    words = [*_pair(tmp_path, base, delta), "--dtype", NAMES[output]]
    folder, _ = _merge(capsys, tmp_path / "out", *words)
    manifest = Manifest.load(folder)
    assert manifest is not None
    plain = artifact_id(fingerprints_of(manifest), "additive-v1.1", NAMES[output])
    assert (folder.name == plain) is stays
    assert (manifest.recipe.addition, manifest.recipe.version) == (None if stays else "wide", 1)
    assert verify(folder, Control(Silent(), threading.Event()).advance)[1] == []
    assert _merge(capsys, tmp_path / "out", *words)[0] == folder


@pytest.mark.parametrize(("base", "delta"), [(F16, BF16), (BF16, F16), (F32, F16), (F32, BF16), (F16, F32)])
def test_a_merge_of_two_types_is_at_least_as_exact_as_fastchats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], base: torch.dtype, delta: torch.dtype
) -> None:
    folder, _ = _merge(capsys, tmp_path / "out", *_pair(tmp_path, base, delta), "--dtype", "float16")
    got, ours, theirs = load_file(folder / "model.safetensors"), model_weights(1, base), delta_weights(2, delta)
    for name, value in got.items():
        exact = ours[name].double() + theirs[name].double()
        fastchat = ours[name].half() + theirs[name].half()
        assert (value.double() - exact).abs().max() <= (fastchat.double() - exact).abs().max(), name


def _tailed(dtype: torch.dtype) -> Weights:
    """Weights of which float16 and bfloat16 lack some."""
    random = torch.Generator().manual_seed(3)
    factors = {
        name: torch.exp(3 * torch.randn(tensor.shape, generator=random).double()) for name, tensor in _MODEL.items()
    }
    return {name: (t.double() * factors[name]).to(dtype) if t.dim() == 2 else t.to(dtype) for name, t in _MODEL.items()}


_MODEL = model_weights(1)


@pytest.mark.parametrize(
    ("stored", "output", "lossy"),
    [
        (BF16, F16, True),
        (F32, F16, True),
        (F32, BF16, True),
        (F16, BF16, True),
        (torch.float64, F32, True),
        (BF16, F32, False),
        (F16, F16, False),
    ],
)
def test_values_changed_by_the_conversion_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stored: torch.dtype, output: torch.dtype, lossy: bool
) -> None:
    weights = _tailed(stored)
    base = write_checkpoint(tmp_path / "base", weights)
    lost = sum(int((tensor.to(output).to(stored) != tensor).sum()) for tensor in weights.values())
    assert (lost > 0) is lossy
    for _ in range(2):  # made, then found
        folder, warnings = _merge(capsys, tmp_path / "out", "--base", base, "--dtype", NAMES[output])
        assert ("ConversionLossy" in warnings) is lossy
        if lossy:
            assert warnings["ConversionLossy"].startswith(f"{lost} values were changed by converting them to")
            assert (f"--dtype {NAMES.get(stored)}" in warnings["ConversionLossy"]) is (stored in NAMES)
    manifest = Manifest.load(folder)
    assert manifest is not None
    assert sum(entry.changed for entry in manifest.files) == lost


def test_a_result_in_the_bases_type_is_not_called_lossy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, warnings = _merge(capsys, tmp_path / "out", *_pair(tmp_path, F16, F32), "--dtype", "float16")
    assert warnings == {}
    pair = _pair(tmp_path / "wide", F32, F32)
    _, warnings = _merge(capsys, tmp_path / "out", *pair, "--dtype", "float16")
    total = [model_weights(1, F32)[name] + delta for name, delta in delta_weights(2, F32).items()]
    lost = sum(int((tensor.half().float() != tensor).sum()) for tensor in total)
    assert warnings["ConversionLossy"].startswith(f"{lost} values")


@pytest.mark.parametrize("stored", [F16, BF16, F32])
@pytest.mark.parametrize("asked", [[], ["--dtype", "auto"]])
def test_the_bases_own_type_is_kept_where_none_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stored: torch.dtype, asked: list[str]
) -> None:
    weights = {name: tensor.to(stored) for name, tensor in model_weights(1, F32).items()}
    for name in ("model.norm.weight", "model.layers.0.input_layernorm.weight"):
        weights[name] = weights[name].float()  # as some releases keep their norms
    base = write_checkpoint(tmp_path / "base", weights, config={"torch_dtype": "float16"})
    folder, warnings = _merge(capsys, tmp_path / "out", "--base", base, *asked)
    assert warnings == {}
    found = load_file(folder / "model.safetensors")
    assert all(torch.equal(found[name], tensor.to(stored)) for name, tensor in weights.items())
    assert json.loads((folder / "config.json").read_text())["torch_dtype"] == NAMES[stored]
    explicit, _ = _merge(capsys, tmp_path / "out", "--base", base, "--dtype", NAMES[stored])
    assert explicit == folder  # the identity is of the type, not of how it was asked for
    delta = write_checkpoint(tmp_path / "delta", delta_weights(2))
    assert main(["inspect", "--json", str(base), str(delta), "--chat-template", "alpaca", *asked]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["dtype"] == NAMES[stored]


def test_the_last_word_of_a_merge_has_its_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(tmp_path / "log"))
    base = write_checkpoint(tmp_path / "base", _tailed(BF16), config={"eos_token_id": 1})
    for _ in range(2):  # made, then found
        _merge(capsys, tmp_path / "out", "--base", base, "--dtype", "float16")
        report = read_report((tmp_path / "log").read_text())
        assert report is not None
        assert [reason for reason, _ in report.warnings] == ["ConversionLossy", "TokenIdsRepaired"]
        assert "--dtype bfloat16 or auto (merge.dtype) keeps them" in report.warnings[0][1]
    _merge(capsys, tmp_path / "out", "--base", base, "--dtype", "bfloat16")
    report = read_report((tmp_path / "log").read_text())
    assert report is not None
    assert [reason for reason, _ in report.warnings] == ["TokenIdsRepaired"]
