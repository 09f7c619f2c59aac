"""Taking in what others wrote, object by object: what fails is told and left out, and the rest goes on."""

import logging
from collections.abc import Callable
from typing import Any

from vicuna_server.gateway.objects import identity_of

__all__ = ["carefully"]

logger = logging.getLogger(__name__)


def carefully(take: Callable[[Any], None], given: object) -> None:
    """Call a function that takes an object, or a list of them; nothing that it raises reaches the caller."""
    try:
        take(given)
    except Exception as error:  # noqa: BLE001  # the others' objects, and the process, must not suffer for one
        what = "/".join(identity_of(given) or ("an object",))
        logger.error("%s is left out, it cannot be read: %s: %.200s", what, type(error).__name__, error)
