"""What the command lines of all our programs share: the exit code of wrong usage, and types of values."""

import argparse
import functools
import math
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from vicuna_contract.exits import ExitCode
from vicuna_contract.templates import CHAT_TEMPLATES, TEMPLATE_SUFFIX

__all__ = [
    "Declare",
    "Once",
    "Parser",
    "artifact_id",
    "bounded",
    "count",
    "folder",
    "header_value",
    "http_url",
    "port",
    "positive",
    "seconds",
    "split_origins",
    "template",
]

_ARTIFACT_ID = re.compile(r"[0-9a-f]{16}")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Parser(argparse.ArgumentParser):
    """argparse with the exit code that the operator understands as wrong usage."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message to standard error, and end with 64."""
        self.print_usage(sys.stderr)
        self.exit(ExitCode.USAGE, f"{self.prog}: {message}\n")


class Declare:
    """Declares flags of a parser; the default of each is the environment variable of its name, where that is set.

    Args:
        parser: gets the flags.
        environ: the environment; `--served-name` is `VICUNA_SERVED_NAME` there.
    """

    def __init__(self, parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
        self._parser = parser
        self._environ = environ

    def __call__(self, flag: str, *, required: bool = False, default: object = None, **options: Any) -> None:
        """Declare one flag; further options are those of `add_argument`."""
        variable = "VICUNA_" + flag.removeprefix("--").replace("-", "_").upper()
        stated = self._environ.get(variable)
        value = _Stated(stated) if stated else default
        choices = options.get("choices")
        # argparse does not check a default against the choices, and could not name the variable it came from.
        if choices is not None and value is not None and value not in choices:
            self._parser.error(f"{variable} is {value!r}; use one of {', '.join(choices)}")
        if "type" in options:
            options["type"] = _naming(variable, options["type"])
        self._parser.add_argument(flag, required=required and value is None, default=value, **options)


class _Stated(str):
    """What an environment variable says."""

    __slots__ = ()


def _naming(variable: str, convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a type of values whose error names the variable, where the value came from it."""

    @functools.wraps(convert)
    def run(text: str) -> Any:
        try:
            return convert(text)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{error} ({variable})" if isinstance(text, _Stated) else error) from None

    return run


class Once(argparse.Action):
    """Takes a value that can only be stated once: of two, argparse would quietly take the second."""

    def __call__(
        self, parser: argparse.ArgumentParser, args: argparse.Namespace, value: Any, option: str | None = None
    ) -> None:
        """Keep the value, or end with wrong usage where there is one already."""
        if getattr(args, self.dest, self.default) is not self.default:
            parser.error(f"argument {option}: is given twice; give it once")
        setattr(args, self.dest, value)


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


def port(text: str) -> int:
    """Return a TCP port; 0 stands for any free one."""
    number = count(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port; ports end at 65535")
    return number


def folder(text: str) -> Path:
    """Return the path of a folder on this machine."""
    if not text or "://" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder on this machine; give its path")
    return Path(text)


def header_value(text: str) -> str:
    """Return a text that can be sent as the value of an HTTP header."""
    if not re.fullmatch(r"([!-~]([ -~]*[!-~])?)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be sent in a header; use letters of ASCII, digits and '-'")
    return text


def http_url(text: str) -> str:
    """Return an address of scheme, host and perhaps port, without a slash at its end."""
    found = re.fullmatch(r"(https?://[^\s/?#@]+)/?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address such as http://127.0.0.1:8001")
    return found[1]


def split_origins(text: str) -> tuple[str, ...]:
    """Return the origins of a comma-separated list."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def seconds(text: str) -> int:
    """Return the seconds of a time such as `90s`, `10m`, `2h` or `7d`."""
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90s, 10m, 2h or 7d")
    return int(found[1]) * _SECONDS[found[2]]


def artifact_id(text: str) -> str:
    """Return an artifactID."""
    if not _ARTIFACT_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an artifactID: 16 digits 0-9 and a-f")
    return text


def template(text: str) -> str:
    """Return the name of a chat template, or the path of a file that has one."""
    if not text.endswith(TEMPLATE_SUFFIX) and text not in CHAT_TEMPLATES:
        names = ", ".join(CHAT_TEMPLATES)
        raise argparse.ArgumentTypeError(f"{text!r} is unknown; use one of {names}, or a file FILE{TEMPLATE_SUFFIX}")
    return text
