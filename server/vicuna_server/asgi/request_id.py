"""The id that identifies a request in logs."""

import re
import uuid

__all__ = ["request_id"]

_HARMLESS = re.compile(r"[A-Za-z0-9._-]{1,128}")


def request_id(given: str) -> str:
    """Return the client's own `x-request-id` when it is harmless, else a new one."""
    return given if _HARMLESS.fullmatch(given) else uuid.uuid4().hex
