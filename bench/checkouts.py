"""Which code a benchmark's processes run: this checkout's, or another one's to compare with."""

import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["packages_of", "python_path"]


def packages_of(checkout: Path | None) -> list[Path]:
    """Return the folders of a checkout's packages; none for this one, whose packages are installed."""
    return [] if checkout is None else [checkout.absolute() / name for name in ("contract", "server")]


def python_path(packages: Sequence[Path]) -> dict[str, str]:
    """Return the variable by which folders of packages are searched first; empty where there is nothing to say."""
    path = os.pathsep.join(filter(None, [*map(str, packages), os.environ.get("PYTHONPATH", "")]))
    return {"PYTHONPATH": path} if path else {}
