"""Runs other programs, and says which one failed."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from release.parts import ReleaseError

__all__ = ["output", "run", "succeeds", "words_of"]


def run(*words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    """Run a program whose output people see.

    Raises:
        ReleaseError: it is missing, or failed.
    """
    print("+", shlex.join(words), file=sys.stderr, flush=True)
    _done(words, cwd=cwd, env=env, capture=False)


def output(*words: str, cwd: Path | None = None) -> str:
    """Return what a program prints, without the last line's end.

    Raises:
        ReleaseError: it is missing, or failed.
    """
    return _done(words, cwd=cwd, env=None, capture=True).strip()


def succeeds(*words: str) -> bool:
    """Tell whether a program ends well; what it prints is dropped."""
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def words_of(variable: str, default: str = "") -> list[str]:
    """Return the words of an environment variable, as a shell would cut them."""
    return shlex.split(os.environ.get(variable) or default)


def _done(words: tuple[str, ...], *, cwd: Path | None, env: Mapping[str, str] | None, capture: bool) -> str:
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE if capture else sys.stderr,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise ReleaseError(f"{words[0]} is not installed; see docs/releasing.md") from error
    if done.returncode:
        raise ReleaseError(f"{shlex.join(words)}: exit status {done.returncode}")
    return done.stdout or ""
