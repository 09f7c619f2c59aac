"""The commands of a release, run by the Python that has their tools."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("VICUNA_RELEASE_PYTHON", str(ROOT / ".venv-release/bin/python"))


class Steps:
    """Runs programs from the top of the tree."""

    root = ROOT

    def run(
        self, *words: str, cwd: Path = ROOT, check: bool = True, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        env = {**os.environ, "PYTHONPATH": str(ROOT / "hack"), **environment}
        done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done

    def step(self, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        return self.run(PYTHON, "-m", "release", *words, check=check)

    def call(self, module: str, function: str, arguments: str) -> None:
        """Call a function of a step, with arguments as Python has them."""
        self.run(PYTHON, "-c", f"from pathlib import Path; from {module} import {function}; {function}({arguments})")


@pytest.fixture(scope="session")
def steps() -> Steps:
    if not Path(PYTHON).exists():
        pytest.fail(f"there is no {PYTHON}: run `make test-release`", pytrace=False)
    return Steps()
