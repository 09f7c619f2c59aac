"""The engine's log probabilities in OpenAI's two forms."""

from collections.abc import Sequence

from vicuna_server.engine import TokenLogprob, TopLogprob
from vicuna_server.protocol.chat_answer import ChatLogprob, ChatLogprobs, TopChatLogprob
from vicuna_server.protocol.completions import CompletionLogprobs

__all__ = ["TextOffsets", "chat_logprobs"]


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> ChatLogprobs:
    """Return the chat's form."""
    return {"content": [_chat_logprob(token) for token in tokens], "refusal": None}


def _chat_logprob(token: TokenLogprob) -> ChatLogprob:
    own = TopLogprob(token.token_id, token.text_bytes, token.logprob)
    return {**_top(own), "top_logprobs": [_top(one) for one in token.top]}


def _top(one: TopLogprob) -> TopChatLogprob:
    return {"token": _text(one.text_bytes), "logprob": one.logprob, "bytes": list(one.text_bytes)}


class TextOffsets:
    """The completions' form for one choice, whose tokens may come piece by piece.

    Args:
        alternatives: Whether the likeliest tokens are reported.
    """

    def __init__(self, alternatives: bool) -> None:
        self._alternatives = alternatives
        self._bytes = b""
        self._offset = 0

    def take(self, tokens: Sequence[TokenLogprob]) -> CompletionLogprobs:
        """Return the next tokens; a token that begins within a character has that character's offset."""
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._advance(token.text_bytes)
        return {
            "tokens": [_text(token.text_bytes) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [{_text(one.text_bytes): one.logprob for one in token.top} for token in tokens]
            if self._alternatives
            else None,
            "text_offset": offsets,
        }

    def _advance(self, more: bytes) -> None:
        self._bytes += more
        # What may be the beginning of a character waits for the rest of it, three bytes at most.
        for kept in range(4):
            head = self._bytes[: len(self._bytes) - kept]
            try:
                self._offset += len(head.decode())
            except UnicodeDecodeError:
                continue
            self._bytes = self._bytes[len(head) :]
            return
        self._offset += len(self._bytes.decode(errors="replace"))
        self._bytes = b""


def _text(text_bytes: bytes) -> str:
    """Return a token's text; bytes that are no whole character are spelt out behind `bytes:`, as OpenAI does."""
    try:
        return text_bytes.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in text_bytes)
