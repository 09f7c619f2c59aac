"""`--adapter` and the digest that may follow each."""

import argparse
from collections.abc import Sequence
from typing import Any

__all__ = ["AdapterDigest", "add_adapter_argument"]


def add_adapter_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--adapter`: `adapters` becomes pairs of URI and digest, in the order of the command line."""
    parser.add_argument(
        "--adapter",
        dest="adapters",
        action=_AdapterUri,
        default=(),
        metavar="URI",
        help="a LoRA adapter, merged after base and delta; give several in order",
    )


class _AdapterUri(argparse.Action):
    """Adds one adapter, its digest not stated."""

    def __call__(self, _: argparse.ArgumentParser, args: argparse.Namespace, value: Any, *__: Any) -> None:
        args.adapters = (*args.adapters, (value, None))


class AdapterDigest(argparse.Action):
    """States the digest of the adapter named last."""

    def __call__(self, parser: argparse.ArgumentParser, args: argparse.Namespace, value: Any, *_: Any) -> None:
        """Set it, or end with wrong usage where there is no adapter to set it of."""
        named: Sequence[tuple[str, str | None]] = args.adapters
        if not named or named[-1][1] is not None:
            parser.error("--adapter-digest belongs after the --adapter that it is the digest of, once")
        args.adapters = (*named[:-1], (named[-1][0], value))
