"""One line of JSON per answered request."""

import logging
import sys

__all__ = ["ACCESS_LOG", "set_up_access_log"]

ACCESS_LOG = "vicuna_server.access"
"""The logger of one JSON object per answered request: who, what, how long, how many tokens; never any text."""


def set_up_access_log(*, on: bool) -> None:
    """Write the lines as they are: whatever collects logs reads JSON only where nothing stands before it."""
    logger = logging.getLogger(ACCESS_LOG)
    logger.propagate = False
    logger.disabled = not on
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]
