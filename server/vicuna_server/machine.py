"""CPUs and memory of this container or machine, as the kernel reports them. No torch."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Memory", "memory_left", "memory_limit", "usable_cpus"]

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_UNLIMITED = 2**60
"""Control groups of version 1 report a number of this order where no limit is set."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory in bytes.

    Attributes:
        left: Bytes that can still be used; files cached by the kernel count as free.
        limited: Whether this is a container's limit, not the memory of the machine, which others share.
    """

    left: int
    limited: bool


def memory_left(cgroup: Path = _CGROUP, meminfo: Path = _MEMINFO) -> Memory:
    """Return what is left of the control group's limit (version 2 or 1), or of the machine without a limit."""
    machine = _meminfo(meminfo)
    for limit, usage_file in _limits(cgroup):
        usage = _number(usage_file)
        if usage is not None:
            cached = _cached(usage_file.with_name("memory.stat"))
            return Memory(max(0, min(limit - usage + cached, machine)), limited=True)
    return Memory(machine, limited=False)


def memory_limit(cgroup: Path = _CGROUP) -> int | None:
    """Return the limit of the control group (version 2 or 1) in bytes; None: there is no limit."""
    return next((limit for limit, _ in _limits(cgroup) if limit > 0), None)


def usable_cpus(cpu_max: Path = _CGROUP / "cpu.max") -> int:
    """Return how many CPUs this process may use: affinity, and the cgroup's quota rounded up."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = cpu_max.read_text(encoding="ascii").split()
        if quota != "max":
            cpus = min(cpus, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return max(1, cpus)


def _limits(cgroup: Path) -> Iterator[tuple[int, Path]]:
    """Yield the limits that are set, each with the file of its usage."""
    for folder, limit_name, usage_name in (
        (cgroup, "memory.max", "memory.current"),
        (cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit = _number(folder / limit_name)
        if limit is not None and limit < _UNLIMITED:
            yield limit, folder / usage_name


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # also "max": no limit


def _cached(stat: Path) -> int:
    """Return the bytes of files in the group's cache that the kernel gives back under pressure."""
    try:
        lines = stat.read_text(encoding="ascii").splitlines()
        fields = {name: int(value) for name, value in (line.split() for line in lines)}
    except (OSError, ValueError):
        return 0
    return sum(fields.get(f"total_{name}", fields.get(name, 0)) for name in ("inactive_file", "active_file"))


def _meminfo(path: Path) -> int:
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return _UNLIMITED
