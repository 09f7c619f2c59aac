"""Blocks of commands in the documents: those that need no cluster and no Internet are run, as they are written.

`tests/unit/test_document_commands.py` holds all of them against the parsers of their programs.
"""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from support.adapters import adapter_config, low_rank_weights, write_adapter
from support.checkpoints import delta_weights, model_weights, write_checkpoint
from support.documented_commands import commands
from support.documents import PAGES, ROOT, SHELL, Code, blocks, shell
from vicuna_server.merge.job import run_merge
from vicuna_server.merge.request import Request
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Silent

USAGE = re.compile(r"\[-|\[\[")
NOT_HERE = {
    **dict.fromkeys(("helm", "kind", "kubectl", "kubectl-vicuna", "velero"), "a cluster"),
    **dict.fromkeys(("cosign", "npm", "pip", "skopeo", "uv"), "the Internet"),
    "make": "an environment of its own, or it is what runs these tests",
}
"""Program to what it needs."""
ELSEWHERE = {
    "vicuna-server gateway": "tests/component/test_gateway_process.py",
    "vicuna-server chat": "tests/component/test_chat_terminal.py",
    "vicuna-operator up": "tests/component/test_local_up.py",
    "cat SHA256SUMS": "tests/releases/test_made.py",
}
"""What goes on until it is ended, or wants files of its own: the beginning of the first command to what runs it."""
CODE = [code for page in PAGES if page.name != "CHANGELOG.md" for code in blocks(page) if code.language in SHELL]


def first(code: Code) -> str:
    return " ".join(next(commands(shell(code)), [])[:2])


def runs_here(code: Code) -> bool:
    """Tell whether a block is run by this file."""
    programs = {words[0] for words in commands(shell(code))}
    return bool(programs) and not (USAGE.search(code.text) or programs & set(NOT_HERE) or first(code) in ELSEWHERE)


HERE = [code for code in CODE if runs_here(code)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models under the names that the documents use, and a volume with an artifact."""
    place = tmp_path_factory.mktemp("documented")
    base = model_weights(1)
    write_checkpoint(place / "llama-7b", base)
    write_checkpoint(place / "vicuna-7b-delta-v1.1", delta_weights(2))
    write_checkpoint(place / "our-model", {name: tensor * 1.125 for name, tensor in base.items()})
    for number, name in enumerate(("chinese-llama-lora", "chinese-alpaca-lora"), start=3):
        write_adapter(place / name, low_rank_weights(number), adapter_config())
    request = Request(str(place / "our-model"), None, place / "artifacts", chat_template="vicuna_v1.1")
    run_merge(request, Control(Silent(), threading.Event()))
    return place


@pytest.mark.parametrize("code", HERE, ids=str)
def test_a_block_runs_as_it_is_written(code: Code, folder: Path) -> None:
    """But for the name of the artifact that is kept."""
    made = next((folder / "artifacts").glob("[0-9a-f]*"))
    text = re.sub(r"(?<=--keep )[0-9a-f]{16}", made.name, shell(code))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    words = ["bash", "-euo", "pipefail", "-c", text]
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


def test_blocks_that_are_run_are_found_and_the_others_have_a_test() -> None:
    assert {first(code) for code in HERE} >= {"vicuna-server inspect", "vicuna-server make-delta"}
    assert [name for name in ELSEWHERE.values() if not (ROOT / name).exists()] == []
    assert set(ELSEWHERE) <= {first(code) for code in CODE}
