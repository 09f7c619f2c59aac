"""The command line of `vicuna-server serve`."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Final, Literal, Self, get_args

from vicuna_contract.arguments import Declare, Parser, count, header_value, http_url, port, positive, template
from vicuna_contract.names import REVISION_HEADER, SERVER_PORT
from vicuna_contract.signing import gateway_keys
from vicuna_contract.templates import AUTO, BUILT_IN_TEMPLATES, FROM_TOKENIZER

__all__ = [
    "DEVICES",
    "ENGINES",
    "PER_KEY",
    "PREFIX_CACHES",
    "QUANTIZATIONS",
    "SERVING_DTYPES",
    "Device",
    "Engine",
    "PrefixCache",
    "Quantization",
    "ServeArguments",
    "ServingDtype",
]

Engine = Literal["builtin", "vllm", "scripted"]
ENGINES: Final[tuple[Engine, ...]] = get_args(Engine)
Device = Literal["auto", "cuda", "cpu"]
DEVICES: Final[tuple[Device, ...]] = get_args(Device)
ServingDtype = Literal["auto", "float16", "bfloat16", "float32"]
SERVING_DTYPES: Final[tuple[ServingDtype, ...]] = get_args(ServingDtype)
Quantization = Literal["none", "int8", "nf4"]
QUANTIZATIONS: Final[tuple[Quantization, ...]] = get_args(Quantization)
PrefixCache = Literal["PerKey", "Shared", "Off"]
PREFIX_CACHES: Final[tuple[PrefixCache, ...]] = get_args(PrefixCache)
PER_KEY: Final[PrefixCache] = "PerKey"

_NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class ServeArguments:
    """What a server is asked to serve, and how; None stands for what the server itself decides.

    Attributes:
        model: folder of the artifact.
        served_name: the model's name in the API; None: the folder's name.
        revision: sent back with every response.
        artifact_id: refuse to start when the artifact's manifest says another.
        artifact_digest: refuse to start when the artifact's files are others; None: unchecked.
        device: one of `DEVICES`; auto: cuda where `num_gpus` is above 0.
        num_gpus: GPUs to spread the layers over.
        dtype: one of `SERVING_DTYPES`.
        quantization: one of `QUANTIZATIONS`.
        max_gpu_memory: quantity, the most that the weights may take on each GPU.
        chat_template: one of `templates.CHAT_TEMPLATES`, or the path of a `.jinja` file.
        context_length: limit of prompt and answer in tokens.
        max_concurrency: generations at once.
        max_stream_seconds: longest answer.
        prefix_cache: who shares keys and values, one of `PREFIX_CACHES`; None: PerKey.
        port: to listen on; 0: any free one.
        kv_cache_memory: quantity, memory for keys and values.
        drain_seconds: on SIGTERM, go on taking requests so long.
        access_log: `on` or `off`.
        allowed_origins: comma-separated origins whose pages may use the API from a browser; `*`: all; empty: none.
        accept_token_ids: `on` or `off`, whether /v1/embeddings takes token ids.
        keep_alive_seconds: how long a connection may be idle between two requests.
        host: address to listen on.
        gateway_keys: public keys of gateways (see `signing`); answer only what one of them has signed; None: anybody.
        audience: whom a signature must be for.
        engine: what generates, one of `ENGINES`; None: builtin.
        engine_url: where the vLLM server is.
        engine_digest: of what decides about its tokens, besides model and context; None: as with all of `revision`.
        kept_responses: responses of `/v1/responses` that are kept at most; 0: none.
        kept_responses_memory: quantity, memory for them.
        kept_responses_seconds: how long each is kept.
        drained_file: written once nothing is asked of the engine any more; None: none is.
    """

    model: str
    served_name: str | None = None
    revision: str = "unknown"
    artifact_id: str | None = None
    artifact_digest: str | None = None
    device: str = AUTO
    num_gpus: int = 0
    dtype: str = AUTO
    quantization: str = "none"
    max_gpu_memory: str | None = None
    chat_template: str = AUTO
    context_length: int | None = None
    max_concurrency: int = 32
    max_stream_seconds: int = 600
    prefix_cache: PrefixCache | None = None
    port: int = SERVER_PORT
    kv_cache_memory: str | None = None
    drain_seconds: int = 5
    access_log: str = "on"
    allowed_origins: str = ""
    accept_token_ids: str = "off"  # noqa: S105  # tokens of text
    keep_alive_seconds: int = 620
    host: str = "0.0.0.0"  # noqa: S104  # a container's port
    gateway_keys: str | None = None
    audience: str | None = None
    engine: str | None = None
    engine_url: str | None = None
    engine_digest: str | None = None
    drained_file: str | None = None
    kept_responses: int = 1000
    kept_responses_memory: str = "64Mi"
    kept_responses_seconds: int = 3600

    def to_argv(self) -> list[str]:
        """Return the words after `vicuna-server`."""
        words = ["serve"]
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not (field.name in _LEFT_TO_THE_SERVER and value == field.default):
                words += [f"--{field.name.replace('_', '-')}", str(value)]
        return words

    @classmethod
    def from_argv(cls, words: Sequence[str], environ: Mapping[str, str] = _NO_ENVIRONMENT) -> Self:
        """Read the words after `vicuna-server`; wrong usage ends the process as argparse does, with 64."""
        parser = Parser(prog="vicuna-server serve")
        cls.declare(parser, environ)
        return cls.of(parser.parse_args(words[1:]))

    @staticmethod
    def declare(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
        """Declare the flags; each can also come from the environment, `--served-name` as `VICUNA_SERVED_NAME`."""
        add = Declare(parser, environ)
        quantity = "QUANTITY"
        add("--model", required=True, metavar="DIR", help="folder of the artifact")
        add("--served-name", help="the model's name in the API (default: the folder's name)")
        add("--revision", default="unknown", type=header_value, help=f"sent back in the {REVISION_HEADER} header")
        add("--artifact-id", help="refuse to start when the artifact's manifest says another")
        add(
            "--artifact-digest",
            help="refuse to start unless the artifact's files have this digest, as the merge reported",
        )
        add("--device", default=AUTO, choices=DEVICES, help="auto: cuda when --num-gpus is above 0")
        add("--num-gpus", default="0", type=count, help="GPUs to spread the layers over (default: 0)")
        add("--dtype", default=AUTO, choices=SERVING_DTYPES)
        add("--quantization", default="none", choices=QUANTIZATIONS)
        add("--max-gpu-memory", metavar=quantity, help="most that the weights may take on each GPU, such as 13Gi")
        add("--kv-cache-memory", metavar=quantity, help="memory for keys and values (default: what the weights leave)")
        names = ", ".join((*BUILT_IN_TEMPLATES, FROM_TOKENIZER))
        help_text = f"auto (default), {names}, or a file with a Jinja template"
        add("--chat-template", default=AUTO, type=template, metavar="NAME|FILE.jinja", help=help_text)
        add("--context-length", type=positive, help="limit of prompt and answer in tokens (default: the model's)")
        add("--max-concurrency", default="32", type=positive, help="generations at once (default: 32)")
        add("--max-stream-seconds", default="600", type=positive, help="longest answer (default: 600)")
        shared = "whose requests share keys and values: of one key (default), of all, or none"
        add("--prefix-cache", choices=PREFIX_CACHES, help=shared)
        add("--drain-seconds", default="5", type=count, help="on SIGTERM, go on taking requests so long (default: 5)")
        add("--access-log", default="on", choices=("on", "off"), help="one line of JSON per request, without its text")
        origins = "ORIGIN[,ORIGIN…]"
        add("--allowed-origins", default="", metavar=origins, help="pages that may use the API from a browser; *: all")
        ids = "/v1/embeddings takes token ids: of this model's tokenizer (default: off)"
        add("--accept-token-ids", default="off", nargs="?", const="on", choices=("on", "off"), help=ids)
        text = "close a connection that is idle between two requests (default: 620, longer than proxies keep theirs)"
        add("--keep-alive-seconds", default="620", type=positive, help=text)
        add("--host", default="0.0.0.0", help="address to listen on (default: all)")  # noqa: S104
        add("--port", default="8000", type=port, help="port to listen on (default: 8000; 0: any free one)")
        help_text = "answer only what the holder of one of these public keys has signed, and this machine"
        add("--gateway-keys", type=gateway_keys, metavar="BASE64,…", help=help_text)
        add("--audience", metavar="NAMESPACE/NAME/UID", help="whom a gateway's signature must be for")
        help_text = "what generates: this process (builtin, default), a vLLM server, or a script for tests"
        add("--engine", metavar="|".join(ENGINES), help=help_text)  # a wrong one is told in the termination message too
        add("--engine-url", type=http_url, metavar="URL", help="the vLLM server, such as http://127.0.0.1:8001")
        help_text = "servers go on with each other's streams if these are equal (default: those of the same --revision)"
        add("--engine-digest", metavar="TEXT", help=help_text)
        help_text = "responses of /v1/responses that are kept for previous_response_id (default: 1000; 0: none)"
        add("--kept-responses", default="1000", type=count, help=help_text)
        add("--kept-responses-memory", default="64Mi", metavar=quantity, help="memory for them (default: 64Mi)")
        add("--kept-responses-seconds", default="3600", type=positive, help="how long each is kept (default: 3600)")
        help_text = "written once the vLLM server may stop: this one has drained, or that one hangs"
        add("--drained-file", metavar="PATH", help=help_text)

    @classmethod
    def of(cls, args: argparse.Namespace) -> Self:
        """Take what a parser with these flags has read."""
        return cls(**{field.name: getattr(args, field.name) for field in fields(cls)})


# The operator says nothing of these, so that its command lines stay as they are when one is added.
_LEFT_TO_THE_SERVER = frozenset(
    {
        "artifact_digest",
        "engine_digest",
        "kv_cache_memory",
        "drain_seconds",
        "access_log",
        "allowed_origins",
        "accept_token_ids",
        "keep_alive_seconds",
        "host",
        "kept_responses",
        "kept_responses_memory",
        "kept_responses_seconds",
    }
)
