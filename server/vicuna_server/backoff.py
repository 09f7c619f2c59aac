"""Delays between attempts."""

import random

__all__ = ["Backoff"]


class Backoff:
    """Delays that double after each failure. Each is shortened at random, to half at most, so that clients spread out.

    Args:
        first: Seconds after the first failure.
        most: The longest delay in seconds.
    """

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self.reset()

    def reset(self) -> None:
        """Start again with the first delay, after a success."""
        self._delay = self._first

    def next(self) -> float:
        """Return the seconds to wait after one more failure."""
        delay, self._delay = self._delay, min(self._most, self._delay * 2)
        return delay * random.uniform(0.5, 1)  # noqa: S311
