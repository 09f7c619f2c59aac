"""`vicuna-server serve`: flags, checks that need no model, and the message and exit code of a failure."""

import argparse
import logging
import os
import sys
import time
from pathlib import Path

from vicuna_contract.arguments import split_origins
from vicuna_contract.serve_arguments import PER_KEY, ServeArguments
from vicuna_contract.signing import public_keys
from vicuna_server.api.responses.store import StoreLimits
from vicuna_server.api.settings import Check, ServiceSettings
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.asgi.access_log import set_up_access_log
from vicuna_server.engine.opening import check_folder, create_engine
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.engine.vllm.drained import DrainedFile
from vicuna_server.engine.vllm.settings import VllmSettings
from vicuna_server.errors import UsageError, VicunaError
from vicuna_server.flags import memory, require_template_file
from vicuna_server.termination import failure_message, write_termination_message

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags; each can also come from the environment, `--served-name` as `VICUNA_SERVED_NAME`."""
    ServeArguments.declare(parser, os.environ)


def run(args: argparse.Namespace) -> int:
    """Serve until stopped; return 0, or the exit code of what went wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    for noisy in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    set_up_access_log(on=args.access_log == "on")
    try:
        _serve(ServeArguments.of(args))
    except VicunaError as error:
        write_termination_message(failure_message(error))
        print(f"vicuna-server serve: {error.reason}: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0


def _serve(args: ServeArguments) -> None:
    drained = DrainedFile(None if args.drained_file is None else Path(args.drained_file))
    drained.remove()
    try:
        _serve_until_drained(args)
    finally:
        drained.write()


def _serve_until_drained(args: ServeArguments) -> None:
    # Imported here so that `--help` and wrong flags get their output at once.
    from vicuna_server.api.app import create_app
    from vicuna_server.api.lifecycle import Lifecycle
    from vicuna_server.api.server import serve
    from vicuna_server.asgi.event_loop import run
    from vicuna_server.asgi.listening import bind

    folder = Path(args.model)
    manifest = check_folder(folder, args.artifact_id, args.artifact_digest, args.engine)
    load = _load_settings(args, folder, manifest)
    # Before torch is imported, which takes seconds: a port in use is reported at once, and probes can connect.
    with bind(args.host, args.port) as listener:
        engine = create_engine(load, args.engine, _vllm_settings(args))
        settings = ServiceSettings(
            served_name=args.served_name or folder.resolve().name,
            revision=args.revision,
            created=int(time.time()),
            max_stream_seconds=args.max_stream_seconds,
            allowed_origins=split_origins(args.allowed_origins),
            accepts_token_ids=args.accept_token_ids == "on",  # noqa: S105  # tokens of text
            prefix_cache=args.prefix_cache or PER_KEY,
            kept_responses=_kept_responses(args),
            artifact="" if manifest is None else manifest.artifact_id,
            signatures=_signatures(args),
        )
        lifecycle = Lifecycle()
        app = create_app(engine, settings, lifecycle)
        limits = (settings.max_stream_seconds, args.drain_seconds, args.keep_alive_seconds)
        run(serve(app, listener, engine, lifecycle, *limits))


def _kept_responses(args: ServeArguments) -> StoreLimits:
    size = memory("--kept-responses-memory", args.kept_responses_memory) or 0
    return StoreLimits(args.kept_responses, size, args.kept_responses_seconds)


def _vllm_settings(args: ServeArguments) -> VllmSettings | None:
    if args.engine_url is None:
        return None
    drained = None if args.drained_file is None else Path(args.drained_file)
    return VllmSettings(args.engine_url, drained, digest=args.engine_digest or f"revision {args.revision}")


def _signatures(args: ServeArguments) -> Check | None:
    """Return the check of requests; None where requests need no signature."""
    if not args.gateway_keys:
        return None
    if not args.audience:
        raise UsageError(
            "--gateway-keys is given without --audience (VICUNA_AUDIENCE); give the audience that signatures must have"
        )
    from vicuna_server.api.signature import Signatures  # slow to import, about 0.2 s

    return Signatures(public_keys(args.gateway_keys), args.audience)


def _load_settings(args: ServeArguments, folder: Path, manifest: Manifest | None) -> LoadSettings:
    return LoadSettings.of(
        folder,
        manifest,
        chat_template=require_template_file("--chat-template", args.chat_template),
        device=args.device,
        num_gpus=args.num_gpus,
        dtype=args.dtype,
        quantization=args.quantization,
        max_gpu_memory=memory("--max-gpu-memory", args.max_gpu_memory),
        context_length=args.context_length,
        kv_cache_memory=memory("--kv-cache-memory", args.kv_cache_memory),
        max_concurrency=args.max_concurrency,
    )
