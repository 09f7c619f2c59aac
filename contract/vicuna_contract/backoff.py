"""How long to wait before trying again."""

import random

__all__ = ["Backoff"]


class Backoff:
    """Delays that double after each failure. Each is shortened by up to half at random, so that waiters spread out.

    Args:
        first: seconds after the first failure.
        most: seconds that no delay exceeds.
    """

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self.reset()

    def reset(self) -> None:
        """Begin anew: something succeeded."""
        self._delay = self._first

    def next(self) -> float:
        """Return the seconds to wait after one more failure."""
        delay, self._delay = self._delay, min(self._most, self._delay * 2)
        return delay * random.uniform(0.5, 1)  # noqa: S311
