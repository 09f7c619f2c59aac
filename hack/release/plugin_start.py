"""Starts `kubectl-vicuna` from its single file: this is the file's `__main__.py`.

What is in the file is unpacked once into the user's cache, since one module is compiled (and cannot be imported from
a file like this) and since Python keeps what it has compiled there. Compiled modules are in wheels for several
platforms and versions of Python; the fitting one is taken.
"""

import atexit
import io
import os
import platform
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

PURE = "pure/"
WHEELS = "wheels/"
BUILD = "BUILD"
_KINDS = {"linux": "manylinux", "darwin": "macosx", "win32": "win"}


def fitting(names: Sequence[str], python: str, system: str, machine: str) -> list[str]:
    """Return the wheels for a version of Python (`cp311`), sys.platform and platform.machine()."""
    found = []
    for name in names:
        tags = name.removesuffix(".whl").split("-")
        if tags[2] == python and tags[-1].startswith(_KINDS.get(system, "-")) and tags[-1].endswith(machine.lower()):
            found.append(name)
    return found


def unpacked(archive: Path, python: str, cache: Path) -> Path:
    """Return the folder in the cache with what this Python needs of the file.

    It is renamed into place when it is whole. Another build has another folder.
    """
    with zipfile.ZipFile(archive) as content:
        folder = cache / f"{content.read(BUILD).decode()}-{python}"
        if folder.is_dir():
            return folder
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=cache))
        names = [name for name in content.namelist() if name.startswith(PURE)]
        content.extractall(part, names)
        wheels = [name.removeprefix(WHEELS) for name in content.namelist() if name.startswith(WHEELS)]
        for name in fitting(wheels, python, sys.platform, platform.machine()):
            with zipfile.ZipFile(io.BytesIO(content.read(WHEELS + name))) as wheel:
                wheel.extractall(part / PURE)
    try:
        part.rename(folder)
    except OSError:  # another process was faster
        shutil.rmtree(part)
    return folder


def cache_folder() -> Path:
    """Return where this program may keep files."""
    stated = os.environ.get("XDG_CACHE_HOME")
    return (Path(stated) if stated else Path.home() / ".cache") / "kubectl-vicuna"


def packages(archive: Path) -> Path:
    """Return the folder to import from.

    Raises:
        SystemExit: the file has nothing compiled for this Python.
    """
    python = f"cp{sys.version_info.major}{sys.version_info.minor}{getattr(sys, 'abiflags', '')}"
    try:
        folder = unpacked(archive, python, cache_folder())
    except (OSError, RuntimeError):  # no home, or one that cannot be written
        scratch = Path(tempfile.mkdtemp())
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        folder = unpacked(archive, python, scratch)
    if not (folder / PURE / "pydantic_core").is_dir():
        sys.exit(
            f"kubectl-vicuna: this file has nothing for Python {platform.python_version()} on {sys.platform}"
            f" {platform.machine()}; use Python 3.11 or later, or `pip install` the wheel of the release"
        )
    return folder / PURE


def main() -> int:
    """Run the plugin."""
    sys.path.insert(0, str(packages(Path(__file__).parent)))
    from vicuna_operator.plugin.cli import main as plugin

    return plugin()


if __name__ == "__main__":
    sys.exit(main())
