"""An artifact in doubt is verified in full: kept if every byte is right, quarantined and merged again if not."""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from support.checkpoints import delta_weights, model_weights, write_checkpoint
from vicuna_contract.names import ASIDE_VARIABLE, MANIFEST_NAME, VERIFY_VARIABLE
from vicuna_server.artifacts.pruning import candidates
from vicuna_server.artifacts.verify import verify
from vicuna_server.cli import main
from vicuna_server.merge.job import run_merge
from vicuna_server.merge.request import Request
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Silent

Hurt = Callable[[Path], object]


@pytest.fixture
def request_of(tmp_path: Path) -> Request:
    base = write_checkpoint(tmp_path / "base", model_weights(1))
    delta = write_checkpoint(tmp_path / "delta", delta_weights(2))
    return Request(str(base), str(delta), tmp_path / "root", chat_template="vicuna_v1.1", verify_found=True)


def _control() -> Control:
    return Control(Silent(), threading.Event())


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _weights(folder: Path) -> Path:
    return next(folder.glob("*.safetensors"))


HURTS: dict[str, Hurt] = {
    "a byte of the weights": lambda folder: _flip(_weights(folder)),
    "a byte of a small file": lambda folder: _flip(folder / "config.json"),
    "a file beside the others": lambda folder: (folder / "extra.json").write_text("{}"),
}


@pytest.mark.parametrize("hurt", HURTS)
def test_what_is_damaged_is_put_aside_and_made_anew(request_of: Request, hurt: str) -> None:
    first = run_merge(request_of, _control())
    folder = request_of.output / first.artifact_id
    HURTS[hurt](folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    told = _control()
    assert run_merge(request_of, told).digest == first.digest
    assert verify(folder, _control().advance)[1] == []
    (aside,) = [path for path in request_of.output.iterdir() if path != folder]
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == before  # who reads it goes on reading it
    assert [reason for reason, _ in told.reporter.warnings] == ["ArtifactReplaced"]
    assert aside.name in told.reporter.warnings[0][1]


def test_what_is_whole_stays_and_so_does_what_an_earlier_version_made(request_of: Request) -> None:
    made = run_merge(request_of, _control())
    manifest = request_of.output / made.artifact_id / MANIFEST_NAME
    content = json.loads(manifest.read_text())
    content.pop("checksum", None)
    manifest.write_text(json.dumps(content))
    node = _weights(manifest.parent).stat().st_ino
    told = _control()
    run_merge(request_of, told)
    assert _weights(manifest.parent).stat().st_ino == node
    assert not told.reporter.warnings


def test_without_a_doubt_nothing_is_read(request_of: Request) -> None:
    made = run_merge(request_of, _control())
    _flip(_weights(request_of.output / made.artifact_id))
    run_merge(replace(request_of, verify_found=False), _control())
    assert verify(request_of.output / made.artifact_id, _control().advance)[1]


def test_the_variable_asks_for_it(request_of: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run_merge(request_of, _control())
    folder = request_of.output / made.artifact_id
    _flip(_weights(folder))
    monkeypatch.setenv(VERIFY_VARIABLE, "1")
    assert main([*request_of.to_argv(), "--quiet"]) == 0
    assert verify(folder, _control().advance)[1] == []


def test_what_was_put_aside_is_not_pruned_while_pods_may_read_it(request_of: Request) -> None:
    made = run_merge(request_of, _control())
    _flip(_weights(request_of.output / made.artifact_id))
    run_merge(request_of, _control())
    (aside,) = request_of.output.glob(".staging-damaged*")
    assert {each.path: each.kept for each in candidates(request_of.output, (), 0)}[aside] is not None
    released = candidates(request_of.output, (), 600, [made.artifact_id])
    assert {each.path: each.kept for each in released}[aside] is None
    assert {each.path: each.kept for each in candidates(request_of.output, (), 600, ["f" * 16])}[aside] is not None
    long_ago = aside.stat().st_mtime - 8 * 24 * 3600
    for path in (*aside.iterdir(), aside):
        os.utime(path, (long_ago, long_ago))
    assert {each.path: each.kept for each in candidates(request_of.output, (), 0)}[aside] is None


def test_what_nobody_reads_any_more_goes_and_the_artifact_stays(
    request_of: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run_merge(request_of, _control())
    folder = request_of.output / made.artifact_id
    _flip(_weights(folder))
    run_merge(request_of, _control())
    words = ["artifacts", "prune", str(request_of.output), "--keep", made.artifact_id]
    assert main(words) == 0
    assert list(request_of.output.glob(".staging-damaged*"))
    monkeypatch.setenv(ASIDE_VARIABLE, f"{'f' * 16},{made.artifact_id}")
    assert main(words) == 0
    assert not list(request_of.output.glob(".staging-*"))
    assert verify(folder, _control().advance)[1] == []
