"""The message of a command whose extra is not installed: `pip install vicuna-operator` alone has few dependencies."""

import sys
from importlib.util import find_spec

__all__ = ["missing_extra", "require"]


def require(module: str) -> None:
    """Find a module without loading it.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    if find_spec(module) is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def missing_extra(error: ModuleNotFoundError, extra: str) -> str | None:
    """Return what to install; None where the module is one of ours or of Python's: then it is a bug."""
    while error.name is None and isinstance(error.__cause__, ModuleNotFoundError):
        error = error.__cause__  # transformers wraps it in one that names nothing
    name = error.name or ""
    top = name.partition(".")[0]
    if not top or top.startswith("vicuna_") or top in sys.stdlib_module_names:
        return None
    return (
        f'the module {name}, which comes with the extra "{extra}", is not installed;'
        f' run: pip install "vicuna-operator[{extra}]"'
    )
