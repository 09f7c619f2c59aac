"""`vicuna-server chat`: a conversation in the terminal, with a model in this process or behind an API."""

import argparse
import os
import re
import sys
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from vicuna_contract.arguments import bounded, count, positive, template
from vicuna_contract.templates import AUTO
from vicuna_server.chat.backend import Backend, Options
from vicuna_server.chat.console import open_console
from vicuna_server.chat.session import COMMANDS, Session
from vicuna_server.chat.settings import seed
from vicuna_server.chat.transcript import Transcript
from vicuna_server.errors import UsageError, VicunaError
from vicuna_server.flags import memory, require_template_file

__all__ = ["add_arguments", "run"]

INTERRUPTED = 130
"""The shell's code for a program ended by Ctrl-C."""
DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TEMPERATURE = 0.7

LOADING = ("device", "gpus", "num_gpus", "max_gpu_memory", "load_8bit", "dtype", "conv_template")
"""Flags for loading a model in this process."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    where = parser.add_argument_group("which model")
    where.add_argument(
        "--url",
        default=os.environ.get("VICUNA_URL") or None,
        help=f"a server with OpenAI's API (default: $VICUNA_URL; without --model: {DEFAULT_URL})",
    )
    where.add_argument(
        "--model", metavar="DIR|NAME", help="a model's folder, to run it here; with a server: its name there"
    )
    where.add_argument(
        "--wait", type=bounded, default=0.0, metavar="SECONDS", help="wait up to so long for the server to be ready"
    )
    load = parser.add_argument_group("running it here")
    load.add_argument("--device", choices=("auto", "cuda", "cpu"), help="auto (default): cuda when GPUs are asked for")
    load.add_argument("--gpus", metavar="0,1", help="use these GPUs only")
    load.add_argument("--num-gpus", type=count, metavar="N", help="number of GPUs to spread the layers over")
    load.add_argument(
        "--max-gpu-memory", metavar="QUANTITY", help="most memory for the weights on each GPU, such as 13Gi"
    )
    load.add_argument("--load-8bit", action="store_true", help="quantize the weights to 8 bits")
    load.add_argument("--dtype", choices=("auto", "float16", "bfloat16", "float32"))
    load.add_argument("--conv-template", type=template, metavar="NAME|FILE.jinja", help="the chat template")
    talk = parser.add_argument_group("the conversation")
    talk.add_argument("--prompt", type=_text, metavar="TEXT", help="ask one question, print the answer and end")
    talk.add_argument(
        "--temperature",
        type=partial(bounded, most=2.0),
        default=DEFAULT_TEMPERATURE,
        help="0 to 2 (default: %(default)s); 0: always the likeliest token",
    )
    talk.add_argument(
        "--top-p",
        type=partial(bounded, most=1.0),
        metavar="P",
        help="0 to 1: only the likeliest tokens, up to this probability together",
    )
    talk.add_argument(
        "--seed", type=seed, metavar="N", help="with the same seed, the same question gets the same answer"
    )
    talk.add_argument(
        "--system", type=_text, metavar="TEXT", help="the system text, which tells the model how to behave"
    )
    talk.add_argument("--max-new-tokens", type=positive, metavar="N", help="the most tokens of an answer")
    talk.add_argument("--no-history", action="store_true", help="send each question without the earlier ones")
    talk.add_argument("--style", default="simple", choices=("simple", "rich"), help="rich: Markdown is rendered")
    talk.add_argument("--show-reasoning", action="store_true", help="write out what the model thinks before it answers")
    talk.add_argument("--debug", action="store_true", help="print tokens and times after each answer")


def _text(text: str) -> str:
    """Return an argument as text; bytes that are not of the terminal's encoding become U+FFFD, as those of a pipe."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def run(args: argparse.Namespace) -> int:
    """Chat until the input ends; Ctrl-C stops an answer at a terminal, and otherwise the program."""
    try:
        with closing(_open(args)) as backend:
            options = Options(args.temperature, args.max_new_tokens, args.top_p, args.seed)
            transcript = Transcript(remember=not args.no_history)
            transcript.set_system(args.system or "")
            session = Session(
                backend, transcript, options, style=args.style, debug=args.debug, thoughts=args.show_reasoning
            )
            if args.prompt is not None:
                session.ask(args.prompt)
            else:
                session.run(open_console([command.split()[0] for command in COMMANDS]))
            return 0
    except VicunaError as error:
        print(f"vicuna-server chat: {error.reason}: {error.message}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the pipe has ended, so nothing more can be written, not even at exit.
        with suppress(OSError):
            sys.stdout = None
        return 0


def _open(args: argparse.Namespace) -> Backend:
    if args.url is None and args.model is not None:
        return _open_local(args)
    from vicuna_server.chat.client import RemoteModel

    given = [name for name in LOADING if getattr(args, name)]
    if given:
        flag = "--" + given[0].replace("_", "-")
        raise UsageError(f"{flag} is only for a model that runs here; give its folder with --model, and no --url")
    remote = RemoteModel(args.url or DEFAULT_URL, args.model, usage=args.debug)
    if args.wait > 0:
        remote.wait_until_ready(args.wait)
    return remote


def _open_local(args: argparse.Namespace) -> Backend:
    from vicuna_server.chat.local import LocalModel
    from vicuna_server.engine.opening import check_folder
    from vicuna_server.engine.settings import LoadSettings

    folder = Path(args.model)
    if not folder.is_dir():
        raise UsageError(f"--model {folder} is not a folder; give a model's folder, or the server's address with --url")
    chat_template = require_template_file("--conv-template", args.conv_template or AUTO)
    num_gpus = _choose_gpus(args)
    manifest = check_folder(folder)
    if sys.stderr.isatty():
        print(f"loading {folder} …", file=sys.stderr)
    return LocalModel(
        LoadSettings.of(
            folder,
            manifest,
            chat_template=chat_template,
            device=args.device or "auto",
            num_gpus=num_gpus,
            dtype=args.dtype or "auto",
            quantization="int8" if args.load_8bit else "none",
            max_gpu_memory=memory("--max-gpu-memory", args.max_gpu_memory),
            max_concurrency=1,
        )
    )


def _choose_gpus(args: argparse.Namespace) -> int:
    """Return how many GPUs to use; hide the others from CUDA, which is not loaded yet."""
    if args.gpus is None:
        return args.num_gpus if args.num_gpus is not None else int(args.device == "cuda")
    if not re.fullmatch(r"[\w-]+(,[\w-]+)*", args.gpus):
        raise UsageError(f"--gpus {args.gpus!r} is not a list of GPUs; write for example 0,1")
    named = args.gpus.count(",") + 1
    wanted: int = named if args.num_gpus is None else args.num_gpus
    if wanted > named:
        raise UsageError(
            f"--num-gpus {wanted} is more than the {named} GPUs in --gpus {args.gpus}; lower it, or list more GPUs"
        )
    os.environ["CUDA_VISIBLE_DEVICES"] = args.gpus
    return wanted
