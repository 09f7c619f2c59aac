"""`vicuna-server make-delta`: flags, signals, and how the outcome is reported."""

import argparse
import sys
from typing import TYPE_CHECKING

from vicuna_contract.arguments import Once, folder
from vicuna_contract.merge_arguments import SOURCE, declare_links
from vicuna_contract.recipe import DTYPES
from vicuna_server.errors import VicunaError
from vicuna_server.extras import unexpected_error
from vicuna_server.files.beneath import links_allowed
from vicuna_server.run.cancellation import stopping_on_signals
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Bar, Reporter, make_reporter
from vicuna_server.weights.hub.token import take_token

if TYPE_CHECKING:
    from vicuna_server.make_delta.job import Made

__all__ = ["add_arguments", "run"]

_MOST_NAMED = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--base", required=True, action=Once, metavar="URI", help=f"the model before training: {SOURCE}"
    )
    parser.add_argument("--tuned", required=True, action=Once, metavar="URI", help="the model after training")
    help_text = "folder to make, or an empty one"
    parser.add_argument("--output", required=True, action=Once, type=folder, metavar="DIR", help=help_text)
    parser.add_argument("--dtype", choices=DTYPES, default="float16", help="type of the delta")
    declare_links(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress, only the last line and warnings")


def run(args: argparse.Namespace) -> int:
    """Make a delta as the flags say; return the exit code, as `merge` has them."""
    reporter = make_reporter(quiet=args.quiet)
    take_token()
    try:
        from vicuna_server.make_delta.job import DeltaRequest, make_delta  # late: --help needs no numpy

        with stopping_on_signals() as stop, links_allowed(allowed=args.allow_links):
            control = Control(reporter, stop)
            made = make_delta(DeltaRequest(args.base, args.tuned, args.output, args.dtype), control)
    except VicunaError as error:
        return _fail(error, reporter)
    except Exception as error:  # noqa: BLE001 - the last resort: a sentence and an exit code, never a traceback
        return _fail(unexpected_error(error), reporter)
    _tell(made, args.dtype, control.reporter)
    if isinstance(reporter, Bar):
        reporter.close()
    return 0


def _tell(made: "Made", dtype: str, reporter: Reporter) -> None:
    if made.lost:
        reporter.warning("RoundTripDiffers", _loss(made, dtype))
    reporter.note(
        "done",
        f"delta in {made.folder}; merge it with --kind {made.kind}",
        path=str(made.folder),
        kind=made.kind,
        dtype=dtype,
        elements=made.elements,
        lostElements=made.lost.total(),
        lost=dict(made.lost.most_common()),
    )


def _loss(made: "Made", dtype: str) -> str:
    """Say how much does not come back, tensor by tensor as far as there is room."""
    named = ", ".join(f"{name} ({count})" for name, count in made.lost.most_common(_MOST_NAMED))
    more = f" and {len(made.lost) - _MOST_NAMED} more tensors" if len(made.lost) > _MOST_NAMED else ""
    advice = "" if dtype == "float32" else "; with --dtype float32 they do, or nearly all"
    return (
        f"{made.lost.total()} of {made.elements} elements will not come back bit for bit when the delta is merged, for "
        f"it is rounded to {dtype}: {named}{more}{advice}"
    )


def _fail(error: VicunaError, reporter: Reporter) -> int:
    if isinstance(reporter, Bar):
        reporter.close()
    print(f"vicuna-server make-delta: {error.reason}: {error.message}", file=sys.stderr)
    return error.exit_code
