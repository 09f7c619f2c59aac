"""Release notes: the section of a version in CHANGELOG.md. Pure."""

import re

from release.parts import ReleaseError

__all__ = ["notes"]


def notes(changelog: str, version: str) -> str:
    """Return the text below the version's heading, without that heading.

    Raises:
        ReleaseError: there is no such section, or it is empty.
    """
    sections = re.split(r"^(?=## \[)", changelog, flags=re.MULTILINE)
    found = [section for section in sections if section.startswith(f"## [{version}]")]
    if not found:
        raise ReleaseError(f"CHANGELOG.md has no section [{version}]")
    title, _, text = found[0].partition("\n")
    if not text.strip():
        raise ReleaseError(f"CHANGELOG.md says nothing below [{version}]")
    return f"# vicuna-operator {version}{_date(title)}\n\n{text.strip()}\n"


def _date(title: str) -> str:
    date = re.search(r"\d{4}-\d{2}-\d{2}", title)
    return f" ({date[0]})" if date else ""
