"""Values of flags that several commands have, as argparse's `type`."""

import argparse
import math
from pathlib import Path

from vicuna_server.prompts import CHAT_TEMPLATES, TEMPLATE_SUFFIX

__all__ = ["bounded", "chat_template", "count", "positive"]


def count(text: str) -> int:
    """Return a whole number of 0 or more."""
    number = int(text) if text.isascii() and text.isdigit() else -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return number


def positive(text: str) -> int:
    """Return a whole number of 1 or more."""
    number = count(text)
    if number == 0:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def bounded(text: str, most: float = math.inf) -> float:
    """Return a number from 0 to `most`."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= most or math.isinf(number):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number from 0{'' if math.isinf(most) else f' to {most:g}'}"
        )
    return number


def chat_template(text: str) -> str:
    """Return the name of a chat template, or the path of a file that has one."""
    if text.endswith(TEMPLATE_SUFFIX):
        if not Path(text).is_file():
            raise argparse.ArgumentTypeError(f"{text!r} is no file; check the path of the Jinja template")
    elif text not in ("auto", *CHAT_TEMPLATES):
        names = ", ".join(("auto", *CHAT_TEMPLATES))
        raise argparse.ArgumentTypeError(f"{text!r} is unknown; use one of {names}, or a file FILE{TEMPLATE_SUFFIX}")
    return text
