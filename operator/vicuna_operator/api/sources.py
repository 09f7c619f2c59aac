"""Where weights come from: `hf://ORG/NAME`, `pvc://CLAIM/PATH`, `file:///PATH` (local runs only)."""

import re
from dataclasses import dataclass

__all__ = ["ClaimSource", "FileSource", "HubSource", "Location", "parse_source"]

_HUB = re.compile(r"hf://(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)/?")
_CLAIM = re.compile(r"pvc://(?P<claim>[a-z0-9]([-a-z0-9.]*[a-z0-9])?)(?:/(?P<path>.*))?")


@dataclass(frozen=True)
class HubSource:
    """A repository on a Hugging Face hub, as ORG/NAME."""

    repo: str


@dataclass(frozen=True)
class ClaimSource:
    """A folder inside a PersistentVolumeClaim of the model's namespace; `path` is relative, maybe empty."""

    claim: str
    path: str


@dataclass(frozen=True)
class FileSource:
    """An absolute folder of this machine."""

    path: str


Location = HubSource | ClaimSource | FileSource


def parse_source(uri: str) -> Location:
    """Split a source URI.

    Raises:
        ValueError: the scheme is unknown, a part is missing, or the path leaves its root by `..`.
    """
    if match := _HUB.fullmatch(uri):
        return HubSource(match["repo"])
    if uri.startswith("hf://"):
        raise ValueError(f"{uri!r} is not hf://ORG/NAME (a revision goes into the field `revision`)")
    if match := _CLAIM.fullmatch(uri):
        path = (match["path"] or "").strip("/")
        if ".." in path.split("/"):
            raise ValueError(f"{uri!r} must not contain `..`")
        return ClaimSource(match["claim"], path)
    if uri.startswith("pvc://"):
        raise ValueError(f"{uri!r} is not pvc://CLAIM/PATH")
    if uri.startswith("file:///"):
        return FileSource(uri.removeprefix("file://"))
    raise ValueError(f"{uri!r} is none of hf://ORG/NAME, pvc://CLAIM/PATH, file:///PATH (local runs only)")
