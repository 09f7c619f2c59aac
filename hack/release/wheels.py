"""The wheel: the same bytes for the same commit, wherever and whenever it is built."""

import sys
from pathlib import Path

from release.commands import run

__all__ = ["build_wheel"]


def build_wheel(tree: Path, output: Path, epoch: int) -> Path:
    """Build the wheel of a source tree into a folder, with `epoch` as the time of all its files.

    The builder is the one installed beside this Python (requirements.txt pins it), and not a newer one that pip would
    fetch.

    Raises:
        ReleaseError: the builder failed.
    """
    words = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(output.absolute())]
    before = set(output.glob("*.whl"))
    for old in before:
        old.unlink()
    run(*words, cwd=tree, env={"SOURCE_DATE_EPOCH": str(epoch)})
    (wheel,) = output.glob("*.whl")
    return wheel
