"""The termination message: where it goes, that it stays small and whole, that it never raises."""

import json
from pathlib import Path

import pytest

from vicuna_server import termination


def test_writes_json_to_the_named_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(path))
    termination.write_termination_message({"reason": "PortInUse", "message": "é", "retryable": False})
    assert json.loads(path.read_bytes()) == {"reason": "PortInUse", "message": "é", "retryable": False}


def test_uses_the_pods_file_only_where_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "termination-log"
    monkeypatch.delenv("VICUNA_TERMINATION_LOG", raising=False)
    monkeypatch.setattr(termination, "_DEFAULT_PATH", path)
    termination.write_termination_message({"reason": "A"})
    assert not path.exists()
    path.touch()
    termination.write_termination_message({"reason": "A"})
    assert json.loads(path.read_bytes()) == {"reason": "A"}


@pytest.mark.parametrize("letter", ["x", "é", "😀", "\n", '"'])
def test_a_long_message_is_cut_and_stays_json(letter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(path))
    termination.write_termination_message({"reason": "R", "message": letter * 9000, "retryable": True})
    data = path.read_bytes()
    assert len(data) <= termination.MAX_BYTES
    read = json.loads(data)
    assert read["reason"] == "R"
    assert read["message"].startswith(letter * 500)


def test_never_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(tmp_path / "no" / "such" / "folder"))
    termination.write_termination_message({"reason": "R"})
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(tmp_path / "log"))
    termination.write_termination_message({"reason": object()})
    assert not (tmp_path / "log").exists()
