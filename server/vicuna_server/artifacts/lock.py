"""One merger at a time per artifact, decided by a file on the volume that all of them see.

The holder rewrites the file every few seconds. A merger that finds the file watches it. It takes over a file that
does not change for 30 s on the watcher's own clock (clocks of nodes differ), or whose process is known to be dead.
Neither flock nor hard links are needed, so it works on network file systems too.

No file server guards this lock: two watchers can take over in the same instant, or a frozen holder can wake up.
That costs work, never the result. Each merger writes into a folder of its own, and the last name in the file counts.
A merger that is not named any more ends with `LockLost` at its next heartbeat, at the latest before it publishes.
Should two publish at once, both bring the same bytes, and the rename lets one win.
"""

import contextlib
import errno
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vicuna_server.artifacts.holder import is_dead, this_process
from vicuna_server.errors import InterruptedRunError
from vicuna_server.files.storage import FULL, volume_time
from vicuna_server.run.cancellation import Cancellation

__all__ = ["LOCK_PREFIX", "ArtifactLock", "drop_lock", "seems_held"]

LOCK_PREFIX = ".claim-"  # the files have it since 0.1, and mergers of earlier versions share the volume
_PATIENCE_SECONDS = 30.0
_HEARTBEAT_SECONDS = 5.0
_POLL_SECONDS = 0.5
_FORGOTTEN_SECONDS = 3600.0  # by the volume's clock; for `try_acquire`, which does not watch
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP)  # some network file systems


