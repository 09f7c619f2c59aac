"""The clients of npm: the tests of `node/`, each file run by node's own runner."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Served

HERE = Path(os.environ.get("VICUNA_NODE_CLIENTS", Path(__file__).parent / "node"))
NODE = shutil.which("node")


def _why_not() -> str:
    """Return what is missing for these tests, or nothing."""
    version = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout if NODE else "v0"
    if int(re.findall(r"\d+", version)[0]) < 20:
        return "there is no node 20 or later"
    return "" if (HERE / "node_modules").is_dir() else f"npm has installed nothing into {HERE}"


WHY_NOT = _why_not()


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
@pytest.mark.parametrize(
    ("speaker", "actor"),
    [("tiny", "scripted"), pytest.param("trained", "trained", marks=pytest.mark.full)],
    ids=["stand-ins", "trained"],
    indirect=True,
)
@pytest.mark.parametrize("file", sorted(HERE.glob("*.test.mjs")), ids=lambda file: file.name)
def test_file(speaker: Served, actor: Served, file: Path) -> None:
    served = {"speaker": speaker._asdict(), "actor": actor._asdict()}
    environment = {**os.environ, "VICUNA_SERVED": json.dumps(served)}
    words = [NODE or "node", "--test", "--test-reporter=spec", str(file)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
