"""The command line of `vicuna-server artifacts prune`."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Self

from vicuna_contract.arguments import Parser, artifact_id, folder, seconds

__all__ = ["KEEP_NONE", "PruneArguments", "declare_root"]

KEEP_NONE: Final = "none"
"""Says that no artifact is in use."""

_MIN_AGE = 600


@dataclass(frozen=True)
class PruneArguments:
    """Which artifacts to keep on a volume; all others go.

    Attributes:
        root: the folder that merges had as `--output`.
        keep: artifactIDs in use, or `none`.
        dry_run: only say what would go.
        min_age: seconds; what is younger stays.
        json: JSON instead of text.
        quiet: only what was done, not what stays.
    """

    root: Path
    keep: tuple[str, ...] = ()
    dry_run: bool = False
    min_age: int = _MIN_AGE
    json: bool = False
    quiet: bool = False

    def to_argv(self) -> list[str]:
        """Return the words after `vicuna-server`."""
        words = ["artifacts", "prune", str(self.root), *(word for item in self.keep for word in ("--keep", item))]
        if self.min_age != _MIN_AGE:
            words += ["--min-age", f"{self.min_age}s"]
        flags = {"--dry-run": self.dry_run, "--json": self.json, "--quiet": self.quiet}
        return words + [flag for flag, on in flags.items() if on]

    @classmethod
    def from_argv(cls, words: Sequence[str]) -> Self:
        """Read the words after `vicuna-server`; wrong usage ends the process as argparse does, with 64."""
        parser = Parser(prog="vicuna-server artifacts prune")
        cls.declare(parser)
        return cls.of(parser.parse_args(words[2:]))

    @staticmethod
    def declare(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        declare_root(parser)
        add = parser.add_argument
        help_text = f"an artifact in use; `{KEEP_NONE}`: none is"
        add("--keep", action="append", default=[], type=_kept, metavar="ID", help=help_text)
        add("--dry-run", action="store_true", help="only say what would go")
        help_text = "what is younger stays: 90s, 10m, 2h, 7d (default: 10m)"
        add("--min-age", type=seconds, default=_MIN_AGE, metavar="TIME", help=help_text)
        add("--quiet", action="store_true", help="only what was done, not what stays")

    @classmethod
    def of(cls, args: argparse.Namespace) -> Self:
        """Take what a parser with these flags has read."""
        read = {field.name: getattr(args, field.name) for field in fields(cls)}
        return cls(**(read | {"keep": tuple(args.keep)}))


def declare_root(parser: argparse.ArgumentParser) -> None:
    """Declare the volume and `--json`, which all actions on artifacts have."""
    parser.add_argument("root", type=folder, metavar="ROOT", help="the folder that merges had as --output")
    parser.add_argument("--json", action="store_true", help="JSON instead of text")


def _kept(text: str) -> str:
    return text if text == KEEP_NONE else artifact_id(text)
