"""`vicuna-server inspect hf://…`: the same as of a copy, without fetching a weight."""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.hub import COMMIT, Fault, Hub, running_hub
from support.wide import wide_weights, write_in_files
from vicuna_server.cli import main

BASE, DELTA = "hf://me/base@main", "hf://lmsys/vicuna-7b-delta-v1.1@main"
Inspect = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("pair")
    base = write_in_files(place / "base", wide_weights(1, 1.0), 2)
    return [base, write_in_files(place / "delta", wide_weights(2, 0.0), 3)]


@pytest.fixture
def hub(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub(monkeypatch) as server:
        server.repositories = dict(zip(("me/base", "lmsys/vicuna-7b-delta-v1.1"), folders, strict=True))
        yield server


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inspect:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def run(*words: object) -> tuple[int, dict[str, Any]]:
        code = main(["inspect", "--json", *map(str, words)])
        assert not list(tmp_path.iterdir())
        return code, json.loads(capsys.readouterr().out)

    return run


def test_a_pair_is_described_as_its_copy_is(inspect: Inspect, hub: Hub, folders: list[Path]) -> None:
    code, remote = inspect(BASE, DELTA, "--digest")
    assert code == 0
    assert not [asked for asked in hub.asked if asked.is_fetch]
    _, local = inspect(*folders, "--digest", "--chat-template", "vicuna_v1.1")
    where = {"uri", "fingerprint", "chatTemplate"}  # the last: Vicuna's own repositories are known by name
    for mine, copy in zip(remote["sources"], local["sources"], strict=True):
        assert mine["fingerprint"].endswith(f"@{COMMIT}")
        assert {key: mine[key] for key in mine.keys() - where} == {key: copy[key] for key in copy.keys() - where}
    assert remote["plan"] | {"artifactID": None} == local["plan"] | {"artifactID": None}


def test_the_artifact_is_the_one_a_merge_makes(
    inspect: Inspect, hub: Hub, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    _, report = inspect(BASE, DELTA)
    out = tmp_path_factory.mktemp("out")
    assert main(["merge", "--base", BASE, "--delta", DELTA, "--output", str(out), "--quiet"]) == 0
    assert [path.name for path in out.iterdir()] == [report["plan"]["artifactID"]]


def test_what_is_wrong_is_told_by_uri(inspect: Inspect, hub: Hub) -> None:
    code, report = inspect("hf://me/none@main", BASE)
    assert code == 65
    assert [finding["reason"] for finding in report["sources"][0]["problems"]] == ["SourceNotFound"]
    code, report = inspect(BASE, "hf://me/base@other")
    assert code == 65
    assert {finding["reason"] for finding in report["problems"]} >= {"SameCheckpoint"}
    message = report["problems"][0]["message"]
    assert message.startswith(f"{BASE} and hf://me/base@other hold the same weights")


def test_a_hub_that_is_away_is_not_a_fault_of_the_source(
    hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICUNA_HUB_PATIENCE_SECONDS", "0")
    hub.fault = lambda _: Fault(503)
    assert main(["inspect", BASE]) == 69
    assert capsys.readouterr().err.startswith(f"vicuna-server inspect: SourceUnreachable: {BASE} cannot be fetched")
