"""The digest that a user states of a folder."""

import threading
from pathlib import Path

from vicuna_server.artifacts.digests import digest_files
from vicuna_server.merge.inputs import make_input
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Silent

__all__ = ["digest_of"]


def digest_of(folder: Path, role: str = "base") -> str:
    """Return what `inspect --digest` prints of a model, or of an adapter in the role `adapter-0`."""
    source = make_input(role, "", str(folder), "", None)
    source.open()
    return digest_files(source.files, Control(Silent(), threading.Event()).advance)
