"""The termination message: where it goes, that it stays small and whole, that it never raises."""

import json
import logging
import sys
from pathlib import Path

import pytest

from vicuna_contract.termination import MAX_BYTES
from vicuna_server import termination
from vicuna_server.errors import InputError


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
    assert len(data) <= MAX_BYTES
    read = json.loads(data)
    assert read["reason"] == "R"
    assert read["message"].startswith(letter * 500)


def test_never_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(tmp_path / "no" / "such" / "folder"))
    termination.write_termination_message({"reason": "R"})
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(tmp_path / "log"))
    termination.write_termination_message({"reason": object()})
    assert not (tmp_path / "log").exists()


def test_a_failure_carries_what_was_printed_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(tmp_path / "log"))
    error = InputError("ModelBroken", "no weights")
    with termination.keeping_output():
        print("x" * 5000)
        print("y" * 900)
        logging.StreamHandler(sys.stderr).emit(logging.makeLogRecord({"msg": "reading"}))
        print("one", file=sys.stderr)
        termination.write_termination_message(termination.failure_message(error))
    said = json.loads((tmp_path / "log").read_bytes())
    assert (said["reason"], said["message"]) == ("ModelBroken", "no weights")
    assert said["log"] == "y" * 900 + "\nreading\none", "whole lines, where one is short enough"
    assert capsys.readouterr() == ("x" * 5000 + "\n" + "y" * 900 + "\n", "reading\none\n")


def test_a_long_message_is_worth_more_than_what_was_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(tmp_path / "log"))
    termination.write_termination_message({"reason": "R", "message": "m" * 2500, "log": "l" * 1000})
    assert json.loads((tmp_path / "log").read_bytes()) == {"reason": "R", "message": "m" * 2500}


def test_output_is_kept_only_where_a_message_will_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VICUNA_TERMINATION_LOG", raising=False)
    monkeypatch.setattr(termination, "_DEFAULT_PATH", tmp_path / "termination-log")
    stream = sys.stdout
    with termination.keeping_output():
        assert sys.stdout is stream
        print("one")
        assert "log" not in termination.failure_message(InputError("R", "m"))


def test_the_termination_message_is_json_of_at_most_3_kib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    monkeypatch.setenv("VICUNA_TERMINATION_LOG", str(path))
    termination.write_termination_message(termination.failure_message(InputError("ShapeMismatch", "ü" * 5000)))
    content = json.loads(path.read_bytes())
    assert 2900 < path.stat().st_size <= 3072
    assert content["reason"] == "ShapeMismatch"
    assert content["retryable"] is False
    assert content["message"].endswith("ü…")
