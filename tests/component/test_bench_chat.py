"""bench/chat.py from its command line to its table, with engines of others stood in for."""

import os
import re
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import psutil
import pytest

from support import llama_server, vllm
from support.bench import BENCH
from support.serving import write_tiny_model

SCRIPT = [sys.executable, str(BENCH / "chat.py")]
OURS, VLLM, OVER, LLAMA = "ours", "vLLM", "ours over vLLM", "llama.cpp"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model", endless=True)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with both programs of others, and a model for llama.cpp."""
    for name, module in (("vllm", vllm), ("llama-server", llama_server)):
        program = tmp_path / name
        noting = f"""printf '%s\\n' "$@" > {program}.argv"""
        program.write_text(f'#!/bin/sh\n{noting}\nexec {sys.executable} {module.__file__} "$@"\n')
        program.chmod(0o755)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("token_embd.weight", np.zeros((10, 4), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path


def run(model: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    words = [
        *SCRIPT,
        "--model",
        str(model),
        "--dtype",
        "float32",
        "--tokens",
        "6",
        "--rounds",
        "1",
        "--against",
        *flags,
    ]
    return subprocess.run(words, capture_output=True, text=True, timeout=280, env=dict(os.environ))


def rows(table: str) -> dict[tuple[int, str], list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {(int(row[0]), row[1]): row[2:] for row in cells if row[0].isdigit()}


@pytest.mark.full
@pytest.mark.timeout(300)
def test_every_engine_has_a_row_with_its_processor_time_and_its_share_of_the_bandwidth(
    model: Path, programs: Path
) -> None:
    llama = ["--llama-server", str(programs / "llama-server"), "--gguf", str(programs / "model.gguf")]
    done = run(model, "--vllm", str(programs), "--vllm-args=--enforce-eager", *llama, "--clients", "1", "2")
    assert done.returncode == 0, done.stderr
    found = rows(done.stdout)
    assert set(found) == {(clients, name) for clients in (1, 2) for name in (OURS, VLLM, OVER, LLAMA)}
    for speed, faster, _, sooner, processor, cheaper, share in found.values():
        assert float(speed) > 0
        assert float(processor) >= 0
        assert all(re.fullmatch(r"\d+\.\d\d|inf", ratio) for ratio in (faster, sooner, cheaper))
        assert re.fullmatch(r"\d+%", share)
    assert [found[clients, OURS][place] for clients in (1, 2) for place in (1, 3, 5)] == ["1.00"] * 6
    assert re.search(r"^memory is read at \d+\.\d GB/s$", done.stdout, re.MULTILINE)
    for name in (OURS, VLLM, OVER, LLAMA):
        assert re.search(rf"^{name}: ready after \d+\.\d s, \d+ MiB resident$", done.stdout, re.MULTILINE)
    assert re.search(r"^2 clients, ours over vLLM / vLLM: tok/s \d", done.stdout, re.MULTILINE)
    check_arguments(programs, model)
    commands = [" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if str(model) in command], "left behind"


def check_arguments(programs: Path, model: Path) -> None:
    argv = (programs / "vllm.argv").read_text().split()
    assert argv[:2] == ["serve", str(model)]
    assert argv[-1] == "--enforce-eager"
    assert argv[argv.index("--max-num-seqs") + 1] == "2"
    argv = (programs / "llama-server.argv").read_text().split()
    assert argv[argv.index("-np") + 1] == "2"
    assert int(argv[argv.index("-c") + 1]) >= 2 * 512


def test_llama_cpp_needs_both_its_program_and_its_model(model: Path) -> None:
    done = run(model, "--llama-server", "llama-server")
    assert done.returncode == 2
    assert "--llama-server and --gguf go together" in done.stderr
