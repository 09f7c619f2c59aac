"""A call that is being read, until it is known to be one."""

import json

from vicuna_server.tools.object_end import ObjectEnd
from vicuna_server.tools.output import CallArguments, OutputPart

__all__ = ["PendingCall"]


class PendingCall:
    """A call that is being read.

    Args:
        opening: Its text up to the arguments.
    """

    def __init__(self, opening: str = "") -> None:
        self._opening = opening
        self.end = ObjectEnd()
        self.parts: list[OutputPart] = []

    @property
    def text(self) -> str:
        """All of its text that was not told."""
        return self._opening + self._argument_text

    @property
    def is_valid(self) -> bool:
        """Whether its arguments are JSON."""
        try:
            json.loads(self._argument_text)
        except (ValueError, RecursionError):
            return False
        return True

    @property
    def _argument_text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, CallArguments))
