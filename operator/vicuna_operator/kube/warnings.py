"""What an API server warns of: `Warning` headers (RFC 7234) of an answer that is fine otherwise.

https://kubernetes.io/blog/2020/09/03/warnings/
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["warnings_in"]

_WARNING = re.compile(r'\b\d{3} \S+ "(?P<text>(?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


def warnings_in(headers: Mapping[str, Any]) -> Sequence[str]:
    """Return the texts; a proxy may have joined several headers into one."""
    every = getattr(headers, "getall", None)
    lines = every("Warning", []) if every is not None else [headers.get("Warning", "")]
    return [_ESCAPED.sub(r"\1", match["text"]) for line in lines for match in _WARNING.finditer(line)]
