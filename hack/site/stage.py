"""Copy the repository's pages, and the files that they link to, into a folder for mkdocs (make docs).

    python hack/site/stage.py FOLDER

Places stay as they are, so that links hold here, on GitHub and in the site alike. mkdocs reads Markdown of its own
kind: what is inside of a list is indented by four, and a list has an empty line before it.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "charts" / "vicuna-operator" / "README.md",
]
MARKDOWN = MarkdownIt("commonmark").enable("table")
ITEM = re.compile(r"(\s*)([-*+]|\d+[.)])(\s+)")


def indented(text: str) -> str:
    """Return a page with the indentation and the empty lines that mkdocs' Markdown needs."""
    lines = text.split("\n")
    deeper = [0] * len(lines)
    before: set[int] = set()
    for token in MARKDOWN.parse(text):
        if token.type in ("bullet_list_open", "ordered_list_open") and token.map:
            before.add(token.map[0])
        if token.type == "list_item_open" and token.map:
            start, end = token.map
            mark = ITEM.match(lines[start])
            assert mark is not None, lines[start]
            for number in range(start + 1, end):
                deeper[number] += 4 - len(mark[2] + mark[3])
    return "\n".join(_laid_out(lines, deeper, before))


def _laid_out(lines: list[str], deeper: list[int], before: set[int]) -> Iterator[str]:
    for number, line in enumerate(lines):
        if number in before and number and lines[number - 1].strip():
            yield ""
        yield " " * deeper[number] + line if line.strip() and deeper[number] > 0 else line[max(-deeper[number], 0) :]


def linked(page: Path) -> Iterator[Path]:
    """Yield the files of the repository, other than pages, that a page links to."""
    for token in MARKDOWN.parse(page.read_text()):
        for child in token.children or []:
            target = urlsplit(str(child.attrs.get("href", "")))
            file = (page.parent / target.path).resolve()
            if target.path and not target.scheme and file.suffix != ".md" and file.is_file():
                yield file


def main() -> int:
    """Make the folder anew."""
    parser = argparse.ArgumentParser(description="Copy the pages for mkdocs.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    shutil.rmtree(folder, ignore_errors=True)
    for page in PAGES:
        place = folder / page.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(indented(page.read_text()))
        for file in linked(page):
            copy = folder / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    return 0


if __name__ == "__main__":
    sys.exit(main())
