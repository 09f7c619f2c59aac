"""Reading the small files beside weights: bounded before a byte is read, and named where they are something else."""

import json
import re
from pathlib import Path
from typing import Any

from vicuna_server.errors import InputError
from vicuna_server.files.data_file import LocalFile
from vicuna_server.weights.formats.foreign_bytes import recognise

__all__ = ["is_plain_utf8", "most_bytes", "read_object", "read_small", "read_text"]

_MIB = 1024 * 1024
_MOST_BYTES = 4 * _MIB  # of a configuration or a template: parsed, JSON takes up to 25 times its size
_LARGER = {  # the largest published ones have half of it
    "tokenizer.json": 64 * _MIB, "tokenizer.model": 64 * _MIB, "vocab.json": 16 * _MIB, "merges.txt": 16 * _MIB,
}  # fmt: skip
_MOST_INDEX_BYTES = 16 * _MIB
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")  # in JSON's escapes: perhaps half of a surrogate pair


def most_bytes(name: str) -> int:
    """Return how large a small file of this name may be."""
    return _MOST_INDEX_BYTES if name.endswith(".index.json") else _LARGER.get(name, _MOST_BYTES)


def read_small(path: Path, reason: str, wanted: str) -> bytes:
    """Return a file's content.

    Args:
        path: the file.
        reason: of what is raised.
        wanted: what the file should be, such as "a tokenizer".

    Raises:
        FileNotFoundError: it is not there.
        InputError: it is too large, cannot be read, or is something else: a git-lfs pointer, a web page, nothing.
    """
    file, most = LocalFile(path), most_bytes(path.name)
    try:
        size = file.size
        if size > most:
            raise InputError(reason, f"{path} has {size} bytes where {wanted} has {most} at most; give the right file")
        what = recognise(file, wanted)
        if what is not None:
            raise InputError(reason, f"{path} {what}")
        return file.read(0, most)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(reason, f"{path} cannot be read ({error.strerror}); check its mode") from error


def read_text(path: Path, reason: str, wanted: str) -> str:
    """Return a text in UTF-8.

    Raises:
        FileNotFoundError: it is not there.
        InputError: as `read_small`, and where it is not text.
    """
    content = read_small(path, reason, wanted)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InputError(reason, f"{path} is not text in UTF-8; save it so, or fetch it again") from error


def read_object(path: Path, reason: str, wanted: str) -> dict[str, Any]:
    """Return a JSON object, in any of JSON's encodings, all of it text that can be written again.

    Raises:
        FileNotFoundError: it is not there.
        InputError: as `read_small`, and where it is not a JSON object.
    """
    content = read_small(path, reason, wanted)
    try:
        value = json.loads(content.decode(json.detect_encoding(content)))
        if _HALF_PAIR.search(content):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            reason, f"{path} holds half a surrogate pair (an escape such as \\ud800), which is not text; correct it"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(reason, f"{path} cannot be read as JSON; fetch it again") from error
    if not isinstance(value, dict):
        raise InputError(reason, f"{path} is not a JSON object; fetch it again")
    return value


def is_plain_utf8(path: Path) -> bool:
    """Whether a JSON file that was read is written as most programs want it: in UTF-8 without a mark in front."""
    return json.detect_encoding(LocalFile(path).read(0, 8)) == "utf-8"
