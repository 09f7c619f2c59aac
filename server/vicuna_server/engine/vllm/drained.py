"""The file that lets the engine's container end: its preStop hook waits for it, so that no answer is cut.

It is there whenever nothing is served by the engine: before the first start of the server has begun it is removed, after
the drain it is written, and also where the engine hangs, since waiting would only delay its restart.
"""

import logging
from pathlib import Path

__all__ = ["DrainedFile"]

logger = logging.getLogger(__name__)


class DrainedFile:
    """Written and removed; what goes wrong is logged, for the hook has a limit of its own.

    Args:
        path: Where; None: nowhere.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def remove(self) -> None:
        """The engine is needed from now on."""
        if self._path is not None:
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                logger.error("--drained-file %s cannot be removed: %s", self._path, error.strerror)

    def write(self) -> None:
        """Nobody needs the engine any more."""
        if self._path is not None:
            try:
                self._path.touch()
            except OSError as error:
                logger.error("--drained-file %s cannot be written: %s", self._path, error.strerror)
