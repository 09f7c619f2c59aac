"""`vicuna-server make-delta`: FastChat's numbers, the way back through a merge, and what is told of rounding."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.checkpoints import VOCABULARY, Weights, delta_weights, model_weights, write_checkpoint, write_tokenizer
from support.hub import Hub, running_hub
from vicuna_server.artifacts import staging
from vicuna_server.cli import main
from vicuna_server.files.storage import fsync_folder

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Run = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def make(
        *words: object, base: object = None, tuned: object = None, output: str = "delta"
    ) -> tuple[int, list[dict[str, Any]], str]:
        named = ["--base", base or tmp_path / "base", "--tuned", tuned or tmp_path / "tuned"]
        code = main(["make-delta", "--output", str(tmp_path / output), *map(str, (*named, *words))])
        said = capsys.readouterr()
        return code, [json.loads(line) for line in said.out.splitlines()], said.err

    return make


def _tuned(base: Weights, dtype: torch.dtype = torch.float16, rows: int = VOCABULARY) -> Weights:
    """A model near the base, but for one matrix, with rows of its own."""
    random = torch.Generator().manual_seed(9)
    near = {
        name: (tensor.float() * (1 + 0.2 * torch.rand(tensor.shape, generator=random))).to(dtype)
        for name, tensor in base.items()
    }
    near["model.layers.1.mlp.up_proj.weight"] = model_weights(5)["model.layers.1.mlp.up_proj.weight"].to(dtype)
    if rows > VOCABULARY:
        more = model_weights(6, dtype, rows)
        near |= {name: torch.cat([near[name], more[name][VOCABULARY:]]) for name in (EMBEDDING, HEAD)}
    return near


def _merge(tmp_path: Path, dtype: str, kind: str) -> tuple[Weights, Path]:
    sources = ["--base", str(tmp_path / "base"), "--delta", str(tmp_path / "delta"), "--dtype", dtype, "--kind", kind]
    assert main(["merge", *sources, "--output", str(tmp_path / "out"), "--chat-template", "alpaca", "--quiet"]) == 0
    (folder,) = (tmp_path / "out").iterdir()
    return load_file(folder / "model.safetensors"), folder


def _fastchat(base: Weights, tuned: Weights) -> Weights:
    """FastChat's make_delta: both in float16, `target -= base`; for v0 the base has zero rows more."""
    made = {name: tensor.half().clone() for name, tensor in tuned.items()}
    for name, tensor in made.items():
        known = base[name].half()
        tensor -= torch.cat([known, torch.zeros(len(tensor) - len(known), *known.shape[1:]).half()])
    return made


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view({2: torch.int16, 4: torch.int32}[tensor.element_size()])


@pytest.mark.parametrize(
    ("rows", "kind", "layout"),
    [(VOCABULARY, "additive-v1.1", "safetensors-sharded"), (VOCABULARY + 3, "additive-v0", "bin-sharded")],
)
def test_the_delta_is_fastchats_and_what_is_lost_on_the_way_back_is_counted(
    tmp_path: Path, run: Run, rows: int, kind: str, layout: str
) -> None:
    base = model_weights(1)
    tuned = _tuned(base, rows=rows)
    write_checkpoint(tmp_path / "base", base, layout)
    folder = write_checkpoint(tmp_path / "tuned", tuned, config={"rope_theta": 10000.0}, tokenizer=False)
    write_tokenizer(folder, rows)
    code, events, _ = run()
    assert code == 0
    want = _fastchat(base, tuned)
    made = load_file(tmp_path / "delta" / "model.safetensors")
    assert made.keys() == want.keys()
    assert all(torch.equal(_bits(made[name]), _bits(want[name])) for name in want)
    config = json.loads((tmp_path / "delta" / "config.json").read_text())
    assert (config["vocab_size"], config["torch_dtype"], config["rope_theta"]) == (rows, "float16", 10000.0)
    assert (tmp_path / "delta" / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "delta", "tuned"]

    back, _ = _merge(tmp_path, "float16", "auto")
    lost = {name: int((_bits(back[name]) != _bits(tuned[name])).sum()) for name in tuned}
    done = events[-1]
    assert (done["event"], done["kind"], done["path"]) == ("done", kind, str(tmp_path / "delta"))
    assert done["lost"] == {name: count for name, count in lost.items() if count}
    assert list(done["lost"]) == ["model.layers.1.mlp.up_proj.weight"]  # what is near the base comes back whole
    assert done["lostElements"] == sum(lost.values())
    assert done["elements"] == sum(tensor.numel() for tensor in tuned.values())
    (warning,) = [event for event in events if event["event"] == "warning"]
    assert warning["reason"] == "RoundTripDiffers"
    assert f"up_proj.weight ({sum(lost.values())})" in warning["message"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_float32_everything_comes_back(tmp_path: Path, run: Run, dtype: torch.dtype) -> None:
    base = model_weights(1)
    tuned = _tuned(base, dtype)
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "tuned", tuned)
    code, events, _ = run("--dtype", "float32")
    assert (code, events[-1]["lost"]) == (0, {})
    assert not [event for event in events if event["event"] == "warning"]
    back, _ = _merge(tmp_path, {torch.float16: "float16", torch.bfloat16: "bfloat16"}[dtype], events[-1]["kind"])
    assert all(torch.equal(_bits(back[name]), _bits(tuned[name])) for name in tuned)


