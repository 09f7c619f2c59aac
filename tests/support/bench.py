"""The modules of bench/, which are scripts and not a package."""

import importlib
import sys
from pathlib import Path
from typing import Any

__all__ = ["BENCH", "bench_module"]

BENCH = Path(__file__).resolve().parents[2] / "bench"


def bench_module(name: str) -> Any:
    """Import one of them, as the scripts themselves do."""
    sys.path.insert(0, str(BENCH))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCH))
