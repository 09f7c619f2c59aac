"""The `vicuna-server` command: one sub-command per job, each imported only when it runs."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from vicuna_server.termination import keeping_output

__all__ = ["main"]

# name → (module with `add_arguments(parser)` and `run(args) -> int`, one line of help)
COMMANDS = {
    "merge": ("vicuna_server.merge.cli", "apply a weight delta to a base model and publish the artifact"),
    "inspect": ("vicuna_server.merge.inspecting.inspect_cli", "say what weights are, and whether they can be merged"),
    "make-delta": ("vicuna_server.merge.make_delta.cli", "publish a fine-tuned model as a delta of its base"),
    "artifacts": ("vicuna_server.merge.artifacts_cli", "list, verify or prune the artifacts on a volume"),
    "serve": ("vicuna_server.http.cli", "serve one model over an OpenAI-compatible API"),
    "gateway": ("vicuna_server.gateway.cli", "one OpenAI-compatible address for every model of a cluster"),
    "chat": ("vicuna_server.chat.cli", "chat in the terminal, with a model run here or behind an API"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command and return its exit code (64: wrong usage)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in COMMANDS:
        module_name, help_text = COMMANDS[words[0]]
        module = importlib.import_module(module_name)
        parser = _Parser(prog=f"vicuna-server {words[0]}", description=help_text)
        module.add_arguments(parser)
        args = parser.parse_args(words[1:])
        with keeping_output():
            return int(module.run(args))
    parser = _Parser(prog="vicuna-server", description="Merge and serve models declared as VicunaModel.")
    parser.add_argument("--version", action="version", version=f"vicuna-server {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, help_text) in COMMANDS.items():
        commands.add_parser(name, help=help_text, add_help=False)
    parser.parse_args(words)
    return 64


class _Parser(argparse.ArgumentParser):
    """argparse with the exit code that the operator understands as wrong usage."""

    def error(self, message: str) -> None:  # type: ignore[override]  # never returns either way
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(64)


def _version() -> str:
    from vicuna_server import __version__

    return __version__


if __name__ == "__main__":
    sys.exit(main())
