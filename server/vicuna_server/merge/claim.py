"""One merger at a time per artifact, decided by a file on the volume that all of them see.

The holder rewrites its claim every few seconds. Who finds a claim watches it: one that does not change for 30 s
on the watcher's own clock (clocks of nodes differ), or whose process is known to be dead, is taken over. A holder
that was only frozen finds out before it publishes; should two publish at once, the rename lets one win.
"""

import contextlib
import errno
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vicuna_server.errors import InterruptedRunError
from vicuna_server.merge.progress import Progress

__all__ = ["CLAIM_PREFIX", "Claim", "drop_claim"]

CLAIM_PREFIX = ".claim-"
_PATIENCE_SECONDS = 30.0
_HEARTBEAT_SECONDS = 5.0
_POLL_SECONDS = 0.5
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP)  # some network file systems


class Claim:
    """The right to make one artifact; use as a context manager.

    Args:
        root: folder all mergers share.
        key: what is claimed; the file is `.claim-<key>`.
        progress: asked while waiting, so that a signal ends the wait.
        patience: seconds without a heartbeat after which a claim counts as abandoned.
        heartbeat: seconds between two heartbeats.
        poll: seconds between two looks at another's claim.
        on_wait: called once when another merger holds the claim.
    """

    def __init__(
        self,
        root: Path,
        key: str,
        progress: Progress,
        *,
        patience: float = _PATIENCE_SECONDS,
        heartbeat: float = _HEARTBEAT_SECONDS,
        poll: float = _POLL_SECONDS,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self.nonce = secrets.token_hex(8)
        self.path = root / f"{CLAIM_PREFIX}{key}"
        self._progress = progress
        self._patience = patience
        self._heartbeat = heartbeat
        self._poll = poll
        self._on_wait = on_wait
        self._descriptor = -1
        self._beats = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Claim":
        self._acquire()
        self._thread = threading.Thread(target=self._keep_alive, name="merge-claim", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self.is_held():
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def is_held(self) -> bool:
        """Whether the file still names this claim."""
        return _read(self.path).get("nonce") == self.nonce

    def require(self) -> None:
        """Raise `InterruptedRunError` (`ClaimLost`) when another merger took over."""
        if not self.is_held():
            raise InterruptedRunError(
                "ClaimLost", f"another merger took over {self.path.name}; run again to use its artifact"
            )

    def _acquire(self) -> None:
        seen: dict[str, Any] | None = None
        since = time.monotonic()
        while True:
            self._progress.check()
            if self._create():
                return
            content = _read(self.path)
            if content != seen:
                if seen is None:
                    self._on_wait()
                seen, since = content, time.monotonic()
            if (_is_dead(content) or time.monotonic() - since > self._patience) and self._take_over(content):
                return
            self._progress.pause(self._poll)

    def _create(self) -> bool:
        """Put our claim where there is none; it appears with its content, so that its process is always known."""
        ours = self._prepare()
        try:
            try:
                os.link(ours, self.path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
                ours.replace(self.path)
        except (FileExistsError, FileNotFoundError):  # held by another, or ours was swept by one
            os.close(self._descriptor)
            return False
        finally:
            ours.unlink(missing_ok=True)
        return True

    def _take_over(self, abandoned: dict[str, Any]) -> bool:
        """Put our claim in place of an abandoned one, unless that changed meanwhile."""
        ours = self._prepare()
        with contextlib.suppress(FileNotFoundError):
            if _read(self.path) == abandoned:
                ours.replace(self.path)
        ours.unlink(missing_ok=True)
        if self.is_held():
            return True
        os.close(self._descriptor)
        return False

    def _prepare(self) -> Path:
        """Write our claim beside its place."""
        ours = self.path.with_name(f"{self.path.name}.{self.nonce}")
        self._descriptor = os.open(ours, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._beat()
        return ours

    def _keep_alive(self) -> None:
        while not self._ended.wait(self._heartbeat):
            if not self.is_held():
                return
            self._beat()

    def _beat(self) -> None:
        """Write through our own descriptor: after a takeover that is no longer the visible file."""
        self._beats += 1
        content = {"nonce": self.nonce, "beat": f"{self._beats:012}", **_this_process()}
        os.pwrite(self._descriptor, json.dumps(content).encode(), 0)


def drop_claim(root: Path, key: str) -> None:
    """Remove the claim of a run that died after it published: nobody needs a claim on what is there."""
    with contextlib.suppress(OSError):
        (root / f"{CLAIM_PREFIX}{key}").unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _this_process() -> dict[str, Any]:
    return {"host": _host(), "pid": os.getpid(), "started": _start_time(os.getpid())}


def _host() -> str:
    """Name the running kernel and process namespace: in two pods the same pid means nothing."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # the name before may hold spaces
    return "" if fields[0] == "Z" else fields[19]


def _is_dead(content: dict[str, Any]) -> bool:
    """Whether the claim's process ran here and is gone; False wherever that cannot be known."""
    host = _host()
    if not host or content.get("host") != host or not isinstance(content.get("pid"), int):
        return False
    return content.get("started") != _start_time(content["pid"])
