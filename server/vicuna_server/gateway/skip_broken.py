"""Reads objects that others wrote: one that cannot be read is logged and skipped, and the others are read."""

import logging
from collections.abc import Callable
from typing import Any

from vicuna_server.gateway.objects import identity_of

__all__ = ["skip_if_broken"]

logger = logging.getLogger(__name__)


def skip_if_broken(take: Callable[[Any], None], given: object) -> None:
    """Call a function with an object, or a list of them; an exception is logged and does not reach the caller."""
    try:
        take(given)
    except Exception as error:  # noqa: BLE001  # one broken object must not end the process or hide the others
        what = "/".join(identity_of(given) or ("an object",))
        logger.error("%s is skipped, since it cannot be read: %s: %.200s", what, type(error).__name__, error)
