"""Changes that are not released yet: one file each in changes/, named by area and kind.

A small module and not towncrier: that needs a template for sections by kind and then area, and is one more tool to pin.
"""

import re
from pathlib import Path
from typing import NamedTuple

from release.parts import ReleaseError

__all__ = ["AREAS", "KINDS", "Change", "change_of", "read_changes"]

AREAS = {
    "gateway": "Gateway",
    "serving": "Serving and chat",
    "merging": "Merging",
    "operator": "Operator and chart",
    "plugin": "kubectl plugin",
    "release": "Releases and documents",
}
"""A file's first word to a heading."""
KINDS = {"breaking": "Breaking", "new": "New", "fixed": "Fixed"}
"""A file's second word to a heading, in the order of a section."""
_RENAME = "rename the file to AREA.KIND.WORDS.md"
_WORDS = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LINE = re.compile(r"(- | +)\S.*")


class Change(NamedTuple):
    """What one file says."""

    area: str
    kind: str
    text: str
    """List items, as in CHANGELOG.md."""


def change_of(name: str, text: str) -> Change:
    """Return what a file in changes/ says.

    Raises:
        ReleaseError: its name or its text is malformed.
    """
    area, kind, words, *ending = [*name.split("."), "", ""]
    for found, known in ((area, AREAS), (kind, KINDS)):
        if found not in known:
            raise ReleaseError(f"changes/{name}: {found!r} is none of {', '.join(known)}; {_RENAME}")
    if not _WORDS.fullmatch(words) or ending != ["md", "", ""]:
        raise ReleaseError(f"changes/{name}: {_RENAME}, with WORDS of a-z, 0-9 and single -")
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if not _LINE.fullmatch(line) or (number == 1 and not line.startswith("- ")):
            raise ReleaseError(
                f"changes/{name}, line {number}: write list items alone, without empty lines:"
                " `- ` begins one, and two spaces continue it"
            )
    # The changelog is one folder higher.
    return Change(area, kind, "\n".join(lines).replace("](../", "](") + "\n")


def read_changes(tree: Path) -> dict[Path, Change]:
    """Return all changes of a source tree, by file.

    Raises:
        ReleaseError: one is malformed.
    """
    files = sorted(file for file in (tree / "changes").iterdir() if file.name != "README.md")
    return {file: change_of(file.name, file.read_text()) for file in files}
