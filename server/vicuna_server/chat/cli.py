"""`vicuna-server chat`: a conversation in the terminal over the API."""

import argparse
import os
import sys
from contextlib import closing, suppress
from functools import partial

from vicuna_server.chat.client import ChatClient
from vicuna_server.errors import VicunaError
from vicuna_server.flags import bounded

__all__ = ["add_arguments", "run"]

INTERRUPTED = 130
"""The shell's code for a program ended by Ctrl-C."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    address = os.environ.get("VICUNA_URL") or "http://127.0.0.1:8000"
    parser.add_argument("--url", default=address, help="the server (default: $VICUNA_URL, here %(default)s)")
    parser.add_argument("--model", metavar="NAME", help="model to talk to (default: the first one listed)")
    parser.add_argument("--prompt", metavar="TEXT", help="ask this one question, print the answer and end")
    parser.add_argument("--temperature", type=partial(bounded, most=2.0), help="0 to 2; 0: always the likeliest word")
    parser.add_argument(
        "--wait", type=bounded, default=0.0, metavar="SECONDS", help="wait so long for the server to be ready"
    )


def run(args: argparse.Namespace) -> int:
    """Chat until the input ends; Ctrl-C stops an answer, at the prompt it ends the program."""
    try:
        with ChatClient(args.url) as client:
            if args.wait > 0:
                client.wait_until_ready(args.wait)
            model = args.model or client.first_model()
            if args.prompt is not None:
                question = {"role": "user", "content": args.prompt}
                for piece in client.stream(model, [question], args.temperature):
                    print(piece, end="", flush=True)
                print()
                return 0
            return _converse(client, model, args.temperature)
    except VicunaError as error:
        print(f"vicuna-server chat: {error.reason}: {error.message}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the answer has seen enough; nothing more can be written, not even at exit.
        with suppress(OSError):
            sys.stdout = None
        return 0


def _converse(client: ChatClient, model: str, temperature: float | None) -> int:
    interactive = sys.stdin.isatty()
    if interactive:
        with suppress(ImportError):
            import readline  # noqa: F401  # gives input() editing and history
        print(f"{model} at {client.url}. Ctrl-C stops an answer, Ctrl-D ends.")
    messages: list[dict[str, str]] = []
    while True:
        try:
            question = input("you: " if interactive else "")
        except (EOFError, KeyboardInterrupt):
            if interactive:
                print()
            return 0
        if not question.strip():
            continue
        messages.append({"role": "user", "content": question})
        try:
            text = _answer(client, model, messages, temperature)
        except VicunaError as error:
            if not interactive:
                raise
            print(f"{error.reason}: {error.message}", file=sys.stderr)
            messages.pop()
            continue
        messages.append({"role": "assistant", "content": text})


def _answer(client: ChatClient, model: str, messages: list[dict[str, str]], temperature: float | None) -> str:
    """Print an answer while it comes, and return it; Ctrl-C keeps what there is."""
    pieces: list[str] = []
    # Closed at once on Ctrl-C, so that the server stops generating.
    with suppress(KeyboardInterrupt), closing(client.stream(model, messages, temperature)) as stream:
        for piece in stream:
            pieces.append(piece)
            print(piece, end="", flush=True)
    print()
    return "".join(pieces)
