"""`vicuna-server serve`: flags, checks that need no model, and the way out on failure."""

import argparse
import asyncio
import logging
import os
import sys
import time
from pathlib import Path

from vicuna_server.engine.opening import check_folder, create_engine
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.errors import VicunaError
from vicuna_server.flags import chat_template, count, positive
from vicuna_server.http.access_log import set_up_access_log
from vicuna_server.http.settings import ServiceSettings
from vicuna_server.prompts import CHAT_TEMPLATES
from vicuna_server.termination import failure_message, write_termination_message

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags; each can also come from the environment, `--served-name` as `VICUNA_SERVED_NAME`."""
    add = _Adder(parser)
    add("--model", required=True, metavar="DIR", help="folder of the artifact")
    add("--served-name", help="the model's name in the API (default: the folder's name)")
    add("--revision", default="unknown", help="sent back in the x-vicuna-revision header")
    add("--artifact-id", help="refuse to start when the artifact's manifest says another")
    add("--device", default="auto", choices=("auto", "cuda", "cpu"), help="auto: cuda when --num-gpus is above 0")
    add("--num-gpus", default="0", type=count, help="GPUs to spread the layers over (default: 0)")
    add("--dtype", default="auto", choices=("auto", "float16", "bfloat16", "float32"))
    add("--quantization", default="none", choices=("none", "int8", "nf4"))
    add("--max-gpu-memory", metavar="QUANTITY", help="most that the weights may take on each GPU, such as 13Gi")
    add("--kv-cache-memory", metavar="QUANTITY", help="memory for keys and values (default: what the weights leave)")
    add(
        "--chat-template",
        default="auto",
        type=chat_template,
        metavar="NAME|FILE.jinja",
        help=f"auto (default), {', '.join(CHAT_TEMPLATES)}, or a file with a Jinja template",
    )
    add("--context-length", type=positive, help="limit of prompt and answer in tokens (default: the model's)")
    add("--max-concurrency", default="32", type=positive, help="generations at once (default: 32)")
    add("--max-stream-seconds", default="600", type=positive, help="longest answer (default: 600)")
    add("--drain-seconds", default="5", type=count, help="on SIGTERM, go on taking requests so long (default: 5)")
    add("--access-log", default="on", choices=("on", "off"), help="one line of JSON per request, without its text")
    add("--host", default="0.0.0.0", help="address to listen on (default: all)")  # noqa: S104  # a container's port
    add("--port", default="8000", type=_port, help="port to listen on (default: 8000; 0: any free one)")


def run(args: argparse.Namespace) -> int:
    """Serve until stopped; return 0, or the exit code of what went wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    for noisy in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    set_up_access_log(on=args.access_log == "on")
    try:
        _serve(args)
    except VicunaError as error:
        write_termination_message(failure_message(error))
        print(f"vicuna-server serve: {error.reason}: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0


def _serve(args: argparse.Namespace) -> None:
    # Imported here so that `--help` and wrong flags answer at once.
    from vicuna_server.http.app import create_app
    from vicuna_server.http.lifecycle import Lifecycle
    from vicuna_server.http.listening import bind
    from vicuna_server.http.server import serve

    folder = Path(args.model)
    manifest = check_folder(folder, args.artifact_id)
    load = _load_settings(args, folder, manifest.chat_template if manifest is not None else None)
    # Before torch is imported, which takes seconds: a port in use is said at once, and probes can connect.
    with bind(args.host, args.port) as listener:
        engine = create_engine(load)
        settings = ServiceSettings(
            served_name=args.served_name or folder.resolve().name,
            revision=args.revision,
            created=int(time.time()),
            max_stream_seconds=args.max_stream_seconds,
        )
        lifecycle = Lifecycle()
        app = create_app(engine, settings, lifecycle)
        asyncio.run(serve(app, listener, engine, lifecycle, settings.max_stream_seconds, args.drain_seconds))


def _load_settings(args: argparse.Namespace, folder: Path, pinned_template: str | None) -> LoadSettings:
    return LoadSettings(
        folder=folder,
        pinned_template=pinned_template,
        chat_template=args.chat_template,
        device=args.device,
        num_gpus=args.num_gpus,
        dtype=args.dtype,
        quantization=args.quantization,
        max_gpu_memory=args.max_gpu_memory,
        context_length=args.context_length,
        kv_cache_memory=args.kv_cache_memory,
        max_concurrency=args.max_concurrency,
    )


class _Adder:
    """Adds a flag whose default is the environment variable of its name, where that is set."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser

    def __call__(self, flag: str, *, required: bool = False, default: str | None = None, **options: object) -> None:
        variable = "VICUNA_" + flag.removeprefix("--").replace("-", "_").upper()
        value = os.environ.get(variable) or default
        choices = options.get("choices")
        # argparse checks neither the default's choice nor says where a bad default came from.
        if isinstance(choices, tuple) and value is not None and value not in choices:
            self._parser.error(f"{variable} is {value!r}; use one of {', '.join(choices)}")
        self._parser.add_argument(flag, required=required and value is None, default=value, **options)  # type: ignore[arg-type]


def _port(text: str) -> int:
    number = count(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port; ports end at 65535")
    return number
