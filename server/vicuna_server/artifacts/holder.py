"""Who holds a lock: what a process writes of itself, and whether another one is known to be gone."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["is_dead", "this_process"]


def this_process() -> dict[str, Any]:
    """Return what tells this process from every other one."""
    return {"host": _host(), "pid": os.getpid(), "started": _start_time(os.getpid())}


def is_dead(content: Mapping[str, Any]) -> bool:
    """Whether the process that wrote this ran here and is gone; False wherever that cannot be known."""
    host = _host()
    pid = content.get("pid")
    if not host or content.get("host") != host or not isinstance(pid, int):
        return False
    started = _start_time(pid)
    return _is_gone(pid) if started is None else content.get("started") != started


def _host() -> str:
    """Name the running kernel and process namespace: in two pods the same pid means nothing."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Return when a process began, in the kernel's own unit; empty for one that has ended; None if not to be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the process name before it may contain spaces and brackets
    return "" if fields[0] == "Z" else fields[19]


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it belongs to another user: it lives, and /proc hides it
        return False
    return False
