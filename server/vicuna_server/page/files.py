"""The files of the page, as built from `web/` by `make web`."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = ["PAGE_PATHS", "PageFile", "page_file"]

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/assets/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/assets/text.js": ("text.js", "text/javascript; charset=utf-8"),
    "/assets/math.js": ("math.js", "text/javascript; charset=utf-8"),
    "/assets/app.css": ("app.css", "text/css; charset=utf-8"),
    "/assets/icon.svg": ("icon.svg", "image/svg+xml"),
    "/assets/licenses.txt": ("licenses.txt", "text/plain; charset=utf-8"),
}

PAGE_PATHS = tuple(_FILES)
"""Every path of the page, for a server's table of routes."""


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file.

    Attributes:
        content_type: Value of the header.
        body: The bytes.
        gzipped: The same, compressed as well as gzip can.
        etag: A weak one: plain and compressed are the same file.
    """

    content_type: str
    body: bytes
    gzipped: bytes
    etag: str


@cache
def page_file(path: str) -> PageFile | None:
    """Return the file at a path of the page, read and compressed once; None: the page has no such path."""
    if path not in _FILES:
        return None
    name, content_type = _FILES[path]
    body = (files(__package__) / "static" / name).read_bytes()
    etag = f'W/"{hashlib.sha256(body).hexdigest()[:20]}"'
    return PageFile(content_type, body, gzip.compress(body, 9, mtime=0), etag)
