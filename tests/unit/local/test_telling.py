"""What `vicuna-operator up` shows of a merge's lines."""

import json

import pytest

from vicuna_contract import events
from vicuna_operator.local.up import _show_progress


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (json.dumps(events.progress(50, 200, 1)), "merging: 25 %\n"),
        (json.dumps(events.warning("ConversionLossy", "27 values")), "warning: ConversionLossy: 27 values\n"),
        (json.dumps(events.done("0" * 16, "/models")), f"merged: artifact {'0' * 16}\n"),
        (json.dumps({"event": "resumed", "files": 1}), ""),
        ("plain text\n", "plain text\n"),
    ],
)
def test_each_line_is_told_in_a_users_words(line: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    _show_progress(line)
    assert capsys.readouterr().out == shown
