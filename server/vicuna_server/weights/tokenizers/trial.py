"""A tokenizer and its template tried out as the server will use them: loaded, compared, rendered once, encoded.

Run as a program, in a process of its own, it has limits of memory and time, since both files are a stranger's: JSON
may take 25 times its size as objects, and a template may loop for ever. It reads one JSON object from standard input
and answers with one line of JSON per step; which line is the last tells what a limit stopped.
"""

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any, TypedDict

__all__ = ["MOST_BYTES", "MOST_SECONDS", "MOST_TEMPLATE_SECONDS", "Wanted", "check_tokenizer", "render"]

MOST_BYTES = 480 * 1024 * 1024  # of memory; the largest published tokenizers take 370 MiB
MOST_SECONDS = 60
MOST_TEMPLATE_SECONDS = 3  # of processor time, for one message


class Wanted(TypedDict):
    """What to try.

    Attributes:
        tokenizer: path of tokenizer.json; None: there is none.
        template: Jinja; None: none is used.
        tokens: special tokens by name, as templates know them.
        text: a prompt that is rendered already; None: the template's counts.
    """

    tokenizer: str | None
    template: str | None
    tokens: dict[str, str]
    text: str | None


def check_tokenizer(content: str) -> Any:
    """Return a `tokenizers.Tokenizer`.

    Raises:
        ValueError: it cannot be loaded, with the reason.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(content)
    except Exception as error:  # noqa: BLE001 - the library raises bare ones
        raise ValueError(str(error).partition("\n")[0]) from None


def render(template: str, tokens: dict[str, str]) -> str:
    """Return the prompt that a template makes of one message, in the server's sandbox.

    Raises:
        ValueError: it does not parse or render, with the reason.
        ImportError: jinja2 is not installed here.
    """
    from vicuna_server.prompts.sandbox import render as rendered

    try:
        return rendered(template, [{"role": "user", "content": "Hello"}], tokens, continues=False)
    except Exception as error:  # noqa: BLE001 - whatever a stranger's template does
        words = str(error).partition("\n")[0]
        line = getattr(error, "lineno", None)
        where = f" (line {line})" if line else ""
        raise ValueError(f"{type(error).__name__}: {words}{where}") from None


def _limit_time(seconds: int) -> None:
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + 1 + seconds, resource.RLIM_INFINITY))


def _answer(**words: Any) -> None:
    print(json.dumps(words), flush=True)


def _main() -> None:
    wanted: Wanted = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_time(MOST_SECONDS)
    try:
        tokenizer = None
        if wanted["tokenizer"]:
            content = Path(wanted["tokenizer"]).read_text(encoding="utf-8")
            tokenizer = check_tokenizer(content)
            # other programs parse it as well, and content that this library skips takes their memory
            json.loads(content)
            del content
    except (ValueError, RecursionError, OSError) as error:
        _answer(step="tokenizer", fault=str(error))
        return
    _answer(step="tokenizer")
    text = wanted["text"]
    if wanted["template"] is not None:
        try:
            import jinja2  # noqa: F401

            _limit_time(MOST_TEMPLATE_SECONDS)
            text = render(wanted["template"], wanted["tokens"])
        except ValueError as error:
            _answer(step="template", fault=str(error))
            return
        except ImportError:
            text = None
    _answer(step="template", empty=text is not None and not text.strip())
    if tokenizer is not None and text:
        _answer(step="count", tokens=len(tokenizer.encode(text, add_special_tokens=False).ids))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    _main()
