"""The command line and environment of `vllm serve`, the engine behind our front, and which flags users may add.

Source: https://docs.vllm.ai/en/v0.32.0/cli/serve/ and vLLM's vllm/engine/arg_utils.py at v0.32.0.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from vicuna_contract.names import ENGINE_PORT
from vicuna_contract.serve_arguments import Engine

__all__ = [
    "ALLOWED_FLAGS",
    "CACHE_VARIABLES",
    "FIELDS_OF_FLAGS",
    "VLLM",
    "VLLM_IMAGE",
    "EngineArguments",
    "RefusedArgumentError",
    "engine_environment",
]

VLLM: Final[Engine] = "vllm"
VLLM_IMAGE: Final = "vllm/vllm-openai:v0.32.0"
"""The version that these arguments are written for; its image for CUDA."""

_NUMBER: Final = r"[0-9]{1,18}"
_SIZE: Final = r"[0-9]{1,18}(\.[0-9]{1,6})?[kKmMgGtT]?"
_GIBIBYTES: Final = r"[0-9]{1,6}(\.[0-9]{1,6})?"
_FRACTION: Final = r"0?\.[0-9]{1,6}|1(\.0{1,6})?"
_WORD: Final = r"[A-Za-z0-9_]{1,47}"  # an entry has at most 64 characters

# Flags that only tune: none loads code, reads another file, opens a port or changes what an answer means.
ALLOWED_FLAGS: Final[Mapping[str, str | None]] = MappingProxyType(
    {
        "--async-scheduling": None,
        "--block-size": _NUMBER,
        "--cpu-offload-gb": _GIBIBYTES,
        "--disable-cascade-attn": None,
        "--disable-custom-all-reduce": None,
        "--enable-chunked-prefill": None,
        "--enforce-eager": None,
        "--gpu-memory-utilization": _FRACTION,
        "--kv-cache-dtype": _WORD,
        "--kv-cache-memory-bytes": _SIZE,
        "--kv-offloading-size": _GIBIBYTES,
        "--long-prefill-token-threshold": _NUMBER,
        "--max-cudagraph-capture-size": _NUMBER,
        "--max-num-batched-tokens": _SIZE,
        "--no-async-scheduling": None,
        "--no-enable-chunked-prefill": None,
        "--optimization-level": r"[0-3]",
        "--performance-mode": r"balanced|interactivity|throughput",
        # Those that quantize while they load; others, `fp8` too, want files that are quantized already.
        "--quantization": r"fp8_per_tensor|fp8_per_block|fp8_per_channel",
        "--safetensors-load-strategy": r"lazy|eager|prefetch",
    }
)
"""What `serving.engineArgs` may hold: flag to a regular expression of its value; None: the flag takes no value."""

_BATCHES_AND_MEMORY: Final = frozenset(
    {
        "--async-scheduling",
        "--cpu-offload-gb",
        "--enable-chunked-prefill",
        "--gpu-memory-utilization",
        "--kv-cache-memory-bytes",
        "--kv-offloading-size",
        "--long-prefill-token-threshold",
        "--max-num-batched-tokens",
        "--no-async-scheduling",
        "--no-enable-chunked-prefill",
        "--safetensors-load-strategy",
    }
)
"""Flags that choose no other number format and no other kernels. What is batched with what differs at any moment."""

FIELDS_OF_FLAGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "--tensor-parallel-size": "numGpus",
        "--dtype": "dtype",
        "--max-model-len": "contextLength",
        "--max-num-seqs": "maxConcurrency",
        "--enable-prefix-caching": "prefixCache",
        "--no-enable-prefix-caching": "prefixCache",
        "--served-model-name": "servedName",
        "--chat-template": "chatTemplate",
    }
)
"""Flags that a field of `serving` sets."""

_SHUTDOWN_SECONDS = 10  # the front has drained by then: what still runs has nobody who reads it

CACHE_VARIABLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "HOME": "",
        "VLLM_CACHE_ROOT": "/vllm",
        "TORCHINDUCTOR_CACHE_DIR": "/torchinductor",
        "TRITON_CACHE_DIR": "/triton",
        "XDG_CACHE_HOME": "/xdg-cache",
        "XDG_CONFIG_HOME": "/xdg-config",
    }
)
"""Where vLLM and what it stands on write, below one folder."""


class RefusedArgumentError(ValueError):
    """An entry of `serving.engineArgs` that is not allowed; `index` is its place in the list."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


