"""The text side of one running answer: tokens in, chunks out, with stop strings and limits applied."""

from collections import deque
from collections.abc import Callable, Sequence

from vicuna_server.engine import OutputChunk, TokenLogprob
from vicuna_server.engine.detokenizer import Detokenizer
from vicuna_server.engine.stopping import StopFilter

__all__ = ["Answer"]


class Answer:
    """Turns the tokens of one sequence into chunks and knows when it has ended.

    Args:
        decode: Token ids to text, special tokens left out.
        eos: Ids that end the answer and have no text.
        stops: Strings that end the answer.
        max_tokens: The answer ends with "length" at this many tokens.
        deadline: Moment on the `time.monotonic` clock at which it ends with "length".
        min_tokens: Stop strings in the text of the first so many tokens are ignored.
        include_stop: Whether what ended the answer is part of its text.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        eos: frozenset[int],
        stops: Sequence[str],
        max_tokens: int,
        deadline: float | None,
        *,
        min_tokens: int = 0,
        include_stop: bool = False,
    ) -> None:
        self._detokenizer = Detokenizer(decode)
        self._stop_filter = StopFilter(stops, included=include_stop)
        self._include_stop = include_stop
        self._min_tokens = min_tokens
        self._eos = eos
        self._max_tokens = max_tokens
        self.deadline = deadline
        self.tokens = 0
        # Letters decoded and letters shown; those between may still become part of a stop string.
        self._decoded = 0
        self._shown = 0
        self._ids: tuple[int, ...] = ()  # of tokens that no chunk has named yet
        self._logprobs: deque[tuple[int, TokenLogprob]] = deque()

    def push(self, token: int, now: float, logprob: TokenLogprob | None = None, *, last: bool = False) -> OutputChunk:
        """Take the next token; the answer is over when the chunk has a finish reason.

        Args:
            token: Its id.
            now: The moment, on the `time.monotonic` clock.
            logprob: Its likelihood, to be handed on with the token's text.
            last: Whether the answer is complete with it.
        """
        self.tokens += 1
        self._ids = (token,)
        if token in self._eos:
            text = self._filter(self._detokenizer.push(token)) if self._include_stop else ""
            return self._chunk(text + self._rest(), now, "stop")
        if logprob is not None:
            self._logprobs.append((self._decoded, logprob))
        text = self._filter(self._detokenizer.push(token))
        if self._stop_filter.stopped:
            return self._chunk(text, now, "stop")
        if last:
            return self.end(now, "stop", text)
        if self.tokens >= self._max_tokens or self.is_late(now):
            return self.end(now, "length", text)
        return self._chunk(text, now)

    def end(self, now: float, reason: str, text: str = "") -> OutputChunk:
        """End the answer where it stands.

        Args:
            now: The moment, on the `time.monotonic` clock.
            reason: "stop" or "length"; a stop string in what is left to be shown counts before it.
            text: To be shown before what is left.
        """
        rest = self._rest()
        return self._chunk(text + rest, now, "stop" if self._stop_filter.stopped else reason)

    def is_late(self, now: float) -> bool:
        """Whether the time limit has passed."""
        return self.deadline is not None and now >= self.deadline

    def _filter(self, text: str) -> str:
        self._decoded += len(text)
        if self.tokens <= self._min_tokens:
            return text
        return self._stop_filter.push(text)

    def _rest(self) -> str:
        text = self._filter(self._detokenizer.flush())
        return text if self._stop_filter.stopped else text + self._stop_filter.flush()

    def _chunk(self, text: str, now: float, finish_reason: str | None = None) -> OutputChunk:
        self._shown += len(text)
        whole = finish_reason is not None and not self._stop_filter.stopped
        shown: list[TokenLogprob] = []
        while self._logprobs and (whole or self._logprobs[0][0] < self._shown):
            shown.append(self._logprobs.popleft()[1])
        ids, self._ids = self._ids, ()
        return OutputChunk(text, self.tokens, finish_reason, tuple(shown), now, ids)
