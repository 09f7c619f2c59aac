"""`vicuna-operator up`: the rendered containers as real processes, with the scripted engine on a tiny checkpoint."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from safetensors.torch import load_file

from support.checkpoints import delta_weights, model_weights, write_checkpoint

MANIFEST = """
apiVersion: vicuna.dev/v1alpha1
kind: VicunaModel
metadata: {{name: tiny}}
spec:
  weights:
    base: {{source: "pvc://inputs/base"}}
    delta: {{source: "pvc://inputs/{delta}"}}
  serving: {{numGpus: 0, replicas: 2, chatTemplate: vicuna_v1.1}}
"""
ODD_NAME = "delta#2 what? 100%25"  # beside a folder that a reader of URLs would take for it
NOTHING: Mapping[str, str] = MappingProxyType({})
# Ask the server we are given, and print what it says of itself.
ASK = "import os, urllib.request as r; print(r.urlopen(os.environ['VICUNA_URL'] + '/v1/models').read().decode())"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_checkpoint(folder / "base", model_weights(1), "bin-sharded")
    write_checkpoint(folder / "delta", delta_weights(2), "safetensors")
    write_checkpoint(folder / ODD_NAME, delta_weights(3), "safetensors")
    headless = {name: tensor for name, tensor in delta_weights(2).items() if name != "lm_head.weight"}
    write_checkpoint(folder / "lost-head", headless)
    return folder


@pytest.fixture
def port() -> int:
    return unused_port()


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Up:
    """One place to run `up` in."""

    def __init__(self, folder: Path, inputs: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.words = ["--data", "data", "--volume", f"inputs={inputs}", "--port", str(port)]

    def start(self, *command: str, delta: str = "delta", env: Mapping[str, str] = NOTHING) -> subprocess.Popen[str]:
        (self.folder / "model.yaml").write_text(MANIFEST.format(delta=delta))
        words = [sys.executable, "-m", "vicuna_operator", "up", "model.yaml", *self.words]
        if command:
            words += ["--", *command]
        return subprocess.Popen(
            words,
            cwd=self.folder,
            env={**os.environ, "VICUNA_ENGINE": "scripted", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, delta: str = "delta", env: Mapping[str, str] = NOTHING) -> tuple[int, str, str]:
        process = self.start(*command, delta=delta, env=env)
        out, err = process.communicate(timeout=100)
        return process.returncode, out, err

    def files(self) -> list[str]:
        found = (path for path in (self.folder / "data").rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.folder / "data")) for path in found)


@pytest.fixture
def up(tmp_path: Path, inputs: Path, port: int) -> Up:
    return Up(tmp_path, inputs, port)


@dataclass(frozen=True)
class First:
    """A first run that asked its server: its place, and what came of it."""

    place: Up
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, inputs: Path) -> First:
    place = Up(tmp_path_factory.mktemp("first"), inputs, unused_port())
    return First(place, *place.run(sys.executable, "-c", ASK))


@pytest.fixture
def merged(up: Up, first: First) -> Up:
    """A place where a run before has left its artifact: what is about the server need not merge again."""
    assert first.code == 0, first.err
    shutil.copytree(first.place.folder / "data", up.folder / "data")
    return up


def free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_folder_that_is_named_is_merged_whatever_its_name(up: Up) -> None:
    code, _, err = up.run("true", delta=ODD_NAME)
    assert code == 0, err
    (merged,) = (up.folder / "data").rglob("*.safetensors")
    want = {name: base + delta_weights(3)[name] for name, base in model_weights(1).items()}
    assert all(torch.equal(tensor, want[name]) for name, tensor in load_file(merged).items())


def test_a_folder_that_exists_only_decoded_is_refused_with_both_spellings(up: Up, inputs: Path) -> None:
    (inputs / "a b").mkdir(exist_ok=True)
    code, _, err = up.run("true", delta="a%20b")
    assert code == 65
    assert f"{inputs}/a%20b does not exist, but {inputs}/a b does" in err


def test_merges_serves_runs_the_command_and_leaves_only_the_artifact(first: First) -> None:
    assert first.code == 0, first.err
    assert "merged: artifact" in first.out
    assert "running 1 of 2 replicas" in first.out
    listed = json.loads(next(line for line in first.out.splitlines() if line.startswith("{")))
    assert [item["id"] for item in listed["data"]] == ["tiny"]
    assert free(first.place.port)
    artifacts = {Path(name).parts[:4] for name in first.place.files()}
    assert len(artifacts) == 1, artifacts


def test_a_second_run_writes_nothing(merged: Up) -> None:
    before = {name: (merged.folder / "data" / name).stat().st_mtime_ns for name in merged.files()}
    assert before
    assert merged.run("true")[0] == 0
    assert {name: (merged.folder / "data" / name).stat().st_mtime_ns for name in merged.files()} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stays_until_interrupted_and_takes_its_server_along(merged: Up, number: signal.Signals) -> None:
    process = merged.start()
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("press Ctrl-C"):
            break
    with urllib.request.urlopen(f"http://127.0.0.1:{merged.port}/readyz", timeout=10) as answer:
        assert answer.status == 200
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert free(merged.port)


def test_the_commands_exit_code_is_ours(merged: Up) -> None:
    assert merged.run("sh", "-c", "exit 7")[0] == 7


def test_a_command_that_does_not_exist_is_named(up: Up) -> None:
    code, _, err = up.run("no-such-program")
    assert (code, "no-such-program" in err) == (66, True)
    assert free(up.port)


def test_a_wrong_input_is_said_once_and_leaves_nothing(up: Up) -> None:
    code, _, err = up.run("true", delta="absent")
    assert code == 65
    assert "SourceNotFound" in err
    assert "Traceback" not in err
    assert up.files() == []


def test_a_model_that_is_not_whole_is_told_before_it_is_merged(up: Up) -> None:
    code, out, err = up.run("true", delta="lost-head")
    assert (code, "TensorMissing" in err, "lacks lm_head.weight" in err) == (65, True, True), err
    assert "merge it again" not in out + err
    assert up.files() == []


def test_a_port_in_use_is_found_before_the_merge(up: Up) -> None:
    with socket.create_server(("127.0.0.1", up.port)):
        code, out, err = up.run("true")
    assert code == 69
    assert str(up.port) in err
    assert "--port" in err
    assert out == ""
    assert up.files() == []


def test_a_folder_that_does_not_exist_is_named(up: Up, tmp_path: Path) -> None:
    up.words[up.words.index("--volume") + 1] = f"inputs={tmp_path}/nowhere"
    code, _, err = up.run("true")
    assert code == 66
    assert f"{tmp_path}/nowhere" in err


def test_a_claim_that_the_model_does_not_use_is_named(up: Up, tmp_path: Path) -> None:
    up.words += ["--volume", f"input={tmp_path}"]
    code, _, err = up.run("true")
    assert code == 64
    assert "--volume input: the model does not use this claim; name one of " in err
    assert "inputs" in err
    assert up.files() == []


def test_a_proxy_is_not_asked_for_this_machine(merged: Up) -> None:
    """Neither by `up` itself nor by the chat that it runs: it would never say that the server is ready."""
    nowhere = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    chat = [sys.executable, "-m", "vicuna_server", "chat", "--prompt", "so it is", "--max-new-tokens", "3"]
    code, out, err = merged.run(*chat, env=nowhere)
    assert (code, "so it is" in out) == (0, True), err
