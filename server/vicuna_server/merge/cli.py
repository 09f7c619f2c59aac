"""`vicuna-server merge`: flags, signals, and how the outcome is told."""

import argparse
import sys
from pathlib import Path

from vicuna_server.errors import VicunaError
from vicuna_server.extras import unexpected
from vicuna_server.manifest import Manifest
from vicuna_server.merge.adapters.flags import AdapterDigest, add_adapter_argument
from vicuna_server.merge.progress import Bar, Progress, make_reporter
from vicuna_server.merge.request import KINDS, Request
from vicuna_server.merge.signals import stopping_on_signals
from vicuna_server.merge.tensors import OUTPUT_DTYPES
from vicuna_server.merge.tokenizing.chat_template import CHAT_TEMPLATES
from vicuna_server.termination import failure_message, write_termination_message

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    source = "hf://ORG/NAME@REVISION, file:///PATH or a path"
    parser.add_argument("--base", required=True, metavar="URI", help=f"the base model: {source}")
    parser.add_argument("--delta", metavar="URI", help="the delta; without one the base is taken as it is")
    add_adapter_argument(parser)
    parser.add_argument("--output", required=True, type=Path, metavar="ROOT", help="folder that gets ROOT/<artifactID>")
    parser.add_argument("--dtype", choices=tuple(OUTPUT_DTYPES), default="float16", help="type of the result")
    parser.add_argument("--kind", choices=KINDS, default="auto", help="how the delta is applied")
    parser.add_argument("--base-digest", metavar="SHA256", help="digest the base must have")
    parser.add_argument("--delta-digest", metavar="SHA256", help="digest the delta must have")
    parser.add_argument(
        "--adapter-digest", action=AdapterDigest, metavar="SHA256", help="digest the --adapter before it must have"
    )
    parser.add_argument("--chat-template", choices=CHAT_TEMPLATES, default="auto", help="prompt format to pin")
    parser.add_argument(
        "--alpaca-checksum", action="store_true", help="compare with the checksum of Stanford's Alpaca 7B"
    )
    parser.add_argument("--max-bytes-per-second", type=_rate, metavar="N", help="read no faster than this")
    parser.add_argument("--quiet", action="store_true", help="no progress, only the last line")


def run(args: argparse.Namespace) -> int:
    """Merge as the flags say; return the exit code (0, 64, 65, 69, 73, 75: docs/contract.md)."""
    reporter = make_reporter(quiet=args.quiet)
    try:
        from vicuna_server.merge.job import run_merge  # late: --help needs no numpy

        with stopping_on_signals() as stop:
            progress = Progress(reporter, stop, args.max_bytes_per_second)
            manifest = run_merge(_request(args), progress)
    except VicunaError as error:
        return _fail(error, reporter)
    except Exception as error:  # noqa: BLE001 - the last resort: a sentence and an exit code, never a traceback
        return _fail(unexpected(error), reporter)
    write_termination_message(_success_message(manifest))
    reporter.done(manifest.artifact_id, str(args.output.absolute() / manifest.artifact_id))
    return 0


def _success_message(manifest: Manifest) -> dict[str, object]:
    """Return the last word of a merge that left an artifact, newly made or found."""
    return {
        "reason": "Merged",
        "artifactID": manifest.artifact_id,
        "kind": manifest.recipe.kind,
        "chatTemplate": manifest.chat_template,
        "bytes": manifest.total_size,
    }


def _request(args: argparse.Namespace) -> Request:
    return Request(
        base=args.base,
        delta=args.delta,
        output=args.output,
        dtype=args.dtype,
        kind=args.kind,
        chat_template=args.chat_template,
        base_digest=args.base_digest,
        delta_digest=args.delta_digest,
        adapters=args.adapters,
        alpaca_checksum=args.alpaca_checksum,
        max_bytes_per_second=args.max_bytes_per_second,
    )


def _fail(error: VicunaError, reporter: object) -> int:
    if isinstance(reporter, Bar):
        reporter.close()
    write_termination_message(failure_message(error))
    print(f"vicuna-server merge: {error.reason}: {error.message}", file=sys.stderr)
    return error.exit_code


def _rate(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of bytes")
    return value
