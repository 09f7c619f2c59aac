"""`vicuna-server serve`: flags, checks that need no model, and the way out on failure."""

import argparse
import asyncio
import logging
import os
import sys
import time
from pathlib import Path

from vicuna_server.engine import Engine
from vicuna_server.errors import InputError, UsageError, VicunaError
from vicuna_server.manifest import Manifest
from vicuna_server.prompts import CHAT_TEMPLATES, FROM_TOKENIZER
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
    add("--num-gpus", default="0", type=_count, help="GPUs to spread the layers over (default: 0)")
    add("--dtype", default="auto", choices=("auto", "float16", "bfloat16", "float32"))
    add("--quantization", default="none", choices=("none", "int8", "nf4"))
    add("--max-gpu-memory", metavar="QUANTITY", help="most that the weights may take on each GPU, such as 13Gi")
    add("--kv-cache-memory", metavar="QUANTITY", help="memory for keys and values (default: what the weights leave)")
    add("--chat-template", default="auto", choices=("auto", *CHAT_TEMPLATES))
    add("--context-length", type=_positive, help="limit of prompt and answer in tokens (default: the model's)")
    add("--max-concurrency", default="32", type=_positive, help="generations at once (default: 32)")
    add("--max-stream-seconds", default="600", type=_positive, help="longest answer (default: 600)")
    add("--drain-seconds", default="5", type=_count, help="on SIGTERM, go on taking requests so long (default: 5)")
    add("--host", default="0.0.0.0", help="address to listen on (default: all)")  # noqa: S104  # a container's port
    add("--port", default="8000", type=_port, help="port to listen on (default: 8000; 0: any free one)")


def run(args: argparse.Namespace) -> int:
    """Serve until stopped; return 0, or the exit code of what went wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    for noisy in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        _serve(args)
    except VicunaError as error:
        print(f"vicuna-server serve: {error.reason}: {error.message}", file=sys.stderr)
        write_termination_message(failure_message(error))
        return error.exit_code
    return 0


def _serve(args: argparse.Namespace) -> None:
    # Imported here so that `--help` and wrong flags answer at once.
    from vicuna_server.http.app import create_app
    from vicuna_server.http.lifecycle import Lifecycle
    from vicuna_server.http.server import bind, serve
    from vicuna_server.http.settings import ServiceSettings

    folder = Path(args.model)
    kind = os.environ.get("VICUNA_ENGINE") or "transformers"
    if kind not in ("transformers", "scripted"):
        raise UsageError(f"VICUNA_ENGINE is {kind!r}; use transformers or scripted")
    scripted = kind == "scripted"
    manifest = _check_artifact(folder, args.artifact_id, scripted=scripted)
    # Before torch is imported, which takes seconds: a port in use is said at once, and probes can connect.
    with bind(args.host, args.port) as listener:
        engine = _engine(args, folder, manifest, scripted=scripted)
        settings = ServiceSettings(
            served_name=args.served_name or folder.resolve().name,
            revision=args.revision,
            created=int(time.time()),
            max_stream_seconds=args.max_stream_seconds,
        )
        lifecycle = Lifecycle()
        app = create_app(engine, settings, lifecycle)
        asyncio.run(serve(app, listener, engine, lifecycle, settings.max_stream_seconds, args.drain_seconds))


def _check_artifact(folder: Path, artifact_id: str | None, *, scripted: bool) -> Manifest | None:
    """Refuse a folder that is no model, or not the one that was meant."""
    if not folder.is_dir():
        raise InputError("ModelNotFound", f"--model {folder} is no folder; check the path and the volume's mount")
    manifest = Manifest.load(folder)
    if artifact_id is not None and manifest is None:
        raise InputError(
            "ArtifactMismatch", f"{folder} has no manifest, but artifact {artifact_id} is asked for; merge it again"
        )
    if artifact_id is not None and manifest is not None and manifest.artifact_id != artifact_id:
        raise InputError(
            "ArtifactMismatch",
            f"{folder} holds artifact {manifest.artifact_id}, but {artifact_id} is asked for; "
            "point --model at that artifact's folder",
        )
    if not scripted and not (folder / "config.json").is_file():
        raise InputError("ModelNotFound", f"{folder} has no config.json, so it is no model; check the path")
    if manifest is not None and not scripted:
        _check_files(folder, manifest)
    return manifest


def _check_files(folder: Path, manifest: Manifest) -> None:
    for entry in manifest.files:
        path = folder / entry.path
        size = path.stat().st_size if path.is_file() else None
        if size != entry.size:
            found = "is missing" if size is None else f"has {size} bytes instead of {entry.size}"
            raise InputError("ArtifactDamaged", f"{path} {found}; merge the model again")


def _engine(args: argparse.Namespace, folder: Path, manifest: Manifest | None, *, scripted: bool) -> Engine:
    pinned = manifest.chat_template if manifest is not None else None
    if scripted:
        from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings

        template = pinned or FROM_TOKENIZER if args.chat_template == "auto" else args.chat_template
        settings = ScriptedSettings.from_env(os.environ, args.context_length)
        return ScriptedEngine(settings, template, args.max_concurrency)
    from vicuna_server.engine.loading import LoadSettings
    from vicuna_server.engine.transformers import TransformersEngine

    load = LoadSettings(
        folder=folder,
        pinned_template=pinned,
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
    return TransformersEngine(load)


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


def _count(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return number


def _positive(text: str) -> int:
    number = _count(text)
    if number == 0:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _port(text: str) -> int:
    number = _count(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port; ports end at 65535")
    return number
