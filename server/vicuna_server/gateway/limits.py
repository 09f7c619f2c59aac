"""The memory and file descriptors that this process may use."""

import contextlib
import resource
from collections.abc import Callable

from vicuna_server.machine import memory_limit

__all__ = ["body_memory", "most_connections", "raise_descriptors"]

_BODY_SHARE = 4
_PLAIN_BODY_MEMORY = 128 * 2**20
_OTHER_DESCRIPTORS = 64
"""File descriptors for listeners, watches, logs, and a reserve."""
_FEWEST_CONNECTIONS = 16


def body_memory(limit: Callable[[], int | None] = memory_limit) -> int:
    """Return how many bytes all bodies under way may take: a quarter of the container's memory, else 128 MiB."""
    most = limit()
    return _PLAIN_BODY_MEMORY if most is None else most // _BODY_SHARE


def raise_descriptors() -> None:
    """Raise the limit of file descriptors to its hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_connections(stated: int) -> int:
    """Return how many connections of clients there may be; each may need a second descriptor, to a server."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return stated
    return min(stated, max((soft - _OTHER_DESCRIPTORS) // 2, _FEWEST_CONNECTIONS))
