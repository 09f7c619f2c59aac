"""`vicuna-server merge`: flags, signals, and how the outcome is reported."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from vicuna_contract.heads import Heads
from vicuna_contract.merge_arguments import MergeArguments
from vicuna_contract.names import VERIFY_VARIABLE
from vicuna_contract.termination import Merged
from vicuna_server.artifacts.heads import heads_of
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.errors import VicunaError
from vicuna_server.extras import unexpected_error
from vicuna_server.files.beneath import links_allowed
from vicuna_server.merge.request import Request
from vicuna_server.run.cancellation import stopping_on_signals
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Bar, make_reporter
from vicuna_server.termination import failure_message, write_termination_message
from vicuna_server.weights.hub.token import take_token

__all__ = ["add_arguments", "run"]

_PASSING = ("HubUnsteady", "StagingRemoved")  # about the run, not about the artifact
_FIRST = ("ConversionLossy", "ChecksumDiffers")  # about the weights themselves


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    MergeArguments.declare(parser)


def run(args: argparse.Namespace) -> int:
    """Merge as the flags say; return the exit code (0, 64, 65, 69, 73, 75: docs/contract.md)."""
    reporter = make_reporter(quiet=args.quiet)
    take_token()
    try:
        from vicuna_server.merge.job import run_merge  # late: --help needs no numpy

        with stopping_on_signals() as stop, links_allowed(allowed=args.allow_links):
            control = Control(reporter, stop, args.max_bytes_per_second)
            doubted = bool(os.environ.get(VERIFY_VARIABLE))
            manifest = run_merge(replace(Request.of(args), verify_found=doubted), control)
    except VicunaError as error:
        return _fail(error, reporter)
    except Exception as error:  # noqa: BLE001 - the last resort: a sentence and an exit code, never a traceback
        return _fail(unexpected_error(error), reporter)
    folder = args.output.absolute() / manifest.artifact_id
    write_termination_message(_success_message(manifest, control.reporter.warnings, heads_of(folder)))
    reporter.done(manifest.artifact_id, str(folder))
    return 0


def _success_message(manifest: Manifest, warned: Sequence[tuple[str, str]], heads: Heads | None) -> dict[str, object]:
    """Return the last word of a merge that left an artifact, newly made or found."""
    size, template = manifest.total_size, manifest.chat_template
    lasting = [one for one in dict.fromkeys(warned) if one[0] not in _PASSING]
    warnings = tuple(sorted(lasting, key=lambda one: one[0] not in _FIRST))
    return Merged(manifest.artifact_id, manifest.recipe.kind, template, size, warnings, manifest.digest, heads).fields()


def _fail(error: VicunaError, reporter: object) -> int:
    if isinstance(reporter, Bar):
        reporter.close()
    write_termination_message(failure_message(error))
    print(f"vicuna-server merge: {error.reason}: {error.message}", file=sys.stderr)
    return error.exit_code
