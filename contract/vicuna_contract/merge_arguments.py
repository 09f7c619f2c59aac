"""The command line of `vicuna-server merge`."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from vicuna_contract.arguments import Once, Parser, folder, positive
from vicuna_contract.recipe import DELTA_KINDS, MERGE_DTYPES
from vicuna_contract.templates import AUTO, CHAT_TEMPLATES

__all__ = ["ALLOW_LINKS", "SOURCE", "MergeArguments", "declare_links", "declare_recipe"]

ALLOW_LINKS = "--allow-links"
SOURCE = "hf://ORG/NAME@REVISION, file:///PATH or a path"


@dataclass(frozen=True)
class MergeArguments:
    """What a merge is asked to do; sources are URIs or paths as `sources.parse_argument` reads them.

    Attributes:
        base: the base.
        delta: the delta, None without one.
        output: folder that gets the artifact's folder.
        dtype: one of `recipe.MERGE_DTYPES`: type of the result.
        kind: one of `recipe.DELTA_KINDS`: how the delta is applied.
        chat_template: one of `templates.CHAT_TEMPLATES`: prompt format to pin.
        base_digest: sha256 that the base must have; None: not stated.
        delta_digest: sha256 that the delta must have; None: not stated.
        adapters: pairs of source and digest (None: not stated), in the order they are merged.
        max_bytes_per_second: read no faster than this; None: as fast as it goes.
        alpaca_checksum: compare the result with Stanford's checksum.
        allow_links: read what links lead to that leave their source.
        quiet: no progress, only the last line.
    """

    base: str
    delta: str | None
    output: Path
    dtype: str = AUTO
    kind: str = AUTO
    chat_template: str = AUTO
    base_digest: str | None = None
    delta_digest: str | None = None
    adapters: tuple[tuple[str, str | None], ...] = ()
    max_bytes_per_second: int | None = None
    alpaca_checksum: bool = False
    allow_links: bool = False
    quiet: bool = False

    def to_argv(self) -> list[str]:
        """Return the words after `vicuna-server`."""
        words = ["merge", "--output", str(self.output), "--dtype", self.dtype]
        words += _stated("--base", self.base, self.base_digest)
        if self.delta is not None:
            words += _stated("--delta", self.delta, self.delta_digest)
        for uri, digest in self.adapters:
            words += _stated("--adapter", uri, digest)
        if self.delta is not None:
            words += ["--kind", self.kind]
        words += ["--chat-template", self.chat_template]
        if self.max_bytes_per_second is not None:
            words += ["--max-bytes-per-second", str(self.max_bytes_per_second)]
        flags = {"--alpaca-checksum": self.alpaca_checksum, ALLOW_LINKS: self.allow_links, "--quiet": self.quiet}
        return words + [flag for flag, on in flags.items() if on]

    @classmethod
    def from_argv(cls, words: Sequence[str]) -> Self:
        """Read the words after `vicuna-server`; wrong usage ends the process as argparse does, with 64."""
        parser = Parser(prog="vicuna-server merge")
        cls.declare(parser)
        return cls.of(parser.parse_args(words[1:]))

    @staticmethod
    def declare(parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("--base", required=True, action=Once, metavar="URI", help=f"the base model: {SOURCE}")
        add("--delta", action=Once, metavar="URI", help="the delta; without one the base is taken as it is")
        help_text = "folder that gets ROOT/<artifactID>"
        add("--output", required=True, action=Once, type=folder, metavar="ROOT", help=help_text)
        declare_recipe(parser)
        add("--base-digest", metavar="SHA256", help="digest the base must have")
        add("--delta-digest", metavar="SHA256", help="digest the delta must have")
        add("--adapter-digest", action=_Digest, metavar="SHA256", help="digest the --adapter before it must have")
        add("--alpaca-checksum", action="store_true", help="compare with the checksum of Stanford's Alpaca 7B")
        add("--max-bytes-per-second", type=positive, metavar="N", help="read no faster than this")
        declare_links(parser)
        add("--quiet", action="store_true", help="no progress, only the last line")

    @classmethod
    def of(cls, args: argparse.Namespace) -> Self:
        """Take what a parser with these flags has read."""
        return cls(**{name: value for name, value in vars(args).items() if name in MergeArguments.__dataclass_fields__})


def declare_links(parser: argparse.ArgumentParser) -> None:
    """Declare `--allow-links`, which all commands that read sources have."""
    help_text = "read what links lead to that leave the source's folder (of a hub's cache: the model's)"
    parser.add_argument(ALLOW_LINKS, action="store_true", help=help_text)


def declare_recipe(parser: argparse.ArgumentParser) -> None:
    """Declare `--adapter`, `--dtype`, `--kind` and `--chat-template`: what to make of base and delta."""
    add = parser.add_argument
    help_text = "a LoRA adapter, merged after base and delta; give several in order"
    add("--adapter", dest="adapters", action=_Adapter, default=(), metavar="URI", help=help_text)
    add("--dtype", choices=MERGE_DTYPES, default=AUTO, help="type of the result (default: auto, the base's own)")
    add("--kind", choices=DELTA_KINDS, default=AUTO, help="how the delta is applied")
    add("--chat-template", choices=CHAT_TEMPLATES, default=AUTO, help="prompt format to pin")


def _stated(flag: str, uri: str, digest: str | None) -> list[str]:
    return [flag, uri, *((f"{flag}-digest", digest) if digest is not None else ())]


class _Adapter(argparse.Action):
    """Adds one adapter, its digest not stated."""

    def __call__(self, _: argparse.ArgumentParser, args: argparse.Namespace, value: Any, *__: Any) -> None:
        args.adapters = (*args.adapters, (value, None))


class _Digest(argparse.Action):
    """States the digest of the adapter named last, or ends with wrong usage where there is none to state it of."""

    def __call__(self, parser: argparse.ArgumentParser, args: argparse.Namespace, value: Any, *_: Any) -> None:
        named: Sequence[tuple[str, str | None]] = args.adapters
        if not named or named[-1][1] is not None:
            parser.error("--adapter-digest belongs after the --adapter that it is the digest of, once")
        args.adapters = (*named[:-1], (named[-1][0], value))
