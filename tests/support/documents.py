"""The repository's Markdown pages, and the code in them."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "vicuna-operator"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
    *sorted((ROOT / "changes").glob("*.md")),
    CHART / "README.md",
]
_MARKDOWN = MarkdownIt("commonmark").enable("table")
# How a block of commands is marked; an indented block has no mark.
SHELL = {"", "bash", "console", "sh", "shell"}


class Code(NamedTuple):
    """A block of code, or a span of it in a sentence."""

    page: Path
    line: int
    """From 1; of a span, the line on which its paragraph or cell begins."""
    language: str
    text: str

    def __str__(self) -> str:
        """Return the place, for the name of a test."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@cache
def parsed(text: str) -> list[Token]:
    """Parse Markdown, once; who asks leaves the tokens as they are."""
    return _MARKDOWN.parse(text)


def blocks(page: Path) -> Iterator[Code]:
    """Yield a page's blocks of code; an indented one has no language."""
    for token in parsed(page.read_text()):
        if token.type in ("fence", "code_block") and token.map:
            yield Code(page, token.map[0] + 1, token.info.strip(), token.content)


def manifest(page: Path, kind: str) -> dict[str, Any]:
    """Return the one object of a kind that a page's blocks of YAML have."""
    texts = [code.text for code in blocks(page) if code.language == "yaml"]
    bodies = [body for text in texts for body in yaml.safe_load_all(text)]
    found: dict[str, Any]
    (found,) = [body for body in bodies if isinstance(body, dict) and body.get("kind") == kind]
    return found


def spans(page: Path) -> Iterator[Code]:
    """Yield a page's spans of code."""
    line = 1
    for token in parsed(page.read_text()):
        line = token.map[0] + 1 if token.map else line
        for child in token.children or []:
            if child.type == "code_inline":
                yield Code(page, line, "", child.content)


def shell(code: Code) -> str:
    """Return the commands of a block, without prompts, what they print, comments, and the texts they are fed."""
    text = re.sub(r"\\\n\s*", " ", code.text)
    if code.language == "console":
        text = "\n".join(line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ "))
    text = re.sub(r"(^|\s)#\s[^\n]*", "", text)
    return re.sub(r"<<-?'?(\w+)'?([^\n]*)\n.*?\n\s*\1$", r"\2", text, flags=re.DOTALL | re.MULTILINE)
