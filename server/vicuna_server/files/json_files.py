"""How small files are written: JSON for people to read."""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["dump_json"]


def dump_json(content: Mapping[str, Any]) -> bytes:
    """Return an object as indented UTF-8; in ASCII where it holds half a character, which UTF-8 cannot say."""
    try:
        return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(content, indent=2) + "\n").encode()
