"""How programs begin: told to stop while they are imported, they stop."""

import subprocess
import sys
from signal import SIGINT, SIGTERM

import pytest

# Importing the command line takes for ever, and the process may take itself for the first of a container.
SLOW = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Slow(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "{package}.cli":
            os.kill(own, {signal})
            signal.pause()

own = os.getpid()
os.getpid = lambda: {first} or own
sys.meta_path.insert(0, Slow())
from {package}.start import main
sys.exit(main())
"""
SERVER, OPERATOR = "vicuna_server", "vicuna_operator"


@pytest.mark.parametrize(
    ("package", "first", "signal", "code"),
    [
        (SERVER, True, SIGTERM, 143),
        (OPERATOR, True, SIGTERM, 143),
        (SERVER, False, SIGTERM, -15),
        (SERVER, True, SIGINT, 75),
        (SERVER, False, SIGINT, 75),
        (OPERATOR, False, SIGINT, 130),
    ],
)
def test_a_program_that_is_told_to_stop_while_it_is_imported_stops(
    package: str, first: bool, signal: int, code: int
) -> None:
    script = SLOW.format(package=package, first=int(first), signal=int(signal))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
