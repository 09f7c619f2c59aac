"""`vicuna-server artifacts`: a flipped byte is found and named; what is in use, young or worked on is never removed."""

import errno
import json
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.checkpoints import delta_weights, model_weights, write_checkpoint
from vicuna_contract.names import MANIFEST_NAME
from vicuna_server.artifacts import pruning
from vicuna_server.artifacts.digests import hash_file
from vicuna_server.artifacts.journal import Journal
from vicuna_server.artifacts.lock import ArtifactLock
from vicuna_server.artifacts.manifest import FileEntry
from vicuna_server.cli import main
from vicuna_server.files.data_file import LocalFile
from vicuna_server.merge.job import run_merge
from vicuna_server.merge.request import Request
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Silent

LONG_AGO = 1_000_000_000
OTHER = "00000000000000aa"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume with one artifact of several files."""
    place = tmp_path_factory.mktemp("artifacts")
    base = write_checkpoint(place / "base", model_weights(1))
    delta = write_checkpoint(place / "delta", delta_weights(2))
    request = Request(str(base), str(delta), place / "root", chat_template="vicuna_v1.1", least_shard_bytes=8192)
    run_merge(request, Control(Silent(), threading.Event()))
    return place / "root"


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of it that was last used long ago."""
    path = shutil.copytree(made, tmp_path / "root")
    _age(path)
    return path


@pytest.fixture
def artifact(root: Path) -> Path:
    (folder,) = root.iterdir()
    return folder


@pytest.fixture
def control() -> Control:
    return Control(Silent(), threading.Event())


