"""A sliding window: the tokens of the last minute, by seconds."""

from collections import deque

__all__ = ["SlidingWindow"]

_MINUTE = 60


class SlidingWindow:
    """Counts the tokens of the last 60 to 61 seconds. Pure.

    A token bucket would let twice the limit pass in a minute: a full bucket, and what fills it up again meanwhile.
    """

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque()  # each: the second, and its tokens
        self._sum = 0

    def add(self, tokens: int, now: float) -> None:
        """Count tokens at the time `now`, in seconds that only grow."""
        second = int(now)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0])
        self._seconds[-1][1] += tokens
        self._sum += tokens

    def sum(self, now: float) -> int:
        """Return the tokens of the last minute."""
        while self._seconds and self._ends(self._seconds[0]) <= now:
            self._sum -= self._seconds.popleft()[1]
        return self._sum

    def wait(self, room: int, now: float) -> float:
        """Return the seconds until at most `room` tokens are in the window."""
        left, wait = self.sum(now), 0.0
        for each in self._seconds:
            if left <= room:
                break
            left, wait = left - each[1], self._ends(each) - now
        return wait

    @staticmethod
    def _ends(second: list[int]) -> int:
        return second[0] + 1 + _MINUTE
