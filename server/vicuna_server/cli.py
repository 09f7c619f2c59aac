"""The `vicuna-server` command: one sub-command per job, each imported only when it runs."""

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from vicuna_contract.arguments import Parser
from vicuna_contract.exits import ExitCode
from vicuna_contract.extras import require
from vicuna_contract.program import program
from vicuna_server.extras import missing_extra_error
from vicuna_server.termination import failure_message, keeping_output, write_termination_message

__all__ = ["main"]


class _Command(NamedTuple):
    module: str
    """Has `add_arguments(parser)` and `run(args) -> int`."""
    help: str
    extra: str = "server"
    needs: str | None = None
    """A module of the extra that the command always needs; None: parts of the command work without the extra."""


COMMANDS = {
    "merge": _Command(
        "vicuna_server.merge.cli", "apply a weight delta to a base model and publish the artifact", needs="numpy"
    ),
    "inspect": _Command(
        "vicuna_server.inspect.cli",
        "describe weights, and say whether they can be merged",
        needs="numpy",
    ),
    "make-delta": _Command(
        "vicuna_server.make_delta.cli", "publish a fine-tuned model as a delta of its base", needs="numpy"
    ),
    "artifacts": _Command("vicuna_server.artifacts.cli", "list, verify or prune the artifacts on a volume"),
    "serve": _Command("vicuna_server.api.cli", "serve one model over an OpenAI-compatible API", needs="fastapi"),
    "gateway": _Command(
        "vicuna_server.gateway.cli", "one OpenAI-compatible address for every model of a cluster", "gateway", "aiohttp"
    ),
    "signing-keys": _Command(
        "vicuna_server.gateway.signing_keys",
        "make the key pairs by which a gateway signs its requests, in a cluster's Secret",
        "gateway",
        "cryptography",
    ),
    "chat": _Command("vicuna_server.chat.cli", "chat in the terminal, with a model run here or behind an API"),
}


@program(interrupted=ExitCode.INTERRUPTED)
def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command and return its exit code (64: wrong usage, 69: its extra is not installed)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in COMMANDS:
        return _run(words[0], words[1:])
    parser = Parser(prog="vicuna-server", description="Merge and serve models declared as VicunaModel.")
    parser.add_argument("--version", action="version", version=f"vicuna-server {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.help, add_help=False)
    parser.parse_args(words)
    return ExitCode.USAGE


def _run(name: str, words: Sequence[str]) -> int:
    command = COMMANDS[name]
    try:
        if command.needs is not None and not {"-h", "--help"} & set(words):
            require(command.needs)
        module = importlib.import_module(command.module)
        parser = Parser(prog=f"vicuna-server {name}", description=command.help)
        module.add_arguments(parser)
        args = parser.parse_args(words)
        with keeping_output():
            return int(module.run(args))
    except ModuleNotFoundError as error:
        failure = missing_extra_error(error, command.extra)
        if failure is None:
            raise
    write_termination_message(failure_message(failure))
    print(f"vicuna-server {name}: {failure.reason}: {failure.message}", file=sys.stderr)
    return failure.exit_code


def _version() -> str:
    from vicuna_server import __version__

    return __version__


if __name__ == "__main__":
    sys.exit(main())
