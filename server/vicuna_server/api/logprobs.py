"""The engine's log probabilities in OpenAI's two forms."""

from collections.abc import Iterator, Sequence

from vicuna_server.api.event_size import MAX_EVENT_LOGPROBS
from vicuna_server.engine import PromptToken, TokenLogprob, TopLogprob
from vicuna_server.protocol.chat_completion import ChatLogprob, ChatLogprobs, TopChatLogprob
from vicuna_server.protocol.completions import CompletionLogprobs
from vicuna_server.protocol.envelope import PromptLogprob

__all__ = ["TextOffsets", "chat_logprobs", "joined", "parts", "prompt_logprobs"]


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> ChatLogprobs:
    """Return the chat's form."""
    return {"content": [_chat_logprob(token) for token in tokens], "refusal": None}


def _chat_logprob(token: TokenLogprob) -> ChatLogprob:
    own = TopLogprob(token.token_id, token.text_bytes, token.logprob)
    return {**_top(own), "top_logprobs": [_top(one) for one in token.top]}


def _top(one: TopLogprob) -> TopChatLogprob:
    return {"token": _text(one.text_bytes), "logprob": one.logprob, "bytes": list(one.text_bytes)}


class TextOffsets:
    """The completions' form for one choice, whose tokens may come in several chunks.

    Args:
        alternatives: Whether the likeliest alternatives are reported beside each token.
    """

    def __init__(self, alternatives: bool) -> None:
        self._alternatives = alternatives
        self._bytes = b""
        self._offset = 0

    def take(self, tokens: Sequence[TokenLogprob | PromptToken]) -> CompletionLogprobs:
        """Return the next tokens; a token that begins within a character has that character's offset."""
        offsets = []
        for token in tokens:
            offsets.append(max(0, self._offset))
            self._advance(token.text_bytes)
        return {
            "tokens": [_text(token.text_bytes) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [_alternatives(token) for token in tokens] if self._alternatives else None,
            "text_offset": offsets,
        }

    def take_prompt(self, tokens: Sequence[PromptToken], text: str) -> CompletionLogprobs:
        """Return a prompt's tokens, which stand before those of the completion.

        Args:
            tokens: All tokens of the prompt.
            text: The prompt's text as the response repeats it.
        """
        whole = b"".join(token.text_bytes for token in tokens)
        if whole.startswith(b" ") and not text.startswith(" "):
            self._offset = -1  # sentencepiece writes a space before a text, which is not in it
        return self.take(tokens)

    def _advance(self, more: bytes) -> None:
        self._bytes += more
        # Up to three bytes at the end may begin a character; they wait for its other bytes.
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


def joined(first: CompletionLogprobs | None, then: CompletionLogprobs | None) -> CompletionLogprobs | None:
    """Return a prompt's tokens followed by those of its completion; None: there are no tokens."""
    if first is None or then is None:
        return first or then
    top = None
    if first["top_logprobs"] is not None and then["top_logprobs"] is not None:
        top = first["top_logprobs"] + then["top_logprobs"]
    return {
        "tokens": first["tokens"] + then["tokens"],
        "token_logprobs": first["token_logprobs"] + then["token_logprobs"],
        "top_logprobs": top,
        "text_offset": first["text_offset"] + then["text_offset"],
    }


def parts(logprobs: CompletionLogprobs | None) -> Iterator[CompletionLogprobs]:
    """Split log probabilities that are too large for one event."""
    if logprobs is None:
        return
    top = logprobs["top_logprobs"]
    for start in range(0, len(logprobs["tokens"]), MAX_EVENT_LOGPROBS):
        part = slice(start, start + MAX_EVENT_LOGPROBS)
        yield {
            "tokens": logprobs["tokens"][part],
            "token_logprobs": logprobs["token_logprobs"][part],
            "top_logprobs": None if top is None else top[part],
            "text_offset": logprobs["text_offset"][part],
        }


def prompt_logprobs(tokens: Sequence[PromptToken]) -> list[dict[str, PromptLogprob] | None]:
    """Return vLLM's form: by token id, the token itself and its likeliest alternatives; None for the first token."""
    return [_ranked(token) for token in tokens]


def _ranked(token: PromptToken) -> dict[str, PromptLogprob] | None:
    if token.logprob is None or token.rank is None:
        return None
    ranked: dict[str, PromptLogprob] = {
        str(one.token_id): {"logprob": one.logprob, "rank": rank, "decoded_token": _text(one.text_bytes)}
        for rank, one in enumerate(token.top, 1)
    }
    ranked[str(token.token_id)] = {
        "logprob": token.logprob,
        "rank": token.rank,
        "decoded_token": _text(token.text_bytes),
    }
    return ranked


def _alternatives(token: TokenLogprob | PromptToken) -> dict[str, float] | None:
    if token.logprob is None:
        return None
    return {_text(one.text_bytes): one.logprob for one in token.top}


def _text(text_bytes: bytes) -> str:
    """Return a token's text; bytes that are not whole characters are written after `bytes:`, as OpenAI does."""
    try:
        return text_bytes.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in text_bytes)
