"""The text side of one running answer: tokens in, deltas out, with stop strings and limits applied."""

from collections.abc import Callable, Sequence

from vicuna_server.engine.base import Delta
from vicuna_server.engine.detokenizer import Detokenizer
from vicuna_server.engine.stopping import StopFilter

__all__ = ["Answer"]


class Answer:
    """Turns the tokens of one sequence into deltas and knows when it has ended.

    Args:
        decode: Token ids to text, special tokens left out.
        eos: Ids that end the answer and have no text.
        stops: Strings that end the answer.
        max_tokens: The answer ends with "length" at this many tokens.
        deadline: Moment on the `time.monotonic` clock at which it ends with "length".
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        eos: frozenset[int],
        stops: Sequence[str],
        max_tokens: int,
        deadline: float | None,
    ) -> None:
        self._detokenizer = Detokenizer(decode)
        self._stop_filter = StopFilter(stops)
        self._eos = eos
        self._max_tokens = max_tokens
        self.deadline = deadline
        self.tokens = 0

    def push(self, token: int, now: float) -> Delta:
        """Take the next token; the answer is over when the delta has a finish reason."""
        self.tokens += 1
        if token in self._eos:
            return Delta(self._rest(), self.tokens, "stop")
        text = self._stop_filter.push(self._detokenizer.push(token))
        if self._stop_filter.stopped:
            return Delta(text, self.tokens, "stop")
        if self.tokens >= self._max_tokens or self.is_late(now):
            rest = self._rest()
            return Delta(text + rest, self.tokens, "stop" if self._stop_filter.stopped else "length")
        return Delta(text, self.tokens)

    def is_late(self, now: float) -> bool:
        """Whether the time limit has passed."""
        return self.deadline is not None and now >= self.deadline

    def _rest(self) -> str:
        text = self._stop_filter.push(self._detokenizer.flush())
        return text if self._stop_filter.stopped else text + self._stop_filter.flush()
