"""Timers that come when a test says so."""

from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["FakeTimers"]


@dataclass(eq=False)
class _Timer:
    when: float
    callback: Callable[[], object]
    cancelled: bool = False

    def cancel(self) -> None:
        """Do not call it."""
        self.cancelled = True
        self.callback = lambda: None  # as the loop's, which refer to nothing then


@dataclass
class FakeTimers:
    """The part of an event loop that has to do with time.

    Attributes:
        now: Seconds.
        calls: How many timers came.
    """

    now: float = 0.0
    calls: int = 0
    _timers: list[_Timer] = field(default_factory=list)

    def time(self) -> float:
        """Return `now`."""
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object], /) -> _Timer:
        """Call something after so many seconds."""
        self._timers.append(_Timer(self.now + delay, callback))
        return self._timers[-1]

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        end = self.now + seconds
        while self.pending and (first := min(self.pending, key=lambda timer: timer.when)).when <= end:
            self._timers.remove(first)
            self.now = first.when
            self.calls += 1
            first.callback()
        self.now = end

    @property
    def pending(self) -> list[_Timer]:
        """Those that will come."""
        return [timer for timer in self._timers if not timer.cancelled]
