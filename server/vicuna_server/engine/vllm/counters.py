"""What vLLM's `/metrics` tells: lines to pass on, whether it gets on, and how full its cache is."""

import re
from typing import NamedTuple

__all__ = ["Cache", "cache_of", "own_lines", "progress_of"]

_OWN = re.compile(rb"^(?:# (?:HELP|TYPE) )?vllm:.*\n?", re.MULTILINE)
_PROGRESS = re.compile(
    rb"^vllm:(?:generation_tokens_total|prompt_tokens_total|iteration_tokens_total_count|kv_cache_usage_perc)\b.*$",
    re.MULTILINE,
)
_USAGE = re.compile(rb"^vllm:kv_cache_usage_perc(?:\{[^}]*\})? (\S+)", re.MULTILINE)
_CONFIG = re.compile(rb"^vllm:cache_config_info\{([^}]*)\}", re.MULTILINE)
_LABEL = re.compile(rb'(\w+)="([^"]*)"')


class Cache(NamedTuple):
    """Tokens whose keys and values are held, and the most that can be."""

    used: int
    capacity: int


def own_lines(exposition: bytes) -> bytes:
    """Return the lines of vLLM's own metrics, with their help; those of its process and HTTP server are left out."""
    return b"".join(line if line.endswith(b"\n") else line + b"\n" for line in _OWN.findall(exposition))


def progress_of(exposition: bytes) -> tuple[bytes, ...]:
    """Return what changes while the engine works, as it is written: the counters of tokens and the use of the cache."""
    return tuple(_PROGRESS.findall(exposition))


def cache_of(exposition: bytes) -> Cache | None:
    """Return size and use of the cache; None where they are not told."""
    usage, config = _USAGE.search(exposition), _CONFIG.search(exposition)
    if usage is None or config is None:
        return None
    labels = dict(_LABEL.findall(config[1]))
    try:
        capacity = int(labels[b"num_gpu_blocks"]) * int(labels[b"block_size"])
        return Cache(round(float(usage[1]) * capacity), capacity)
    except (ValueError, LookupError):
        return None
