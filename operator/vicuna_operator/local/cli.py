"""The command line of `vicuna-operator up`."""

import argparse
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from vicuna_contract.arguments import folder, port
from vicuna_contract.exits import ExitCode
from vicuna_contract.merge_arguments import ALLOW_LINKS
from vicuna_operator.errors import LocalRunError
from vicuna_operator.local.manifest import read_model
from vicuna_operator.local.process import Interrupted, interruptible
from vicuna_operator.local.up import LocalRun
from vicuna_operator.resources.common import spec_of

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", type=Path, metavar="FILE", help="manifest with one VicunaModel")
    parser.add_argument(
        "--data",
        type=folder,
        default=Path(".vicuna"),
        help="folder in place of the cluster's volumes (default: .vicuna)",
    )
    parser.add_argument(
        "--volume",
        action="append",
        default=[],
        metavar="CLAIM=FOLDER",
        help="a folder in place of one claim, such as the one a pvc:// source names; may be repeated",
    )
    help_text = "merge what links lead to that leave a source's folder or its claim's"
    parser.add_argument(ALLOW_LINKS, action="store_true", help=help_text)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=port, default=8000, help="port to listen on (default: 8000; 0: any free one)")
    help_text = "the program of serving.engine vllm (default: vllm on PATH)"
    parser.add_argument("--vllm", type=Path, metavar="PATH", help=help_text)
    parser.epilog = "After `--`: a command to run with VICUNA_URL set once the model answers; then everything stops."


def run(args: argparse.Namespace, command: Sequence[str] = ()) -> int:
    """Merge, serve, and stay until Ctrl-C or until `command` ends; return the exit code."""
    try:
        with interruptible():
            return _up(args, command)
    except Interrupted:
        print("stopped", file=sys.stderr)
        return 130
    except LocalRunError as error:
        print(f"vicuna-operator up: {error}", file=sys.stderr)
        return error.exit_code


def _up(args: argparse.Namespace, command: Sequence[str]) -> int:
    model = read_model(args.file)
    _check_command(command)
    local = LocalRun(
        model=model,
        data=args.data,
        host=args.host,
        port=_free_port(args.host, args.port),
        volumes=dict(_volume(text) for text in args.volume),
        allow_links=args.allow_links,
        vllm=args.vllm,
    )
    replicas = spec_of(model).serving.replicas
    if replicas > 1:
        print(f"running 1 of {replicas} replicas on this machine", flush=True)
    return local.serve(*local.merge(), command)


def _volume(text: str) -> tuple[str, Path]:
    claim, equals, folder = text.partition("=")
    if not (claim and equals and folder):
        raise LocalRunError(f"--volume {text}: give CLAIM=FOLDER", ExitCode.USAGE)
    return claim, Path(folder)


def _check_command(command: Sequence[str]) -> None:
    """Look for the user's command before the merge, not after it."""
    if command and shutil.which(command[0]) is None:
        raise LocalRunError(f"{command[0]} is no program that can be run; correct the command after `--`", 66)


def _free_port(host: str, port: int) -> int:
    """Check before the merge, not after it, that the server can listen; return the port, for 0 a free one."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or --host"
        raise LocalRunError(message, ExitCode.UNREACHABLE) from None
