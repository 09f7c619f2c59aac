"""`vicuna-server inspect`: flags, and how the outcome is reported."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vicuna_contract.merge_arguments import SOURCE, declare_links, declare_recipe
from vicuna_server.errors import InputError, UsageError, VicunaError
from vicuna_server.extras import unexpected_error
from vicuna_server.files.beneath import links_allowed
from vicuna_server.inspect.gpus import Gpus
from vicuna_server.merge.request import Request
from vicuna_server.run.cancellation import stopping_on_signals
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Bar, Silent
from vicuna_server.weights.hub.token import take_token

if TYPE_CHECKING:
    from vicuna_server.inspect.inspection import Report

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "uris",
        nargs="+",
        metavar="URI",
        help=f"one source to inspect, or base and delta to check together: {SOURCE}",
    )
    declare_recipe(parser)
    declare_links(parser)
    parser.add_argument("--digest", action="store_true", help="read everything and print each source's digest")
    parser.add_argument("--memory", action="store_true", help="how much memory serving takes, by type")
    parser.add_argument(
        "--gpus",
        type=Gpus.parse,
        metavar="[N x]SIZE",
        help="with --memory: how many tokens have room beside the weights on such GPUs (24Gi, 2x80Gi)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Inspect as the flags say; return the exit code: 0, 65 when anything is wrong, 64, 69, 75 as `merge` has them."""
    bar = Bar("reading") if args.digest and not args.json and sys.stdout.isatty() else None
    take_token()
    try:
        from vicuna_server.inspect.inspection import inspect  # late: --help needs no numpy

        with stopping_on_signals() as stop, links_allowed(allowed=args.allow_links):
            request = _request(args)
            control = Control(bar or _Warnings(), stop)
            sources = request.sources()
            with sources.explaining(None):
                report = inspect(request, sources, control, digest=args.digest, memory=args.memory, gpus=args.gpus)
    except VicunaError as error:
        return _fail(error)
    except Exception as error:  # noqa: BLE001 - the last resort: a sentence and an exit code, never a traceback
        return _fail(unexpected_error(error))
    finally:
        if bar:
            bar.close()
    try:
        _tell(report, as_json=args.json)
    except BrokenPipeError:  # the reader left; Python must not flush the stream at exit
        sys.stdout = None
    return 0 if report.good else InputError.exit_code


def _request(args: argparse.Namespace) -> Request:
    if len(args.uris) > 2:
        raise UsageError("give one URI to inspect, or two to check together: base and delta; adapters by --adapter")
    if args.gpus is not None and not args.memory:
        raise UsageError("--gpus says what --memory counts with; give both")
    base, *deltas = args.uris
    return Request(
        base=base,
        delta=deltas[0] if deltas else None,
        output=Path(),
        dtype=args.dtype,
        kind=args.kind,
        chat_template=args.chat_template,
        adapters=args.adapters,
    )


def _tell(report: "Report", *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.model_dump(by_alias=True), indent=2), flush=True)
        return
    from vicuna_server.inspect.text import ReportConsole, print_report

    print_report(report, ReportConsole())
    sys.stdout.flush()


class _Warnings(Silent):
    """Tells on standard error why it takes so long."""

    def warning(self, reason: str, message: str) -> None:
        """Print one line."""
        print(f"vicuna-server inspect: {reason}: {message}", file=sys.stderr)


def _fail(error: VicunaError) -> int:
    print(f"vicuna-server inspect: {error.reason}: {error.message}", file=sys.stderr)
    return error.exit_code
