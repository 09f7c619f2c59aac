"""`vicuna-server artifacts list|verify|prune ROOT`: flags, and how the outcome is reported."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from vicuna_contract.names import ASIDE_VARIABLE
from vicuna_contract.prune_arguments import PruneArguments, declare_root
from vicuna_contract.termination import Pruned
from vicuna_server.artifacts.listing import list_volume, require_volume
from vicuna_server.artifacts.lookup import artifact_folders
from vicuna_server.artifacts.pruning import Candidate, candidates, prune, tidy_locks
from vicuna_server.artifacts.text import JsonPrinter, Printer, TextPrinter
from vicuna_server.artifacts.verify import Fault, verify, verify_fast
from vicuna_server.errors import InputError, UsageError, VicunaError
from vicuna_server.extras import unexpected_error
from vicuna_server.files.storage import explain, measure
from vicuna_server.run.cancellation import Cancellation, stopping_on_signals
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Bar, JsonLines, Reporter, Silent
from vicuna_server.termination import failure_message, write_termination_message

__all__ = ["add_arguments", "run"]

_MOST_NAMED = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="what there is: artifacts, and unfinished merges")
    verifying = actions.add_parser("verify", help="read every byte and name each file that is not as it should be")
    pruning = actions.add_parser("prune", help="remove artifacts that nobody uses, and what dead merges left")
    PruneArguments.declare(pruning)
    for action in (listing, verifying):
        declare_root(action)
    verifying.add_argument("--only", action="append", default=[], metavar="ID", help="not all artifacts; repeatable")
    verifying.add_argument("--fast", action="store_true", help="sizes, headers and the manifest only")
    verifying.add_argument("--quiet", action="store_true", help="no progress, only what was found")


def run(args: argparse.Namespace) -> int:
    """Do what is asked; return the exit code: 0, 64, 65 when anything is damaged, 69, 73, 75 as `merge` has them."""
    act = {"list": _list, "verify": _verify, "prune": _prune}[args.action]
    printer = JsonPrinter() if args.json else TextPrinter()
    try:
        act(args, printer)
    except BrokenPipeError:  # the reader left; Python must not flush the stream at exit
        sys.stdout = None
    except OSError as error:
        return _fail(explain(error, args.root if args.action == "prune" else None))
    except VicunaError as error:
        return _fail(error)
    except Exception as error:  # noqa: BLE001 - the last resort: a sentence and an exit code, never a traceback
        return _fail(unexpected_error(error))
    return 0


def _list(args: argparse.Namespace, printer: Printer) -> None:
    printer.listing(list_volume(args.root))


def _verify(args: argparse.Namespace, printer: Printer) -> None:
    require_volume(args.root)
    folders = _chosen(args.root, args.only)
    reporter = _reporter(args)
    try:
        with stopping_on_signals() as stop:
            damaged = _verify_all(folders, Control(reporter, stop), printer, fast=args.fast)
    finally:
        if isinstance(reporter, Bar):
            reporter.close()
        printer.end(of=len(folders))
    if damaged:
        shown = [f"{name}/{fault.file} {fault.what}" for name, fault in damaged[:_MOST_NAMED]]
        more = f" and {len(damaged) - _MOST_NAMED} more" if len(damaged) > _MOST_NAMED else ""
        raise InputError("ArtifactDamaged", f"{'; '.join(shown)}{more}; remove the folder and merge the model again")


def _verify_all(folders: Sequence[Path], control: Control, printer: Printer, *, fast: bool) -> list[tuple[str, Fault]]:
    """Verify artifacts one after the other; return what is wrong, with the artifact's ID."""
    if not fast:
        manifests = [verify_fast(folder)[0] for folder in folders]
        control.begin(sum(manifest.total_size for manifest in manifests if manifest))
    damaged: list[tuple[str, Fault]] = []
    for folder in folders:
        _, faults = verify_fast(folder) if fast else verify(folder, control.advance)
        if folder.is_dir():  # else it was pruned in this moment
            printer.verified(folder.name, measure(folder)[0], faults, fast=fast)
            damaged += [(folder.name, fault) for fault in faults]
    return damaged


def _chosen(root: Path, ids: Sequence[str]) -> list[Path]:
    """Return the folders of the artifacts named, or of all.

    Raises:
        InputError: `ArtifactNotFound`.
    """
    folders = {path.name: path for path in artifact_folders(root)}
    missing = ", ".join(name for name in ids if name not in folders)
    if missing:
        raise InputError("ArtifactNotFound", f"{root} holds no {missing}; `artifacts list` says what it holds")
    return [folders[name] for name in dict.fromkeys(ids or folders)]


def _prune(parsed: argparse.Namespace, printer: Printer) -> None:
    args = PruneArguments.of(parsed)
    require_volume(args.root)
    if not args.keep and not args.dry_run:
        raise UsageError("say which artifacts are in use, by --keep ID for each, or that none is, by --keep none")
    with stopping_on_signals() as stop:
        cancellation = Cancellation(stop)
        aside = os.environ.get(ASIDE_VARIABLE, "").split(",")
        found = candidates(args.root, args.keep, args.min_age, aside)
        printer.plan([each for each in found if not (args.quiet and each.kept)])
        removed = [each for each in found if each.kept is None]
        if not args.dry_run:
            removed = _remove(removed, args.min_age, cancellation, printer)
            tidy_locks(args.root, cancellation)
    size = sum(each.size for each in removed)
    printer.total(len(removed), size, dry_run=args.dry_run)
    write_termination_message(Pruned(len(removed), size).fields())


def _remove(
    going: Sequence[Candidate], min_age: float, cancellation: Cancellation, printer: Printer
) -> list[Candidate]:
    """Remove what may go; return what went: by now some of it may be in use."""
    removed = []
    for each in going:
        cancellation.check()
        kept = prune(each, min_age, cancellation)
        printer.pruned(each, kept)
        if kept is None:
            removed.append(each)
    return removed


def _reporter(args: argparse.Namespace) -> Reporter:
    if args.json:
        return JsonLines(sys.stdout, quiet=args.quiet)
    return Bar("reading") if sys.stdout.isatty() and not args.quiet and not args.fast else Silent()


def _fail(error: VicunaError) -> int:
    write_termination_message(failure_message(error))
    print(f"vicuna-server artifacts: {error.reason}: {error.message}", file=sys.stderr)
    return error.exit_code
