"""Changes that are not released yet: what their files have to be, and how they get into changelog and release notes."""

import tomllib
from pathlib import Path

import pytest

from release.changelog import date_of, folded, notes, write_changelog
from release.changes import AREAS, KINDS, Change, change_of, read_changes
from release.parts import ReleaseError
from release.publishing import NOTES

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_changes_of_this_tree_are_well_formed() -> None:
    try:
        read_changes(ROOT)
    except ReleaseError as error:
        pytest.fail(str(error), pytrace=False)


def test_a_change_is_named_by_area_and_kind() -> None:
    text = "- One\n  [page](../docs/gateway.md).\n  - Part.\n- Two.\n"
    change = change_of("gateway.fixed.long-headers-2.md", text)
    assert change == Change("gateway", "fixed", "- One\n  [page](docs/gateway.md).\n  - Part.\n- Two.\n")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gatway.fixed.a.md", r"changes/gatway.fixed.a.md: 'gatway' is none of gateway, .*; rename the file to AREA"),
        ("gateway.fix.a.md", r"changes/gateway.fix.a.md: 'fix' is none of breaking, new, fixed; rename"),
        ("gateway.fixed.md", r"changes/gateway.fixed.md: rename the file to AREA.KIND.WORDS.md, with"),
        ("gateway.fixed.A b.md", "with WORDS of a-z"),
        ("gateway.fixed.a.b.md", "with WORDS of a-z"),
        ("gateway.fixed.a.txt", "with WORDS of a-z"),
        ("gateway.fixed.a", "with WORDS of a-z"),
        (".gateway.fixed.a.md", "'' is none of"),
        ("notes", "'notes' is none of"),
    ],
)
def test_a_malformed_name_is_refused_by_name_with_the_next_step(name: str, said: str) -> None:
    with pytest.raises(ReleaseError, match=said):
        change_of(name, "- One.\n")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("One.\n", 1),
        ("  One.\n", 1),
        ("# One\n", 1),
        ("- One.\nTwo.\n", 2),
        ("- One.\n\n- Two.\n", 2),
        ("- One.\n\n", 2),
        ("- One.\n-Two.\n", 2),
        ("- One.\n- \n", 2),
    ],
)
def test_a_text_that_is_no_list_is_refused_by_line_with_the_next_step(text: str, line: int) -> None:
    with pytest.raises(ReleaseError, match=rf"changes/gateway.new.a.md, line {line}: write list items alone"):
        change_of("gateway.new.a.md", text)


def test_a_malformed_file_among_others_is_found(tmp_path: Path) -> None:
    write(tmp_path, {"README.md": "# Read me\n", "gateway.new.a.md": "- A.\n", "new.gateway.a.md": "- A.\n"})
    with pytest.raises(ReleaseError, match=r"changes/new\.gateway\.a\.md"):
        read_changes(tmp_path)


def test_the_readme_names_every_area_and_kind() -> None:
    text = (ROOT / "changes/README.md").read_text()
    assert [name for name in [*AREAS, *KINDS] if f"`{name}`" not in text] == []


CHANGELOG = """# Changelog

What is not released yet has a file.

## [0.2.0] - unreleased

Read this first.

### Fixed

- An old one.

#### Gateway

- A [link](docs/a.md).

### Known limits

- A limit.

## [0.1.0] - 2026-12-01

### New

- It is there.

## Before 0.1.0
"""
CHANGES = [
    Change("gateway", "fixed", "- Another.\n"),
    Change("merging", "fixed", "- A third.\n"),
    Change("operator", "breaking", "- No more.\n  Do this.\n"),
    Change("operator", "breaking", "- Nor this.\n"),
]
SECTION = """Read this first.

### Breaking

#### Operator and chart

- No more.
  Do this.
- Nor this.

### Fixed

- An old one.

#### Gateway

- A [link](docs/a.md).
- Another.

#### Merging

- A third.

### Known limits

- A limit.
"""


def test_changes_get_into_their_versions_section_by_kind_and_area() -> None:
    text = folded(CHANGELOG, "0.2.0", "2027-01-02", CHANGES)
    before, after = CHANGELOG.split("## [0.2.0] - unreleased")[0], CHANGELOG[CHANGELOG.index("## [0.1.0]") :]
    assert text == f"{before}## [0.2.0] - 2027-01-02\n\n{SECTION}\n{after}"
    assert notes(text, "0.2.0") == f"# vicuna-operator 0.2.0 (2027-01-02)\n\n{SECTION}"


def test_a_version_without_a_section_gets_the_first_one() -> None:
    text = folded(CHANGELOG, "0.3.0", "2027-01-02", CHANGES[:1])
    new = "## [0.3.0] - 2027-01-02\n\n### Fixed\n\n#### Gateway\n\n- Another.\n\n"
    assert text == CHANGELOG.replace("## [0.2.0]", f"{new}## [0.2.0]")


def test_a_section_without_changes_only_gets_its_date() -> None:
    assert folded(CHANGELOG, "0.2.0", "2027-01-02", []) == CHANGELOG.replace("unreleased", "2027-01-02")
    assert folded(CHANGELOG, "0.1.0", "2027-01-02", []) == CHANGELOG


def test_no_text_is_lost_where_a_heading_is_there_twice() -> None:
    twice = CHANGELOG.replace("### Known limits", "### Fixed")
    with pytest.raises(ReleaseError, match="a heading twice in one section; join its texts: Fixed, Fixed"):
        folded(twice, "0.2.0", "2027-01-02", CHANGES)


@pytest.mark.parametrize("version", ["0.4.0", "0.2", "Before"])
def test_a_version_of_which_nothing_is_said_is_refused(version: str) -> None:
    with pytest.raises(ReleaseError, match=f"nothing is said of {version}: CHANGELOG.md has no section"):
        notes(CHANGELOG, version)
    with pytest.raises(ReleaseError, match=r"nothing is said of 0\.4\.0"):
        notes(folded(CHANGELOG, "0.4.0", "2027-01-02", []), "0.4.0")


def test_the_workflow_and_the_documents_take_the_notes_by_their_name() -> None:
    assert f"--notes-file {NOTES} " in (ROOT / ".github/workflows/release.yml").read_text()
    assert f"| `{NOTES}` |" in (ROOT / "docs/releasing.md").read_text()


def write(tree: Path, files: dict[str, str]) -> None:
    (tree / "changes").mkdir()
    for name, text in files.items():
        (tree / "changes" / name).write_text(text)


def test_a_version_takes_the_files_with_it(tmp_path: Path) -> None:
    write(tmp_path, {"README.md": "# Read me\n", "gateway.fixed.a.md": "- Another.\n"})
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    write_changelog(tmp_path, "0.2.0", date_of(1_800_000_000))
    assert [file.name for file in (tmp_path / "changes").iterdir()] == ["README.md"]
    assert "## [0.2.0] - 2027-01-15\n" in (tmp_path / "CHANGELOG.md").read_text()
    assert "- Another.\n" in (tmp_path / "CHANGELOG.md").read_text()


def test_this_versions_section_takes_changes_of_every_kind_and_area() -> None:
    changes = [Change(area, kind, f"- {area} {kind}.\n") for area in AREAS for kind in KINDS]
    text = notes(
        folded((ROOT / "CHANGELOG.md").read_text(), PROJECT["version"], "2027-01-02", changes), PROJECT["version"]
    )
    assert [change for change in changes if change.text not in text] == []
