"""Where weights come from, as the command line names them."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vicuna_server.errors import UsageError

__all__ = ["HubSource", "LocalSource", "parse_source"]

_HUB = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")


@dataclass(frozen=True)
class LocalSource:
    """A folder on this machine."""

    uri: str
    folder: Path


@dataclass(frozen=True)
class HubSource:
    """A model repository at one revision of a Hugging Face hub."""

    uri: str
    repo: str
    revision: str

    @property
    def commit(self) -> str | None:
        """The revision where it is a commit, which never changes; None for a branch or tag."""
        return self.revision if re.fullmatch(r"[0-9a-f]{40}", self.revision) else None


def parse_source(flag: str, text: str) -> LocalSource | HubSource:
    """Understand `hf://ORG/NAME@REVISION`, `file:///PATH` or a plain path.

    Raises:
        UsageError: it is none of these.
    """
    if text.startswith("hf://"):
        match = _HUB.fullmatch(text)
        if match is None:
            raise UsageError(f"{flag} {text!r} is not of the form hf://ORG/NAME@REVISION")
        return HubSource(text, match["repo"], match["revision"])
    if text.startswith("file://"):
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise UsageError(f"{flag} {text!r} is not of the form file:///PATH")
        return LocalSource(text, Path(unquote(parts.path)))
    if "://" in text or not text:
        raise UsageError(f"{flag} {text!r} is neither hf://ORG/NAME@REVISION nor file:///PATH nor a path")
    folder = Path(text).absolute()
    return LocalSource(folder.as_uri(), folder)
