"""The gate of `make coverage`: below the floor it fails, a point above it the floor is to be raised."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "hack" / "coverage_floor.py"
SPEC = importlib.util.spec_from_file_location("coverage_floor", FILE)
assert SPEC is not None
assert SPEC.loader is not None
gate = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(gate)


@pytest.mark.parametrize(
    ("total", "status", "said"),
    [
        (79.99, 1, "Add tests for what you added"),
        (80.0, 0, "asks for 80 %."),
        (80.99, 0, "asks for 80 %."),
        (81.0, 0, "Raise fail_under in pyproject.toml to 81."),
        (85.7, 0, "to 85."),
    ],
)
def test_a_coverage_is_judged_by_the_floor(total: float, status: int, said: str) -> None:
    words, found = gate.verdict(total, 80.0)
    assert found == status
    assert said in words
    assert f"{total:.2f} %" in words
    assert ("Raise" in words) == (total >= 81)


def test_contributors_are_told_the_floor_that_is_asked_for() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]["report"]["fail_under"]
    said = re.findall(r"which is now (\d+) %", (ROOT / "CONTRIBUTING.md").read_text())
    assert said == [str(asked)]
