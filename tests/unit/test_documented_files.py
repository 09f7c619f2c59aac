"""Pages that name files of this repository name files that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = "bench|charts|contract|crds|docs|hack|images|operator|server|tests|web"
NAMED = re.compile(rf"`((?:{FOLDERS})/[^`\s*…]+)`")
KINDS = {
    "CRD field", "Source", "Engine", "Engine option", "Route", "Request field", "Metric", "Chat template", "Delta kind",
    "Reason", "Plugin verb", "Chart value",
}  # fmt: skip
PAGES = [ROOT / "docs/where-to-add.md", *sorted((ROOT / "docs/adr").glob("0*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    named = NAMED.findall(page.read_text())
    assert named, "a page without files"
    missing = sorted({name for name in named if not (ROOT / name).exists()})
    assert not missing, f"moved or renamed: correct {page.relative_to(ROOT)}"


def test_every_kind_of_change_has_an_entry() -> None:
    entries = re.findall(r"^- \*\*([^*.]+)\.?\*\*", PAGES[0].read_text(), flags=re.MULTILINE)
    assert set(entries) >= KINDS


def test_every_decision_is_listed_once() -> None:
    listed = re.findall(r"\(([0-9]{4}-[a-z-]+\.md)\)", (ROOT / "docs/adr/README.md").read_text())
    assert listed == [page.name for page in PAGES[1:]]
    for number, page in enumerate(PAGES[1:], start=1):
        assert page.read_text().startswith(f"# {number}. "), page.name
        assert all(f"**{part}.**" in page.read_text() for part in ("Decision", "Why", "Rejected", "Cost")), page.name
