"""The documentation's site, without mkdocs: which pages it has, and how they are laid out for mkdocs' Markdown."""

import importlib.util
import re
from pathlib import Path

import pytest

from support.documents import CHART, PAGES

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("stage", ROOT / "hack" / "site" / "stage.py")
assert SPEC is not None
assert SPEC.loader is not None
stage = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(stage)


def test_every_page_is_in_the_navigation_once() -> None:
    named = re.findall(r"^ +- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    pages = sorted(str(page.relative_to(ROOT)) for page in stage.PAGES)
    assert sorted(named) == pages, "give a new page its place in mkdocs.yml and a line in docs/README.md"


def test_every_page_of_docs_is_listed_for_its_reader() -> None:
    listed = re.findall(r"\]\(([^)#]+\.md)\)", (ROOT / "docs" / "README.md").read_text())
    pages = {str(page.relative_to(ROOT / "docs")) for page in stage.PAGES if page.is_relative_to(ROOT / "docs")}
    assert pages - set(listed) - {"README.md"} == {name for name in pages if re.match(r"adr/\d", name)}


def test_the_site_has_the_pages_that_the_tests_read() -> None:
    assert set(stage.PAGES) == {page for page in PAGES if not {".github", "changes"} & set(page.parts)}


def test_files_that_a_page_links_to_come_with_it() -> None:
    found = {str(file.relative_to(ROOT)) for file in stage.linked(ROOT / "docs" / "operations.md")}
    assert "charts/vicuna-operator/files/alerts.yaml" in found
    assert not any(name.endswith(".md") for name in found)
    assert CHART / "README.md" in stage.PAGES


@pytest.mark.parametrize(
    ("written", "laid_out"),
    [
        ("Text.\n\n- a\n  b\n- c\n", "Text.\n\n- a\n    b\n- c\n"),
        ("Text:\n- a\n- b\n", "Text:\n\n- a\n- b\n"),
        ("- a\n  - b\n    c\n", "- a\n\n    - b\n        c\n"),
        ("1. a\n   b\n", "1. a\n    b\n"),
        ("10. a\n    b\n", "10. a\n    b\n"),
        ("- a\n\n      code\n\n  more\n", "- a\n\n        code\n\n    more\n"),
        ("```\n- a\n  b\n```\n", "```\n- a\n  b\n```\n"),
        ("1.   a\n     b\n", "1.   a\n    b\n"),
    ],
)
def test_lists_are_indented_as_mkdocs_reads_them(written: str, laid_out: str) -> None:
    assert stage.indented(written) == laid_out