@dataclass(frozen=True)
class EngineArguments:
    """How `vllm serve` is asked to serve an artifact; it listens on this machine or pod alone.

    Attributes:
        model: folder of the artifact.
        served_name: the model's name in its API and metrics.
        num_gpus: GPUs to split each layer over; 0: none, as with vLLM's image for CPUs.
        dtype: as `serve_arguments.SERVING_DTYPES`; vLLM knows the same words.
        context_length: limit of prompt and answer in tokens; None: the largest that fits.
        max_concurrency: sequences at once.
        share_prefixes: whether requests may share keys and values at all; of whom is for each request to say.
        added: the user's own flags, checked by `check`.
        port: to listen on.
    """

    model: str
    served_name: str
    num_gpus: int = 0
    dtype: str = "auto"
    context_length: int | None = None
    max_concurrency: int = 32
    share_prefixes: bool = True
    added: Sequence[str] = ()
    port: int = ENGINE_PORT

    def to_argv(self) -> list[str]:
        """Return the words after `vllm`; the user's come last."""
        return [
            *("serve", self.model, "--host", "127.0.0.1", "--port", str(self.port)),
            *("--served-model-name", self.served_name),
            # Else sampling defaults of the artifact's generation_config.json would hold, which the front does not know.
            *("--generation-config", "vllm"),
            *("--disable-fastapi-docs", "--enable-prompt-tokens-details"),
            # The front checks constraints with the same library; what only its newer version knows, vLLM refuses.
            *("--structured-outputs-config.backend", "guidance"),
            *("--disable-access-log-for-endpoints", "/health,/metrics"),  # the front asks every second
            *("--shutdown-timeout", str(_SHUTDOWN_SECONDS)),
            *("--max-num-seqs", str(self.max_concurrency)),
            *("--tensor-parallel-size", str(max(1, self.num_gpus))),
            # Without a number vLLM wants a cache for the model's longest context, or refuses to start.
            *("--max-model-len", "auto" if self.context_length is None else str(self.context_length)),
            *("--dtype", self.dtype),
            *(() if self.share_prefixes else ("--no-enable-prefix-caching",)),
            *self.added,
        ]

    def deciding(self) -> list[str]:
        """Return what decides about tokens besides model and context, in a form that is equal however it was written.

        A flag counts unless it is known to be about batches and memory alone.
        """
        added = {flag: value for _, flag, value in _flags(self.added) if flag not in _BATCHES_AND_MEMORY}
        decide = {"--dtype": self.dtype, "--tensor-parallel-size": str(max(1, self.num_gpus)), **added}
        return [flag if value is None else f"{flag}={value}" for flag, value in sorted(decide.items())]

    @staticmethod
    def check(added: Sequence[str]) -> None:
        """Check flags of the user's.

        Raises:
            RefusedArgumentError: one is not allowed, is there twice, or its value has the wrong form.
        """
        seen: set[str] = set()
        for index, flag, value in _flags(added):
            _check_flag(index, flag, value)
            if flag in seen:
                raise RefusedArgumentError(index, f"{flag} is there twice; remove one")
            seen.add(flag)


def engine_environment(folder: str) -> dict[str, str]:
    """Return the variables of `vllm serve`: nothing is sent or fetched, and all it writes is below `folder`.

    LOGNAME: PyTorch asks for the user's name, and the user id of a container has none.
    """
    fixed = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "LOGNAME": "vicuna"}
    return fixed | {name: folder + below for name, below in CACHE_VARIABLES.items()}


def _flags(added: Sequence[str]) -> Iterator[tuple[int, str, str | None]]:
    """Yield index, flag and value; a value stands behind `=`, or in the next entry where the flag takes one."""
    entries = iter(enumerate(added))
    for index, word in entries:
        flag, equals, value = word.partition("=")
        if equals or ALLOWED_FLAGS.get(flag) is None:
            yield index, flag, value if equals else None
        else:
            yield index, flag, next(entries, (index, None))[1]


def _check_flag(index: int, flag: str, value: str | None) -> None:
    if flag in FIELDS_OF_FLAGS:
        raise RefusedArgumentError(index, f"{flag} is set by spec.serving.{FIELDS_OF_FLAGS[flag]}; state that instead")
    if flag not in ALLOWED_FLAGS:
        allowed = ", ".join(sorted(ALLOWED_FLAGS))
        raise RefusedArgumentError(index, f"{flag[:80]!r} is not allowed; allowed are {allowed}")
    form = ALLOWED_FLAGS[flag]
    if form is None and value is not None:
        raise RefusedArgumentError(index, f"{flag} takes no value, and has {value[:80]!r}; remove it")
    if form is not None and (value is None or not re.fullmatch(form, value, re.ASCII)):
        found = "none" if value is None else repr(value[:80])
        raise RefusedArgumentError(
            index, f"{flag} needs a value of the form {form}, as {flag}=VALUE or in the next entry, and has {found}"
        )
