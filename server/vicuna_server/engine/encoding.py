"""Conversations and texts to token ids, with the model's tokenizer and chat template."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from functools import partial

from vicuna_contract.templates import NO_TEMPLATE
from vicuna_server.engine import ChatPrompt, PromptInput
from vicuna_server.engine.chat_encoding import EncodedPrompt, chat_encoder
from vicuna_server.engine.vocabulary import Vocabulary
from vicuna_server.errors import EngineError, InputError, OverloadedError, RequestError
from vicuna_server.prompts import Message
from vicuna_server.prompts.tokenizer import Tokenizer

__all__ = ["PromptEncoder", "make_encoder"]


def make_encoder(tokenizer: Tokenizer, template: str, vocabulary_size: int) -> "PromptEncoder":
    """Make the encoder, and try its template, so that what is wrong with it shows before the weights are loaded.

    Args:
        tokenizer: Its `chat_template` is the one that `from-tokenizer` means.
        template: A resolved template name.
        vocabulary_size: Ids below this are tokens.

    Raises:
        InputError: `ChatTemplateBroken`.
        EngineError: No process can be started for the template.
    """
    try:
        encoder = PromptEncoder(tokenizer, template, vocabulary_size)
        if template != NO_TEMPLATE:
            encoder.encode(ChatPrompt((Message("user", "Hello"),)))
    except OverloadedError as error:
        raise EngineError("LoadFailed", f"the model cannot be loaded: {error.message}") from error
    except RequestError as error:
        raise InputError("ChatTemplateBroken", f"the chat template cannot be used: {error.message}") from error
    except ValueError as error:  # there are several templates by name, and none is the default
        raise InputError("ChatTemplateBroken", f"the chat template cannot be used: {error}") from error
    return encoder


class PromptEncoder:
    """Encodes prompts for one model. Not thread-safe: tokenizers keep settings between calls.

    Args:
        tokenizer: As loaded from the artifact, never re-saved.
        template: A resolved template name; `NO_TEMPLATE`: conversations are refused.
        vocabulary_size: Ids below this are tokens; None: as many as the tokenizer has.
    """

    def __init__(self, tokenizer: Tokenizer, template: str, vocabulary_size: int | None = None) -> None:
        self._tokenizer = tokenizer
        self.vocabulary = Vocabulary(tokenizer, vocabulary_size or len(tokenizer))
        self._longest = tokenizer.longest
        written = f"{template}\n{tokenizer.chat_template}"
        self.template_digest = hashlib.sha256(written.encode(errors="replace")).hexdigest()
        self.chats = template != NO_TEMPLATE
        self._chat_encoder = chat_encoder(tokenizer, template)
        self.chat_format = self._chat_encoder.chat_format

    def close(self) -> None:
        """End the chat template's processes; the next conversation starts another."""
        self._chat_encoder.close()

    def encode(
        self,
        prompt: PromptInput,
        *,
        add_special_tokens: bool = True,
        param: str | None = None,
        check: Callable[[int], object] = lambda _: None,
    ) -> EncodedPrompt:
        """Return the ids of a prompt.

        Args:
            prompt: A conversation, plain text, or ids, which are checked and returned.
            add_special_tokens: Whether BOS goes in front of plain text, where the tokenizer has one.
            param: The request's field that the prompt stood in, for messages; None: messages or prompt.
            check: Called with the least number of tokens it may have, before it is encoded; may raise.

        Raises:
            RequestError: The conversation is empty, the template refuses it, there is no template, or an id is not in
                the vocabulary.
        """
        field = param or ("messages" if isinstance(prompt, ChatPrompt) else "prompt")
        check(self.least_tokens(prompt))
        if isinstance(prompt, tuple):
            return EncodedPrompt(self._checked(prompt, field))
        encoded = self._encoded(prompt, add_special_tokens, lambda text: check(len(text) // self._longest))
        self._check_embedded(encoded.ids, field)
        return encoded

    def _encoded(
        self, prompt: ChatPrompt | str, add_special_tokens: bool, check: Callable[[str], object]
    ) -> EncodedPrompt:
        if isinstance(prompt, str):
            return EncodedPrompt(self._encode_text(prompt) if add_special_tokens else self._tokenizer.encode(prompt))
        return self._chat_encoder.encode(prompt, check)

    def least_tokens(self, prompt: PromptInput) -> int:
        """Return how many tokens a prompt has at least; to encode megabytes would take seconds."""
        if isinstance(prompt, ChatPrompt):
            return sum(len(message.content) for message in prompt.messages) // self._longest
        return len(prompt) if isinstance(prompt, tuple) else len(prompt) // self._longest

    def count(self, text: str) -> int:
        """Return how many tokens a text has by itself, none of them special."""
        return len(self._tokenizer.encode(text, special_as_text=True))

    def decode(self, ids: list[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of ids, spaces as the model wrote them; special tokens are left out by default."""
        return self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)

    def special_id(self, text: str) -> int | None:
        """Return the id of the special token with this text; None: there is none that the model has."""
        token = self._tokenizer.token_id(text)
        return token if token is not None and token in self.vocabulary.special else None

    def decoder(self, *, skip_special_tokens: bool, shown: Collection[str]) -> Callable[[Sequence[int]], str]:
        """Return what makes text of ids.

        Args:
            skip_special_tokens: Whether special tokens are left out.
            shown: Those that are not.
        """
        hidden = self._special_besides(shown) if skip_special_tokens and shown else None
        if hidden is None:
            return partial(self._tokenizer.decode, skip_special_tokens=skip_special_tokens)
        return lambda ids: self.decode([one for one in ids if one not in hidden], skip_special_tokens=False)

    def _special_besides(self, shown: Collection[str]) -> set[int] | None:
        """Return the special tokens other than those; None: those are none."""
        special = {number: token.content for number, token in self._tokenizer.added_tokens.items() if token.special}
        hidden = {number for number, text in special.items() if text not in shown}
        return hidden if len(hidden) < len(special) else None

    def spellings(self, words: Sequence[str]) -> list[list[int]]:
        """Return the token ids of words, each with and without a space in front, as vLLM reads `bad_words`."""
        return [self._tokenizer.encode(text) for word in words for text in dict.fromkeys((word, f" {word.lstrip()}"))]

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens included.

        Raises:
            RequestError: An id is not in the vocabulary.
        """
        return self._tokenizer.decode(self._checked(ids, "prompt"), skip_special_tokens=False)

    def _check_embedded(self, ids: Sequence[int], field: str) -> None:
        """Refuse tokens that the model has no embedding for: such an index would end the process on a GPU."""
        token = max(ids, default=0)
        if token >= self.vocabulary.size:
            text = self._tokenizer.token(token)
            raise RequestError(
                f"{field}: {text!r} is token id {token}, which the tokenizer has and the model has not (its ids are "
                f"0 to {self.vocabulary.size - 1}); leave it out",
                param=field,
            )

    def _checked(self, ids: Sequence[int], field: str) -> list[int]:
        for token in ids:
            if not 0 <= token < self.vocabulary.size:
                raise RequestError(
                    f"token id {token} is not in the vocabulary, whose ids are 0 to {self.vocabulary.size - 1}",
                    param=field,
                )
        return list(ids)

    def _encode_text(self, text: str) -> list[int]:
        ids = self._tokenizer.encode(text, add_special_tokens=True)
        bos = self._tokenizer.bos_id
        if len(ids) > 1 and bos is not None and ids[0] == bos and ids[1] == bos:
            return ids[1:]  # the client wrote BOS, and the tokenizer adds it too
        return ids
