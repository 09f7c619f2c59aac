"""Stop strings in a stream of text: found across chunks, and no part of one is shown."""

from collections.abc import Sequence

from vicuna_server.tools.marks import begun

__all__ = ["StopFilter"]


class StopFilter:
    """Passes text through until one of the stop strings appears.

    Text that could be the beginning of a stop string is held back until it is clear whether it is one. Of several
    that match, the one that is complete first counts, so the result does not depend on how the text is cut.

    Args:
        stops: the stop strings.
        included: whether the one that was found is shown.
    """

    def __init__(self, stops: Sequence[str], *, included: bool = False) -> None:
        self._included = included
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Take the next piece and return what may be shown now; sets `stopped` at a stop string."""
        if not self._stops or self.stopped:
            return "" if self.stopped else text
        self._held += text
        starts = ((self._held.find(stop), stop) for stop in self._stops)
        found = [(start + len(stop), start) for start, stop in starts if start >= 0]
        if found:
            self.stopped = True
            end, start = min(found)
            shown, self._held = self._held[: end if self._included else start], ""
            return shown
        cut = len(self._held) - begun(self._held, self._stops)
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def flush(self) -> str:
        """Return what is still held back, when the text ended without a stop string."""
        held, self._held = self._held, ""
        return held
