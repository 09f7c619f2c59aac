"""What containers say of themselves, mutated: termination messages and progress lines never raise, nor tell nonsense.

The seeds are what once ended a pass: see `FOUND`. The dice are seeded, so that a failure comes again.
"""

import json
import random
import re
from typing import Any

import pytest

from support.amount import examples, first
from vicuna_contract.events import last_progress, progress
from vicuna_contract.termination import Failed, Merged, read_report
from vicuna_operator.planning import lenient

ROUNDS = examples(800)
FOUND = [
    "[" * 4096,
    '{"reason":' + "[" * 4000,
    '{"reason":"Merged","bytes":1' + "0" * 400 + "}",
    '{"reason":"Merged","bytes":1e400}',
    '{"reason":"Merged","artifactID":"' + "a" * 5000 + '"}',
    '{"reason":"Merged","artifactID":"../../x"}',
    '{"reason":"x","message":"\x1b]0;own\x07\\u001b[31m\u202e\\u202e \\ud800","log":"\x9b2J"}',
    '{"event":"progress","bytesDone":1e999,"bytesTotal":NaN}',
    '{"event":"progress","bytesDone":1' + "0" * 5000 + "}",
]
GOOD = [
    json.dumps(Merged("0123456789abcdef", "none", "vicuna_v1.1", 12, (("Odd", "it is odd"),), "a" * 64).fields()),
    json.dumps(Failed("OutOfSpace", "no room", True, "last lines").fields()),
    json.dumps(progress(1, 2, 3)),
]
ODD: list[Any] = [
    *(
        None,
        True,
        -1,
        0,
        2**63,
        10**400,
        1e308,
        float("inf"),
        float("nan"),
        "",
        "..",
        "a\n\x1b[31m",
        "\ud800",
        "é" * 300,
    ),
    *([], {}, [[]], [None], {"a": {}}, "2026-13-45T99:99:99Z", "\u202e", "x" * 5000, "../../x", "%2e%2e"),
]
PIECES = ["[", "{", '"', "\\ud800", "\x00", "\u202e", "\x1b[2J", "1e999", "9" * 30, "NaN", "null", "..", "\n\n", ","]
UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")


def torn(text: str, dice: random.Random) -> str:
    """Cut, repeat and put in pieces at random places."""
    for _ in range(dice.choice((1, 2, 4, 16))):
        start, end = sorted(dice.randrange(len(text) + 1) for _ in range(2))
        match dice.randrange(4):
            case 0:
                text = text[:start] + dice.choice(PIECES) * dice.choice((1, 1, 3000)) + text[start:]
            case 1:
                text = text[:start] + text[min(end, start + 8) :]
            case 2:
                text = text[:end] + text[start:end][:40] + text[end:]
            case _:
                text = text[: max(end, 1)]
    return text[:8192]


def mangled(value: Any, dice: random.Random) -> Any:
    """Put something odd in the place of a part."""
    if isinstance(value, dict) and value and dice.random() < 0.8:
        key = dice.choice(list(value))
        return {**value, key: mangled(value[key], dice)}
    if isinstance(value, list) and value and dice.random() < 0.8:
        return [mangled(value[0], dice), *value[1:]]
    return dice.choice(ODD)


def inputs() -> list[str]:
    dice = random.Random(20261129)
    whole = [json.loads(text) for text in GOOD]
    mutants = [json.dumps(mangled(dice.choice(whole), dice)) for _ in range(ROUNDS)]
    return [*FOUND, *GOOD, *mutants, *(torn(dice.choice([*FOUND, *GOOD, *mutants]), dice) for _ in range(ROUNDS))]


def test_no_termination_message_ends_a_pass() -> None:
    for text in inputs():
        report = read_report(text)
        if report is None:
            continue
        shown = [report.reason, report.message, report.log, *(word for pair in report.warnings for word in pair)]
        assert not UNFIT.search("".join(shown)), repr(text[:300])
        assert report.bytes is None or 0 < report.bytes < 2**63
        assert report.artifact_id is None or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", report.artifact_id)
        assert report.artifact_id is None or not report.artifact_id.endswith(".")


@pytest.mark.parametrize("lines", first([3, 1]))
def test_no_progress_line_ends_a_pass(lines: int) -> None:
    texts = inputs()
    for index in range(len(texts)):
        event = last_progress("\n".join(texts[index : index + lines]))
        for field in ("bytesDone", "bytesTotal", "bytesPerSecond"):
            assert 0 <= lenient.whole((event or {}).get(field)) < 2**63


def test_what_others_write_is_read_or_is_the_default() -> None:
    for text in [*inputs(), *ODD]:
        found = lenient.parsed(text)
        assert not UNFIT.search(lenient.text(text))
        assert 0 <= lenient.whole(text) < 2**63
        for value in (text, found):
            lenient.moment(value)
            lenient.quantity(value)
            lenient.fingerprint(value)
            assert not UNFIT.search("".join(lenient.texts(value).values()))
            lenient.tables(value)
            lenient.table(value, "a", "b")
