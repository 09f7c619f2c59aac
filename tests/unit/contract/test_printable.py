"""What a container prints must not steer a terminal."""

import json

import pytest

from vicuna_contract.printable import printable
from vicuna_contract.termination import read_report


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, tab\tand\nline", "plain, tab\tand\nline"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b2Jgone", "gone"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never closed", ""),
        ("\x1bcreset", "reset"),
        ("\x1b(Bset", "set"),
        ("a\rb\r\nc", "a\nb\nc"),
        ("\x00\x07\x08\x7f\x85", ""),
        ("pay\u202egnp.exe", "paygnp.exe"),
        ("half \ud800", "half "),
        ("ünï 模型 🦙", "ünï 模型 🦙"),
        ("\x1b", ""),
    ],
)
def test_sequences_and_controls_go_and_text_stays(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_words_of_a_container_are_printable() -> None:
    said = {"reason": "Odd", "message": "\x1b[31mred\x07", "log": "\x1b]0;x\x07line"}
    report = read_report(json.dumps(said))
    assert report is not None
    assert (report.message, report.log) == ("red", "line")


@pytest.mark.parametrize("name", ["../../etc", "-x", "x" * 64, "a b", ""])
def test_a_name_that_no_folder_and_no_label_can_have_is_not_an_artifact(name: str) -> None:
    report = read_report(json.dumps({"reason": "Merged", "artifactID": name}))
    assert report is not None
    assert report.artifact_id is None
