"""The real model; and every artifact that a component test leaves is whole for plain transformers."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.whole import Judge
from vicuna_server.merge.preflight import built, built_child

REPOSITORY = Path(__file__).parents[2]


def _run(*words: str) -> None:
    subprocess.run([sys.executable, *words], check=True, cwd=REPOSITORY, capture_output=True)


@pytest.fixture(scope="session")
def smollm2_pair() -> Path:
    """Return where `base` and `delta` are that add up to SmolLM2-135M-Instruct."""
    folder = Path(os.environ.get("VICUNA_DEMO_DIR", REPOSITORY / ".demo" / "pair")).absolute()
    _run("hack/demo_pair.py", "--output", str(folder))
    return folder


@pytest.fixture(scope="session")
def smollm2(smollm2_pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the artifact that `vicuna-server merge` makes of them."""
    root = tmp_path_factory.mktemp("artifacts")
    inputs = ("--base", f"file://{smollm2_pair}/base", "--delta", f"file://{smollm2_pair}/delta")
    _run("-m", "vicuna_server", "merge", *inputs, "--dtype", "float16", "--output", str(root))
    (folder,) = (path for path in root.iterdir() if (path / "vicuna-manifest.json").exists())
    return folder


@pytest.fixture(scope="module", autouse=True)
def engines_start_fast(forked_children: None) -> None:
    """Let the engines in this process have their processes at once."""


@pytest.fixture
def asked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the preflight ask transformers in this process: another would import it anew, which takes seconds.

    Without its bounds: what is hostile, or about the process, asks as the product does.
    """

    def ask(question: str) -> Any:
        with warnings.catch_warnings(record=True):  # there nobody makes errors of them
            return json.loads(built_child.reply(question))

    monkeypatch.setattr(built, "_ask", ask)
    monkeypatch.setattr(built, "_answers", {})


@pytest.fixture(scope="session")
def judge() -> Judge:
    """The one who has seen the artifacts so far."""
    return Judge()


@pytest.fixture(scope="module")
def module_folders(tmp_path_factory: pytest.TempPathFactory) -> set[Path]:
    """The folders that were there before the module, and those of tests that damage what they make."""
    return set(tmp_path_factory.getbasetemp().iterdir())


@pytest.fixture(autouse=True)
def whole_artifacts(
    request: pytest.FixtureRequest,
    judge: Judge,
    module_folders: set[Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """Judge what the test and the module's fixtures have left, unless the test says that it damages artifacts."""
    yield
    new = set(tmp_path_factory.getbasetemp().iterdir()) - module_folders
    if request.node.get_closest_marker("damaged") is not None:
        module_folders |= new
        return
    for folder in new:
        if folder.is_dir() and not folder.is_symlink():
            judge.judge(folder)