def test_a_model_of_another_type_is_compared_in_its_own(tmp_path: Path, run: Run) -> None:
    base = model_weights(1)
    tuned = _tuned(base, torch.float32)
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "tuned", tuned)
    _, events, _ = run()
    back, _ = _merge(tmp_path, "float32", "auto")
    lost = {name: int((_bits(back[name]) != _bits(tuned[name])).sum()) for name in tuned}
    assert events[-1]["lost"] == {name: count for name, count in lost.items() if count}
    assert events[-1]["lostElements"] > events[-1]["elements"] / 2  # float32 values that float16 has not


def test_tied_models_give_their_tensor_once(tmp_path: Path, run: Run) -> None:
    base = {name: tensor for name, tensor in model_weights(1).items() if name != HEAD}
    tuned = {name: tensor for name, tensor in _tuned(model_weights(1)).items() if name != HEAD}
    for name, weights in (("base", base), ("tuned", tuned)):
        write_checkpoint(tmp_path / name, weights, config={"tie_word_embeddings": True})
    assert run()[0] == 0
    assert load_file(tmp_path / "delta" / "model.safetensors").keys() == base.keys()


@pytest.mark.parametrize(
    ("tuned", "config", "reason", "words"),
    [
        (delta_weights(2), {}, "NotAModel", "tuned looks like a delta"),
        (model_weights(1), {}, "SameCheckpoint", "before and after training"),
        (
            model_weights(2, vocabulary=VOCABULARY - 1),
            {},
            "VocabularyMismatch",
            "64 rows in the base and 63 in the tuned",
        ),
        ({**model_weights(2), HEAD: torch.ones(64, 8).half()}, {}, "ShapeMismatch", "in the tuned model"),
        (model_weights(2), {"rms_norm_eps": 1e-3}, "ConfigMismatch", "base and tuned model differ"),
        ({**model_weights(2), "model.norm.weight": torch.full((16,), torch.inf).half()}, {}, "NonFinite", "norm"),
        ({**model_weights(2), HEAD: torch.full((64, 16), torch.inf).half()}, {}, "NonFinite", "lm_head"),  # seen late
    ],
)
def test_what_makes_no_delta_is_refused_and_nothing_is_left(
    tmp_path: Path, run: Run, tuned: Weights, config: dict[str, Any], reason: str, words: str
) -> None:
    write_checkpoint(tmp_path / "base", model_weights(1))
    write_checkpoint(tmp_path / "tuned", tuned, config=config)
    code, _, said = run()
    assert code == 65
    assert f"make-delta: {reason}: " in said
    assert words in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "tuned"]


def test_all_problems_are_listed_at_once(tmp_path: Path, run: Run) -> None:
    write_checkpoint(tmp_path / "base", delta_weights(1))
    write_checkpoint(tmp_path / "tuned", model_weights(2, vocabulary=VOCABULARY - 1), tokenizer=False)
    _, _, said = run()
    assert all(reason in said for reason in ("NotABase", "VocabularyMismatch", "TokenizerBroken"))
    code, _, said = run(base=tmp_path / "nowhere", tuned=tmp_path / "nothing")
    assert code == 65
    assert all(f"{name} does not exist" in said for name in ("nowhere", "nothing"))


def test_the_output_may_be_an_empty_folder_and_nothing_else(tmp_path: Path, run: Run) -> None:
    write_checkpoint(tmp_path / "base", model_weights(1))
    write_checkpoint(tmp_path / "tuned", model_weights(2))
    (tmp_path / "delta").mkdir()
    assert run()[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "delta").iterdir()}
    code, _, said = run()
    assert (code, before) == (64, {path.name: path.read_bytes() for path in (tmp_path / "delta").iterdir()})
    assert "is not an empty folder" in said


def test_a_signal_or_a_folder_made_meanwhile_leaves_nothing_half_made(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path / "base", model_weights(1))
    write_checkpoint(tmp_path / "tuned", model_weights(2))

    def interrupt(path: Path) -> None:
        fsync_folder(path)
        (tmp_path / "delta").mkdir()
        (tmp_path / "delta" / "mine").write_text("kept")

    monkeypatch.setattr(staging, "fsync_folder", interrupt)
    code, _, said = run()
    assert code == 64, said
    assert [path.name for path in (tmp_path / "delta").iterdir()] == ["mine"]
    monkeypatch.undo()
    monkeypatch.setattr(
        "vicuna_server.make_delta.job.write_small_files", lambda *_: os.kill(os.getpid(), signal.SIGTERM)
    )
    code, _, _ = run(output="other")
    assert code == 75
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "delta", "tuned"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub(monkeypatch) as server:
        yield server


def test_both_may_lie_on_a_hub(tmp_path: Path, run: Run, hub: Hub) -> None:
    base, tuned = model_weights(1), _tuned(model_weights(1))
    hub.repositories = {
        "me/base": write_checkpoint(tmp_path / "base", base, "bin-sharded"),
        "me/tuned": write_checkpoint(tmp_path / "tuned", tuned, "safetensors-sharded"),
    }
    code, _, said = run(base="hf://me/base@main", tuned="hf://me/tuned@main")
    assert code == 0, said
    want = _fastchat(base, tuned)
    made = load_file(tmp_path / "delta" / "model.safetensors")
    assert all(torch.equal(made[name], want[name]) for name in want)
    assert {path.name for path in (tmp_path / "delta").iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
