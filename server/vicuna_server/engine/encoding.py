"""Conversations and texts to token ids, with the model's tokenizer and chat template."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from vicuna_contract.templates import BUILT_IN_TEMPLATES, NO_TEMPLATE
from vicuna_server.engine.base import ChatPrompt, PromptInput
from vicuna_server.engine.jinja import JinjaTemplate
from vicuna_server.engine.limits import check_chats
from vicuna_server.engine.vocabulary import Vocabulary
from vicuna_server.errors import RequestError
from vicuna_server.prompts import Conversation, EndOfTurn, get_template

__all__ = ["EncodedPrompt", "PromptEncoder"]


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """Token ids with BOS at their head, and the template's stop strings."""

    ids: list[int]
    stop: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


class PromptEncoder:
    """Encodes prompts for one model. Not thread-safe: tokenizers keep settings between calls.

    Args:
        tokenizer: As loaded from the artifact, never re-saved.
        template: A resolved template name; `NO_TEMPLATE`: conversations are refused.
        vocabulary_size: Ids below this are tokens; None: as many as the tokenizer has.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str, vocabulary_size: int | None = None) -> None:
        # transformers types its tokenizers' calls as unions that fit none of ours.
        self._tokenizer: Any = tokenizer
        self.vocabulary = Vocabulary(tokenizer, vocabulary_size or len(self._tokenizer))
        self._longest = max(map(len, self._tokenizer.get_vocab()))
        self.chats = template != NO_TEMPLATE
        self._template = get_template(template) if template in BUILT_IN_TEMPLATES else None
        self._jinja = JinjaTemplate(tokenizer) if self.chats and self._template is None else None

    def close(self) -> None:
        """End what it has running; it still works afterwards."""
        if self._jinja is not None:
            self._jinja.renderer.close()

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
            check: Told how many tokens it has at least, before anything is made of it; may raise.

        Raises:
            RequestError: The conversation is empty, the template refuses it, there is none, or an id is no token of
                the model.
        """
        field = param or ("messages" if isinstance(prompt, ChatPrompt) else "prompt")
        check(self.least_tokens(prompt))
        if isinstance(prompt, tuple):
            return EncodedPrompt(self._checked(prompt, field))
        encoded = self._encoded(prompt, add_special_tokens, lambda text: check(len(text) // self._longest))
        self._check_rows(encoded.ids, field)
        return encoded

    def _encoded(
        self, prompt: ChatPrompt | str, add_special_tokens: bool, check: Callable[[str], object]
    ) -> EncodedPrompt:
        if isinstance(prompt, str):
            return EncodedPrompt(self._encode_text(prompt) if add_special_tokens else self._ids(prompt))
        check_chats(self.chats)
        if self._template is None:
            own = self._own_template
            conversation = Conversation.of(prompt.messages, in_place=own.keeps_system_in_place)
            return EncodedPrompt(own.encode(conversation, check))
        rendered = self._template.render(Conversation.of(prompt.messages))
        ids = [] if self._tokenizer.bos_token_id is None else [self._tokenizer.bos_token_id]
        for part in rendered.parts:
            if part is EndOfTurn.EOS:
                ids.append(self._tokenizer.eos_token_id)
            else:
                # Text never becomes a special token, so no user can forge the end of a turn. Pieces between eos
                # tokens are encoded apart, as the tokenizers of the models' training did (`legacy` in LLaMA's).
                ids += self._ids(part, split_special_tokens=True)
        return EncodedPrompt(ids, rendered.stop)

    def least_tokens(self, prompt: PromptInput) -> int:
        """Return what a prompt has at least, without encoding it, which takes seconds for megabytes."""
        if isinstance(prompt, ChatPrompt):
            return sum(len(message.content) for message in prompt.messages) // self._longest
        return len(prompt) if isinstance(prompt, tuple) else len(prompt) // self._longest

    def count(self, text: str) -> int:
        """Return how many tokens a text has that stands alone, none of them special."""
        return len(self._ids(text, split_special_tokens=True))

    def decode(self, ids: list[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of ids, special tokens left out or not, spaces as the model wrote them."""
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
        )
        return text

    def spellings(self, words: Sequence[str]) -> list[list[int]]:
        """Return the token ids of words, each at the head of a text and behind a space, as vLLM has bad words."""
        return [self._ids(text) for word in words for text in dict.fromkeys((word, f" {word.lstrip()}"))]

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens included.

        Raises:
            RequestError: An id is no token.
        """
        text: str = self._tokenizer.decode(self._checked(ids, "prompt"), clean_up_tokenization_spaces=False)
        return text

    @property
    def _own_template(self) -> JinjaTemplate:
        if self._jinja is None:
            raise RuntimeError("this model's conversations have a built-in format, or none")
        return self._jinja

    def _check_rows(self, ids: Sequence[int], field: str) -> None:
        """Refuse what the tokenizer has and the model has not: an index beyond its rows would end a GPU's process."""
        token = max(ids, default=0)
        if token >= self.vocabulary.size:
            text = self._tokenizer.convert_ids_to_tokens(token)
            raise RequestError(
                f"{field}: {text!r} is token id {token}, for which this model has no row (its ids are 0 to "
                f"{self.vocabulary.size - 1}); leave it out",
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
        ids: list[int] = self._tokenizer(text, add_special_tokens=True)["input_ids"]
        bos = self._tokenizer.bos_token_id
        if len(ids) > 1 and bos is not None and ids[0] == bos and ids[1] == bos:
            return ids[1:]  # the client wrote the token that the tokenizer also adds
        return ids

    def _ids(self, text: str, **options: bool) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, **options)["input_ids"]
        return ids
