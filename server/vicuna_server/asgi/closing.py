"""How kept connections are closed when a server ends: not while a client may be sending its next request."""

from typing import Any

__all__ = ["QUIET_SECONDS", "ClosesWhenQuiet"]

QUIET_SECONDS = 1.0
"""A connection that was idle for so long has no request on its way."""


class ClosesWhenQuiet:
    """Mixed into uvicorn's protocols, which close idle connections at once, and others with the end of their response.

    The head of a stream that began before the server was told to end could not say `Connection: close`. So its client
    may send another request in the same moment in which the connection is closed, and would get no response.
    """

    def shutdown(self: Any) -> None:
        """Close the connection as soon as it has been idle for a second; called when the server ends."""
        self.timeout_keep_alive = min(self.timeout_keep_alive, QUIET_SECONDS)
        if self.cycle is None or self.cycle.response_complete:
            if self.timeout_keep_alive_task is not None:
                self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