class ArtifactLock:
    """The right to make one artifact; a context manager that waits for it.

    Args:
        root: folder all mergers share.
        key: what is locked; the file is `.claim-<key>`.
        cancellation: ends the wait on a signal; ends the run when the lock is lost.
        patience: seconds without a heartbeat after which a lock counts as abandoned.
        heartbeat: seconds between two heartbeats.
        poll: seconds between two looks at another's lock.
        on_wait: called once when another merger holds the lock.
    """

    def __init__(
        self,
        root: Path,
        key: str,
        cancellation: Cancellation,
        *,
        patience: float = _PATIENCE_SECONDS,
        heartbeat: float = _HEARTBEAT_SECONDS,
        poll: float = _POLL_SECONDS,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self.nonce = secrets.token_hex(8)
        self.key = key
        self.path = root / f"{LOCK_PREFIX}{key}"
        self._cancellation = cancellation
        self._patience = patience
        self._heartbeat = heartbeat
        self._poll = poll
        self._on_wait = on_wait
        self._descriptor = -1
        self._beats = 0
        self._lock = threading.Lock()  # the heartbeat and `require` may both find the file gone
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="merge-lock", daemon=True)

    def __enter__(self) -> "ArtifactLock":
        self._acquire()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._give_up()

    @contextlib.contextmanager
    def try_acquire(self) -> Iterator[bool]:
        """Take the lock if it is free, or its holder dead or silent for an hour; say whether it may be acted upon."""
        try:
            taken = self._create()
            if not taken:
                content = _read(self.path)
                taken = (is_dead(content) or self._is_forgotten()) and self._take_over(content)
        except OSError as error:
            if error.errno not in FULL:
                raise
            # No room even for a lock file. A prune must still be able to make room, so a look has to do: no merge can
            # begin on a full volume either.
            yield not seems_held(self.path.parent, self.key)
            return
        if not taken:
            yield False
            return
        self._thread.start()
        try:
            yield True
        finally:
            self.__exit__()

    def is_held(self) -> bool:
        """Whether the file still names this lock."""
        return _read(self.path).get("nonce") == self.nonce

    def require(self) -> None:
        """Raise `InterruptedRunError` (`LockLost`) when another merger took over; put a vanished lock back."""
        if not self.is_held() and not self._put_back():
            raise self.lost()

    def lost(self) -> InterruptedRunError:
        """Return the error of a run whose lock another merger took over."""
        return InterruptedRunError(
            "LockLost",
            f"the lock {self.path.name} names another merger, which took over because this one wrote no heartbeat; "
            "run again to use its artifact",
        )

    def _acquire(self) -> None:
        seen: dict[str, Any] | None = None
        since = time.monotonic()
        while True:
            self._cancellation.check()
            if self._create():
                return
            content = _read(self.path)
            if content != seen:
                if seen is None:
                    self._on_wait()
                seen, since = content, time.monotonic()
            if (is_dead(content) or time.monotonic() - since > self._patience) and self._take_over(content):
                return
            self._cancellation.pause(self._poll)

    def _create(self) -> bool:
        """Put our lock where there is none; it appears with its content, so that its process is always known."""
        ours, descriptor = self._prepare()
        try:
            try:
                os.link(ours, self.path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
                ours.replace(self.path)
        except OSError as error:
            os.close(descriptor)
            if isinstance(
                error, FileExistsError | FileNotFoundError
            ):  # another merger holds it, or has swept away our file
                return False
            raise
        finally:
            ours.unlink(missing_ok=True)
        self._hold(descriptor)
        return True

    def _take_over(self, abandoned: dict[str, Any]) -> bool:
        """Put our lock in place of an abandoned one, unless that changed meanwhile."""
        ours, descriptor = self._prepare()
        with contextlib.suppress(FileNotFoundError):
            if _read(self.path) == abandoned:
                ours.replace(self.path)
        ours.unlink(missing_ok=True)
        self._hold(descriptor)
        try:
            if self.is_held():
                self._cancellation.pause(self._poll)  # another watcher may have looked and not yet replaced
                if self.is_held():
                    return True
        except BaseException:
            self._give_up()
            raise
        self._give_up()
        return False

    def _prepare(self) -> tuple[Path, int]:
        """Write our lock beside its place; return the file and an open descriptor of it."""
        ours = self.path.with_name(f"{self.path.name}.{self.nonce}")
        descriptor = os.open(ours, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            self._beat(descriptor)
        except OSError:
            os.close(descriptor)
            ours.unlink(missing_ok=True)
            raise
        return ours, descriptor

    def _hold(self, descriptor: int) -> None:
        before, self._descriptor = self._descriptor, descriptor
        if before >= 0:
            os.close(before)

    def _give_up(self) -> None:
        if self.is_held():
            self.path.unlink(missing_ok=True)
        self._hold(-1)

    def _put_back(self) -> bool:
        """Make the lock again if its file is gone: a former holder that woke up may have removed it."""
        with self._lock:
            return self.is_held() or self._create()

    def _is_forgotten(self) -> bool:
        """Whether the file was last written an hour ago by the volume's own clock."""
        try:
            return volume_time(self.path.parent) - self.path.stat().st_mtime > _FORGOTTEN_SECONDS
        except FileNotFoundError:
            return False

    def _keep_alive(self) -> None:
        while not self._ended.wait(self._heartbeat):
            with contextlib.suppress(OSError):  # the next heartbeat may succeed
                if self._is_lost():
                    self._cancellation.cancel(self.lost())
                    return
                with self._lock:
                    self._beat(self._descriptor)

    def _is_lost(self) -> bool:
        """Whether the file names another lock; one that vanished is put back, one being written is left alone."""
        found = _read(self.path).get("nonce")
        if found is None and not self.path.exists():
            return not self._put_back()
        return found not in (None, self.nonce)

    def _beat(self, descriptor: int) -> None:
        """Write through our own descriptor: after a takeover that is no longer the visible file.

        A client of NFS keeps what is written for as long as patience lasts, unless told to send it.
        """
        self._beats += 1
        content = {"nonce": self.nonce, "beat": f"{self._beats:012}", **this_process()}
        os.pwrite(descriptor, json.dumps(content).encode(), 0)
        os.fdatasync(descriptor)


def seems_held(root: Path, key: str) -> bool:
    """Whether there is a lock of a process that is not known to be dead; only looks."""
    path = root / f"{LOCK_PREFIX}{key}"
    return path.exists() and not is_dead(_read(path))


def drop_lock(root: Path, key: str) -> None:
    """Remove the lock of a run that died after it published, or half-way: what is there needs no lock."""
    with contextlib.suppress(OSError):
        for path in (root / f"{LOCK_PREFIX}{key}", *root.glob(f"{LOCK_PREFIX}{key}.*")):
            path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
