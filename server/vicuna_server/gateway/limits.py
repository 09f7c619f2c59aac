"""What this process may take of its machine: memory, by its control group, and file descriptors."""

import contextlib
import resource
from pathlib import Path

__all__ = ["body_memory", "most_connections", "raise_descriptors"]

_CGROUP_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_NO_LIMIT = 2**60
"""Version 1 of control groups says so with a number near 2^63."""

_BODY_SHARE = 4
_PLAIN_BODY_MEMORY = 128 * 2**20
_OTHER_DESCRIPTORS = 64
"""Listeners, watches, logs, and some to spare."""
_FEWEST_CONNECTIONS = 16


def body_memory(files: tuple[Path, ...] = _CGROUP_FILES) -> int:
    """Return the bytes that all bodies under way may take: a quarter of the container's memory, else 128 MiB."""
    for path in files:
        with contextlib.suppress(OSError, ValueError):
            limit = int(path.read_text())
            if 0 < limit < _NO_LIMIT:
                return limit // _BODY_SHARE
    return _PLAIN_BODY_MEMORY


def raise_descriptors() -> None:
    """Allow this process as many file descriptors as it may allow itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_connections(stated: int) -> int:
    """Return how many clients' connections there may be; each may need another descriptor, for the way to a server."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return stated
    return min(stated, max((soft - _OTHER_DESCRIPTORS) // 2, _FEWEST_CONNECTIONS))
