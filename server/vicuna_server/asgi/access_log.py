"""The access log: one line of JSON per request."""

import logging
import sys

__all__ = ["ACCESS_LOG", "set_up_access_log"]

ACCESS_LOG = "vicuna_server.access"
"""Logs one JSON object per request: client, route, time and tokens; never the text of prompts or completions."""


def set_up_access_log(*, on: bool) -> None:
    """Write the lines without a prefix: log collectors read JSON only where a line is nothing else."""
    logger = logging.getLogger(ACCESS_LOG)
    logger.propagate = False
    logger.disabled = not on
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]
