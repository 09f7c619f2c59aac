"""What can befall a process at a chosen change to the file system: death, a stop, a full volume."""

import errno
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from vicuna_server.run.meter import Meter

GROWING = ("open", "write", "pwrite", "fsync", "fdatasync", "mkdir", "link", "rename", "replace")
CHANGES = (*GROWING, "unlink", "rmdir", "utime")
Act = Callable[[str, tuple[Any, ...]], object]


def changes(name: str, args: tuple[Any, ...]) -> bool:
    """Whether a call would change anything."""
    if name == "open":
        return bool(args[1] & os.O_CREAT)
    return name != "mkdir" or not os.path.isdir(args[0])


def interrupt(limit: int, names: tuple[str, ...], act: Act, *, lasting: bool = False) -> None:
    """Let `act` come before the `limit`-th call of the functions named, and before all later ones if it is lasting."""
    count = 0

    def intercepted(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            if changes(name, args):
                count += 1
                if count == limit or (lasting and count > limit):
                    act(name, args)
            return real(*args, **kwargs)

        return call

    for name in names:
        setattr(os, name, intercepted(name))


def die(name: str, args: tuple[Any, ...]) -> None:
    """Be killed, in the middle of a write."""
    if name == "write":
        os.pwrite(args[0], args[1][: len(args[1]) // 2], os.lseek(args[0], 0, os.SEEK_CUR))
    os.kill(os.getpid(), signal.SIGKILL)


def die_soon(delay: float, name: str, args: tuple[Any, ...]) -> None:
    """Be killed a little later, wherever that is."""
    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()


def stop(name: str, args: tuple[Any, ...]) -> None:
    """Stand still until told to go on."""
    os.kill(os.getpid(), signal.SIGSTOP)


def full(name: str, args: tuple[Any, ...]) -> None:
    """Find no room."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def die_after(percent: int) -> None:
    """Be killed when so much of the merge is done."""
    real = Meter.count

    def count(self: Meter, count: int) -> None:
        real(self, count)
        if 100 * self._done >= percent * self._total:
            os.kill(os.getpid(), signal.SIGKILL)

    Meter.count = count  # type: ignore[method-assign]