Run = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an action with --json; return exit code, lines and standard error."""

    def call(*words: object) -> tuple[int, list[dict[str, Any]], str]:
        try:
            code = main(["artifacts", *map(str, words), "--json"])
        except SystemExit as error:
            code = int(error.code or 0)
        captured = capsys.readouterr()
        lines = [json.loads(line) for line in captured.out.splitlines()]
        return code, [line for line in lines if line["event"] != "progress"], captured.err

    return call


def _age(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (LONG_AGO, LONG_AGO))


def _leave(root: Path, key: str) -> Path:
    """Leave what a merge leaves that was killed long ago."""
    folder = root / f".staging-{key}-1"
    folder.mkdir()
    journal = Journal(folder)
    journal.begin()
    (folder / "model.safetensors").write_bytes(b"finished")
    journal.append(FileEntry(path="model.safetensors", size=8, sha256="0" * 64))
    _age(folder)
    return folder


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def test_one_flipped_byte_in_any_file_is_found_and_the_file_named(run: Run, artifact: Path) -> None:
    assert run("verify", artifact.parent)[:2] == (0, [_verified(artifact)])
    paths = sorted(artifact.iterdir())
    assert len(paths) > 5
    for path in paths:
        whole = path.read_bytes()
        for place in (0, random.randrange(len(whole)), len(whole) - 1):
            _flip(path, place)
            code, (line,), err = run("verify", artifact.parent)
            assert code == 65
            assert [fault["file"] for fault in line["faults"]] == [path.name], place
            assert err.startswith(f"vicuna-server artifacts: ArtifactDamaged: {artifact.name}/{path.name} ")
            path.write_bytes(whole)


def _verified(artifact: Path) -> dict[str, Any]:
    size = sum(path.stat().st_size for path in artifact.iterdir())
    return {"event": "verified", "artifactID": artifact.name, "bytes": size, "fast": False, "faults": []}


def _add(artifact: Path) -> str:
    (artifact / "pytorch_model.bin").touch()
    return "pytorch_model.bin"


def _lose(artifact: Path) -> str:
    (artifact / "config.json").unlink()
    return "config.json"


def _unreadable(artifact: Path) -> str:
    (artifact / "config.json").unlink()
    (artifact / "config.json").mkdir()
    return "config.json"


def _header(artifact: Path) -> str:
    name = min(path.name for path in artifact.glob("*.safetensors"))
    _flip(artifact / name, 0)
    return name


def _rename(artifact: Path) -> str:
    artifact.rename(artifact.with_name(OTHER))
    return MANIFEST_NAME


def _no_checksum(artifact: Path) -> str:
    content = json.loads((artifact / MANIFEST_NAME).read_text())
    del content["checksum"]
    (artifact / MANIFEST_NAME).write_text(json.dumps(content))
    return MANIFEST_NAME


@pytest.mark.parametrize(
    ("damage", "fast"),
    [(_add, False), (_no_checksum, False), (_lose, True), (_unreadable, True), (_header, True), (_rename, True)],
)
def test_other_damage_is_named_too(run: Run, artifact: Path, damage: Callable[[Path], str], fast: bool) -> None:
    root = artifact.parent
    name = damage(artifact)
    for flags, finds in (([], True), (["--fast"], fast)):
        code, (line,), _ = run("verify", root, *flags)
        assert ([fault["file"] for fault in line["faults"]], code) == (([name], 65) if finds else ([], 0))


def test_a_read_that_fails_is_damage(run: Run, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pread(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("vicuna_server.artifacts.verify.hash_file", pread)
        code, (line,), _ = run("verify", artifact.parent)
    assert code == 65
    files = [fault["file"] for fault in line["faults"] if fault["what"] == "cannot be read: Input/output error"]
    assert files[:2] == ["chat_template.jinja", "config.json"]


def test_a_signal_ends_it_and_what_was_found_is_said(
    artifact: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(artifact, artifact.with_name("f" * 16))
    begun: list[str] = []

    def hash_then_stop(file: LocalFile, advance: Callable[[int], None]) -> str:
        begun.append(file.path.parent.name)
        if begun[-1] != artifact.name:
            os.kill(os.getpid(), signal.SIGTERM)
        return hash_file(file, advance)

    monkeypatch.setattr("vicuna_server.artifacts.verify.hash_file", hash_then_stop)
    assert main(["artifacts", "verify", str(artifact.parent)]) == 75
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"ok       {artifact.name}  0.02 MB"]
    assert err == "vicuna-server artifacts: Interrupted: a signal ended the run; start it again\n"


def test_progress_is_told_unless_asked_not_to(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["artifacts", "verify", str(artifact.parent), "--json"]) == 0
    *progress, _ = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    total = sum(path.stat().st_size for path in artifact.iterdir() if path.name != MANIFEST_NAME)
    assert (progress[-1]["bytesDone"], progress[-1]["bytesTotal"]) == (total, total)
    assert main(["artifacts", "verify", str(artifact.parent), "--json", "--quiet"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_listing_says_what_there_is(artifact: Path, capsys: pytest.CaptureFixture[str], control: Control) -> None:
    root = artifact.parent
    left = _leave(root, OTHER)
    with ArtifactLock(root, OTHER, control.cancellation):
        assert main(["artifacts", "list", str(root), "--json"]) == 0
        listing = json.loads(capsys.readouterr().out)
    (found,), (unfinished,) = listing["artifacts"], listing["unfinished"]
    assert (found["artifactID"], found["kind"], found["dtype"]) == (artifact.name, "additive-v1.1", "float16")
    assert found["size"] == _verified(artifact)["bytes"]
    assert [source["role"] for source in found["sources"]] == ["base", "delta"]
    assert found["usedAt"] == "2001-09-09T01:46:40Z"
    assert found["faults"] == []
    assert (unfinished["name"], unfinished["key"], unfinished["running"]) == (left.name, OTHER, True)
    (artifact / "config.json").unlink()
    assert main(["artifacts", "list", str(root)]) == 0
    heading, row, damaged, rest = capsys.readouterr().out.splitlines()
    assert heading.split() == ["ARTIFACT", "KIND", "DTYPE", "SIZE", "MADE", "USED", "SOURCES"]
    assert row.split()[:3] == [artifact.name, "additive-v1.1", "float16"]
    assert damaged == f"damaged: {artifact.name}/config.json is not there"
    assert rest.startswith(f"unfinished: {left.name}, 0.00 MB, ")
    assert rest.endswith("its merge is dead")


def test_what_nobody_uses_is_removed_and_said_before(run: Run, artifact: Path) -> None:
    root = artifact.parent
    left = _leave(root, OTHER)
    foreign = root / "notes"
    foreign.mkdir()
    code, plan, _ = run("prune", root, "--dry-run")
    assert code == 0
    assert [(line["event"], line.get("name")) for line in plan[:-1]] == [
        ("remove", artifact.name),
        ("remove", left.name),
    ]
    assert plan[-1] == {
        "event": "pruned",
        "count": 2,
        "bytes": sum(line["bytes"] for line in plan[:-1]),
        "dryRun": True,
    }
    assert len(list(root.iterdir())) == 3
    code, done, _ = run("prune", root, "--keep", "none")
    assert code == 0
    assert [line["name"] for line in done[:2]] == [line["name"] for line in plan[:2]]
    assert [(line["event"], line.get("name")) for line in done[2:-1]] == [
        ("removed", artifact.name),
        ("removed", left.name),
    ]
    assert done[-1] == plan[-1] | {"dryRun": False}
    assert list(root.iterdir()) == [foreign]


def test_what_is_in_use_stays_and_so_does_what_its_merge_can_go_on_with(run: Run, artifact: Path) -> None:
    root = artifact.parent
    useless, useful = _leave(root, artifact.name), _leave(root, OTHER)
    code, lines, _ = run("prune", root, "--keep", artifact.name, "--keep", OTHER)
    assert code == 0
    assert {line["name"]: line["why"] for line in lines if line["event"] == "keep"} == {
        artifact.name: "in use",
        useful.name: "in use",
    }
    assert not useless.exists()
    assert artifact.is_dir()
    assert useful.is_dir()


def test_what_was_made_or_found_a_moment_ago_stays(run: Run, artifact: Path) -> None:
    os.utime(artifact)  # as a merge does that finds it
    _, lines, _ = run("prune", artifact.parent, "--keep", "none")
    assert lines[0]["why"] == "too young"
    _, lines, _ = run("prune", artifact.parent, "--keep", "none", "--min-age", "0s")
    assert lines[-1]["count"] == 1


def test_what_a_merge_works_on_stays(run: Run, artifact: Path, control: Control) -> None:
    root = artifact.parent
    left = _leave(root, OTHER)
    with ArtifactLock(root, artifact.name, control.cancellation), ArtifactLock(root, OTHER, control.cancellation):
        _, lines, _ = run("prune", root, "--keep", "none")
        assert {line["why"] for line in lines if line["event"] == "keep"} == {"a merge works on it"}
        assert (
            pruning.prune(pruning.Candidate(artifact, artifact.name, 0, 1e9, None), 600, control.cancellation)
            is not None
        )
    assert left.is_dir()
    assert artifact.is_dir()


def test_what_a_merge_finds_while_it_is_being_removed_is_shown_again(
    run: Run, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The merge has set the folder's time between the plan and the rename."""
    real = os.rename

    def rename(old: Path, new: Path) -> None:
        if Path(old) == artifact:
            os.utime(artifact)
        real(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        code, lines, _ = run("prune", artifact.parent, "--keep", "none")
    assert code == 0
    assert (lines[1]["event"], lines[1]["why"]) == ("kept", "used a moment ago")
    assert lines[-1]["count"] == 0
    assert run("verify", artifact.parent)[0] == 0


def test_a_full_volume_can_be_pruned(run: Run, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for call in ("write", "pwrite"):
        monkeypatch.setattr(os, call, full)
    code, lines, _ = run("prune", artifact.parent, "--keep", "none")
    assert (code, lines[-1]["count"]) == (0, 1)
    assert not list(artifact.parent.iterdir())


def test_claims_of_the_dead_go_with_the_rest(run: Run, root: Path) -> None:
    lock = root / f".claim-{OTHER}"
    lock.write_text('{"nonce": "dead"}')
    half = root / f".claim-{OTHER}.half"
    half.touch()
    _age(root)
    run("prune", root, "--keep", "none")
    assert not list(root.iterdir())


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["prune", "{root}"], 64, "--keep"),
        (["prune", "{root}", "--keep", "0123"], 64, "not an artifactID"),
        (["prune", "{root}", "--keep", "none", "--min-age", "soon"], 64, "not a time such as"),
        (["verify", "{root}", "--only", OTHER], 65, f"ArtifactNotFound: {{root}} holds no {OTHER}"),
        (["verify", "{root}/nowhere"], 65, "SourceNotFound: {root}/nowhere is not a folder"),
        (["list", "{artifact}"], 64, "is an artifact itself; give the folder that holds it: {root}"),
        (["lint"], 64, "invalid choice"),
    ],
)
def test_what_is_not_understood_is_refused(run: Run, artifact: Path, words: list[str], code: int, says: str) -> None:
    places = {"root": artifact.parent, "artifact": artifact}
    got, lines, err = run(*(word.format(**places) for word in words))
    assert (got, lines) == (code, [])
    assert says.format(**places) in err
    assert artifact.is_dir()


def test_the_last_word_is_a_termination_message(
    run: Run, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "termination-log"
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(log))
    (artifact / "config.json").unlink()
    run("verify", artifact.parent, "--fast")
    assert json.loads(log.read_text())["reason"] == "ArtifactDamaged"
    _, lines, _ = run("prune", artifact.parent, "--keep", "none", "--min-age", "0")
    assert json.loads(log.read_text()) == {"reason": "Pruned", "count": 1, "bytes": lines[-1]["bytes"]}
