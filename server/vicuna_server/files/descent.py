"""Goes down to a file name by name, so that no link leads out of what may be read.

Each name is opened relative to the folder before it, without following a link (openat(2), O_NOFOLLOW). A link is read
and its target is taken apart here. So a link that is changed meanwhile leads nowhere else, and `..` leads back to the
folder that was really passed. openat2(2) with RESOLVE_BENEATH does the same, but refuses absolute links that stay
inside, and knows no closed places in between.
"""

import errno
import os
from collections import deque
from pathlib import Path, PurePath

from vicuna_server.errors import InputError
from vicuna_server.files.boundary import Boundary

__all__ = ["Descent", "LeavesSourceError"]

_MOST_LINKS = 40  # as in the kernel
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LeavesSourceError(InputError):
    """A link leads out of what may be read."""


class Descent:
    """The way down from a boundary's root; a context manager that closes the folders it went through.

    Args:
        path: what is to be opened, for messages.
        place: where the way begins.
    """

    def __init__(self, path: Path, place: Boundary) -> None:
        self._path = path
        self._place = place
        self._links = 0
        self._target = ""
        self._folders = [os.open(place.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]

    def __enter__(self) -> "Descent":
        return self

    def __exit__(self, *_: object) -> None:
        self._back_to(0)
        os.close(self._folders.pop())

    @property
    def last(self) -> int:
        """The folder that was reached."""
        return self._folders[-1]

    def go(self, name: str) -> None:
        """Go into a folder, or where a link leads that stands in its place."""
        descriptor = self._follow(deque([name]), _FOLDER)
        if descriptor is not None:
            self._folders.append(descriptor)

    def open(self, name: str, flags: int) -> int:
        """Open a file, or what a link leads to that stands in its place."""
        descriptor = self._follow(deque([name]), flags | os.O_NOFOLLOW)
        return descriptor if descriptor is not None else os.open(".", flags, dir_fd=self.last)

    def _follow(self, rest: deque[str], flags: int) -> int | None:
        """Go all but the last of these names and open that one; None where they end in a folder that was passed."""
        while rest:
            name = rest.popleft()
            if name == "..":
                self._back()
            elif name not in ("", "."):
                target = self._link(name)
                if target is not None:
                    self._replace(rest, target)
                elif any(part not in ("", ".") for part in rest):
                    self._folders.append(self._open(name, _FOLDER))
                else:
                    return self._open(name, flags)
        return None

    def _open(self, name: str, flags: int) -> int:
        if len(self._folders) == 1 and name in self._place.closed:
            raise self._leaves(name)
        try:
            return os.open(name, flags, dir_fd=self.last)
        except OSError as error:
            raise self._named(error) from None

    def _link(self, name: str) -> str | None:
        """Return what a link says; None where the name is not one's."""
        try:
            return os.readlink(name, dir_fd=self.last)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise self._named(error) from None
            return None

    def _named(self, error: OSError) -> OSError:
        """Return an error that names what was asked for, not a step on the way."""
        return OSError(error.errno, error.strerror, str(self._path))

    def _replace(self, rest: deque[str], target: str) -> None:
        """Go on where a link says."""
        self._links += 1
        self._target = target
        if self._links > _MOST_LINKS:
            raise self._named(OSError(errno.ELOOP, os.strerror(errno.ELOOP)))
        goal = PurePath(target)
        if goal.is_absolute():
            if not goal.is_relative_to(self._place.root):
                raise self._leaves(target)
            self._back_to(0)
            goal = goal.relative_to(self._place.root)
        rest.extendleft(reversed(goal.parts))

    def _back(self) -> None:
        if len(self._folders) == 1:
            raise self._leaves("..")
        self._back_to(len(self._folders) - 2)

    def _back_to(self, depth: int) -> None:
        while len(self._folders) > depth + 1:
            os.close(self._folders.pop())

    def _leaves(self, way: str) -> LeavesSourceError:
        return LeavesSourceError(
            "LinkLeavesSource",
            f"{self._path} leads out of {self._place.root}, which is all that is read of this source: it is a link, or "
            f"lies behind one, to {self._target or way}; copy what is meant there (cp -L); a command of your own may "
            "allow it by --allow-links",
        )
