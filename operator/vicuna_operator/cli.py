"""`vicuna-operator`: `run` serves a cluster, `up` runs one model on this machine, `version` says which this is."""

import asyncio
import gc
import importlib
import sys
from collections.abc import Sequence

from vicuna_contract.arguments import Parser
from vicuna_contract.exits import ExitCode
from vicuna_contract.extras import missing_extra, require
from vicuna_contract.program import program
from vicuna_operator import __version__
from vicuna_operator.config import FLAGS, load_config
from vicuna_operator.errors import ConfigError, OperatorError, StartError

__all__ = ["create_parser", "main"]

# command → the extras it needs (`up` runs vicuna-server too), and a module of them to look for first
_NEEDS = {"run": ("operator", "kopf"), "up": ("operator,server", "yaml")}


@program(interrupted=130)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code (64: wrong usage or settings, 69: an extra is not installed)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    extra, module = _NEEDS.get(next(iter(arguments), ""), ("operator", None))
    try:
        if module is not None and not {"-h", "--help"} & set(arguments):
            require(module)
        return _main(arguments)
    except ModuleNotFoundError as error:
        missing = missing_extra(error, extra)
        if missing is None:
            raise
        return _fail(missing, ExitCode.UNREACHABLE)


def create_parser(command: str | None) -> Parser:
    """Return the parser of the command line; that of `up` is whole only where it is the command."""
    parser = Parser(prog="vicuna-operator", description=__doc__)
    parser.add_argument("--version", action="version", version=f"vicuna-operator {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    run = commands.add_parser("run", help="serve the VicunaModels of a cluster until SIGTERM")
    for variable, text in FLAGS.items():
        flag = "--" + variable.removeprefix("VICUNA_").lower().replace("_", "-")
        run.add_argument(flag, dest=variable, metavar="VALUE", help=f"{text} [{variable}]")
    up = commands.add_parser("up", help="merge and serve one VicunaModel file on this machine, without a cluster")
    if command == "up":  # loaded only for `up`: a cluster's image has no need of it
        importlib.import_module("vicuna_operator.local.cli").add_arguments(up)
    commands.add_parser("version", help="print the version")
    return parser


def _main(arguments: Sequence[str]) -> int:
    parser = create_parser(next(iter(arguments), None))
    # argparse cannot tell optional words after `--` from its own, so they are taken off first
    end = arguments.index("--") if "--" in arguments else len(arguments)
    args = parser.parse_args(arguments[:end])
    if args.command == "version":
        sys.stdout.write(f"vicuna-operator {__version__}\n")
        return 0
    if args.command == "up":
        return int(importlib.import_module("vicuna_operator.local.cli").run(args, arguments[end + 1 :]))
    if end < len(arguments):
        parser.error("only `up` takes a command after `--`")
    return _run({variable: getattr(args, variable) for variable in FLAGS})


def _run(flags: dict[str, str | None]) -> int:
    try:
        config = load_config(flags)
    except ConfigError as error:
        return _fail(str(error), ExitCode.USAGE)
    from vicuna_operator.controller.app import run_operator  # late: kopf takes a second to load
    from vicuna_operator.controller.logs import configure_logging

    configure_logging(config.log_level, config.log_format)
    gc.freeze()  # else every full collection scans all loaded modules: 40 ms that free nothing
    try:
        return asyncio.run(run_operator(config))
    except StartError as error:
        return _fail(str(error), error.exit_code)
    except OperatorError as error:
        return _fail(str(error), 1)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"vicuna-operator: {message}\n")
    return code
