"""The form of the Markdown files: lines of prose are short, and every link leads to a file and a heading."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from markdown_it.token import Token

from support.documents import PAGES, ROOT, parsed

WIDTH = 100
SPAN = re.compile(r"(`+)[^`].*?\1", re.DOTALL)
WHOLE = re.compile(rf"{SPAN.pattern}|\[[^\]]*\]\([^)]*\)", re.DOTALL)


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield first line (from 1) and source of each paragraph outside of tables and code."""
    lines = text.splitlines()
    for token in parsed(text):
        if token.type == "paragraph_open" and token.map:
            start, end = token.map
            yield start + 1, "\n".join(lines[start:end])


def too_long(text: str) -> list[int]:
    """Return the lines of prose above the width that could be shorter; code spans and links stay whole."""
    found = []
    for start, paragraph in prose(text):
        for number, line in enumerate(paragraph.splitlines(), start=start):
            words = WHOLE.sub("x", line).split()
            if len(line) > WIDTH and len([word for word in words if word not in "-*"]) > 1:
                found.append(number)
    return found


def broken_spans(text: str) -> list[str]:
    """Return the code spans and links that go over the end of a line."""
    whole = (match[0] for _, paragraph in prose(text) for match in WHOLE.finditer(paragraph))
    return [match for match in whole if "\n" in match]


@cache
def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    tokens = parsed(text)
    headings = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text: str) -> list[str]:
    """Return the targets of a page's links that are not web addresses."""
    children: list[Token] = [child for token in parsed(text) for child in token.children or []]
    targets = [str(child.attrs["href"]) for child in children if child.type == "link_open"]
    return [target for target in targets if not urlsplit(target).scheme]


def markup(text: str) -> list[str]:
    """Return the HTML of a page; comments are allowed."""
    tokens = [child for token in parsed(text) for child in [token, *(token.children or [])]]
    found = [token.content.strip() for token in tokens if token.type in ("html_inline", "html_block")]
    return [html for html in found if not html.startswith("<!--")]


def dead(page: Path) -> list[str]:
    found = []
    for link in links(page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            found.append(link)
    return found


def faults(find: Callable[[Path], list[Any]]) -> dict[str, list[Any]]:
    """Return what a check finds, by page: pages are hundreds, and a test of each would cost more than the check."""
    return {str(page.relative_to(ROOT)): found for page in PAGES if (found := find(page))}


def test_lines_of_prose_are_short() -> None:
    assert faults(lambda page: too_long(page.read_text())) == {}, f"wrap these lines at {WIDTH} characters"


def test_code_spans_and_links_stay_on_one_line() -> None:
    assert faults(lambda page: broken_spans(page.read_text())) == {}, "put each on one line"


def test_no_text_is_taken_for_html() -> None:
    assert faults(lambda page: markup(page.read_text())) == {}, "put it between backticks"


def test_links_lead_to_files_and_headings() -> None:
    assert faults(dead) == {}, "no such file or heading"


def test_what_the_checks_find(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    long = "word " * 21
    page.write_text(
        f"# A `b` c, d\n\n{long}\n\n- {long}\n\n| a |\n|---|\n| {long} |\n"
        f"\n    {long}\n\n```\n{long}\n```\n\n`{long}`\n"
        "\nText of <release>-keys, `<release>`.\n"
        "\nA `span\nbroken`, [a link](#a-b-c-d),\n[a dead one](#a-b), [another](other.md), [a file](page.md#a-b-c-d).\n"
    )
    assert too_long(page.read_text()) == [3, 5]
    assert broken_spans(page.read_text()) == ["`span\nbroken`"]
    assert markup(page.read_text()) == ["<release>"]
    assert dead(page) == ["#a-b", "other.md"]
