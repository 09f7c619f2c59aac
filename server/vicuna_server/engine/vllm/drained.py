"""The file that lets the engine's container end: its preStop hook waits for it, so that no answer is cut.

The server removes it when it starts and writes it when it has drained. It also writes it when the engine hangs, since
waiting would only delay the engine's restart.
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
