"""CHANGELOG.md: changes get into the section of a version, and that section is the version's release notes."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from release.changes import AREAS, KINDS, Change, read_changes
from release.parts import ReleaseError

__all__ = ["date_of", "folded", "notes", "write_changelog"]


def date_of(epoch: float) -> str:
    """Return the day of a time in seconds."""
    return datetime.fromtimestamp(epoch, UTC).date().isoformat()


def notes(changelog: str, version: str) -> str:
    """Return the text below the version's heading, under a heading of its own.

    Raises:
        ReleaseError: there is no such section, or it is empty.
    """
    found = [section for section in _sections(changelog)[1:] if _is_of(section, version)]
    title, _, text = found[0].partition("\n") if found else ("", "", "")
    if not text.strip():
        raise ReleaseError(f"nothing is said of {version}: CHANGELOG.md has no section [{version}], changes/ no file")
    date = re.search(r"\d{4}-\d{2}-\d{2}", title)
    return f"# vicuna-operator {version}{f' ({date[0]})' if date else ''}\n\n{text.strip()}\n"


def folded(changelog: str, version: str, date: str, changes: Iterable[Change]) -> str:
    """Return the changelog with changes in the section of a version, which gets a date; a new section comes first.

    Raises:
        ReleaseError: a heading is there twice, where only one is looked for.
    """
    head, *sections = _sections(changelog)
    if not any(_is_of(section, version) for section in sections):
        sections.insert(0, f"## [{version}] - unreleased\n")
    return head + "\n".join(
        _with(section, date, changes) if _is_of(section, version) else section.rstrip("\n") + "\n"
        for section in sections
    )


def write_changelog(tree: Path, version: str, date: str) -> None:
    """Move all changes of a source tree into its changelog.

    Raises:
        ReleaseError: one is malformed; nothing is changed then.
    """
    changes, changelog = read_changes(tree), tree / "CHANGELOG.md"
    changelog.write_text(folded(changelog.read_text(), version, date, changes.values()))
    for file in changes:
        file.unlink()


def _sections(changelog: str) -> list[str]:
    """What comes before the first section, then the sections."""
    return re.split(r"^(?=## )", changelog, flags=re.MULTILINE)


def _is_of(section: str, version: str) -> bool:
    return section.startswith(f"## [{version}]")


def _with(section: str, date: str, changes: Iterable[Change]) -> str:
    title, _, text = section.partition("\n")
    kinds = _parts(text, "###")
    for change in changes:
        kind = KINDS[change.kind]
        areas = _parts(kinds.get(kind, ""), "####")
        area = AREAS[change.area]
        kinds[kind] = _text({**areas, area: areas.get(area, "") + change.text}, "####")
    order = ["", *KINDS.values(), *kinds]
    ordered = {name: kinds[name] for name in order if name in kinds}
    return f"{title.replace('unreleased', date)}\n\n{_text(ordered, '###')}"


def _parts(text: str, mark: str) -> dict[str, str]:
    """Cut a text at the headings of one level; what comes before the first has no name."""
    before, *rest = re.split(rf"^{mark} (.+)\n", text, flags=re.MULTILINE)
    titles = rest[::2]
    if len(set(titles)) != len(titles):
        raise ReleaseError(f"CHANGELOG.md has a heading twice in one section; join its texts: {', '.join(titles)}")
    return {title: part.strip("\n") + "\n" for title, part in zip(["", *titles], [before, *rest[1::2]], strict=True)}


def _text(parts: Mapping[str, str], mark: str) -> str:
    return "\n".join((f"{mark} {title}\n\n" if title else "") + part for title, part in parts.items() if part.strip())
