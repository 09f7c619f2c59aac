"""docs/troubleshooting.md has an entry for every reason the code can set, and for no other."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from vicuna_contract.reasons import SERVE_REASONS
from vicuna_operator.api.conditions import Reason

ROOT = Path(__file__).resolve().parents[2]
WORD = re.compile(r"[A-Z][a-zA-Z]*[a-z]")
# Rooms of the server whose errors end in a termination message, and so on the object. What only a person runs does not.
BY_HAND = re.compile(r"/(artifacts|inspect)/cli\.py$|/make_delta/")
SERVING = ("engine", "api", "asgi", "prompts", "artifacts/manifest.py", "extras.py")
ROOMS = ("files", "run", "weights", "artifacts", "merge", "inspect", *SERVING)
ERRORS = {
    "InputError",
    "EngineError",
    "OutOfSpaceError",
    "UnreachableError",
    "InterruptedRunError",
    "MissingExtraError",
}


def documented() -> set[str]:
    lines = (ROOT / "docs" / "troubleshooting.md").read_text().splitlines()
    cells = [line.split("|")[1] for line in lines if line.startswith("| `")]
    return {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}


@cache
def calls(folder: Path) -> list[tuple[Path, ast.Call, str]]:
    return [
        (file, node, str(getattr(node.func, "id", None) or getattr(node.func, "attr", "")))
        for file in sorted(folder.rglob("*.py")) or [folder]
        if re.search(f'"{WORD.pattern}"', text := file.read_text())  # else it names no reason
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
    ]


def strings(nodes: list[ast.expr]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and WORD.fullmatch(node.value):
            yield node.value


def of_server(rooms: tuple[str, ...] = ROOMS) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for room in rooms:
        for file, call, name in calls(ROOT / "server" / "vicuna_server" / room):
            if BY_HAND.search(str(file)):
                continue
            if name in ERRORS or name == "add":
                found |= dict.fromkeys(strings(call.args[:1]), file)
            elif name == "UsageError":
                found |= dict.fromkeys(strings([word.value for word in call.keywords]), file)
    return found


def of_events() -> set[str]:
    planning = ROOT / "operator" / "vicuna_operator" / "planning"
    return {word for _, call, name in calls(planning) if name == "NewEvent" for word in strings(call.args[1:2])}


def test_every_reason_has_an_entry() -> None:
    server = of_server()
    assert {"SourceNotFound", "DeviceUnavailable", "OutOfSpace", "PortInUse"} <= set(server)
    assert "ScaledByHand" in of_events()
    missing = sorted(({str(item) for item in Reason} | of_events() | set(server)) - documented())
    where = [f"{word} ({server[word].relative_to(ROOT)})" if word in server else word for word in missing]
    assert not where, "add an entry to docs/troubleshooting.md"


def test_no_entry_is_of_a_reason_that_nobody_sets() -> None:
    text = "".join(
        file.read_text()
        for part in ("contract/vicuna_contract", "operator/vicuna_operator", "server/vicuna_server")
        for file in (ROOT / part).rglob("*.py")
    )
    assert [word for word in sorted(documented()) if f'"{word}"' not in text] == []


def test_the_contract_names_what_a_server_can_say() -> None:
    assert {*of_server(SERVING), "UsageError"} == SERVE_REASONS, "vicuna_contract/reasons.py"
