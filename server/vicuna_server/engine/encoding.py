"""Conversations and texts to token ids, with the model's tokenizer and chat template."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from vicuna_contract.templates import BUILT_IN_TEMPLATES, NO_TEMPLATE
from vicuna_server.engine import ChatPrompt, PromptInput
from vicuna_server.engine.jinja import JinjaTemplate, Rendering
from vicuna_server.engine.limits import check_chats
from vicuna_server.engine.vocabulary import Vocabulary
from vicuna_server.errors import EngineError, InputError, OverloadedError, RequestError
from vicuna_server.prompts import Conversation, EndOfTurn, Message, get_template
from vicuna_server.prompts.tokenizer import Tokenizer
from vicuna_server.tools.chat_format import ChatFormat, chat_format
from vicuna_server.tools.generic_prompt import as_text
from vicuna_server.tools.history import fitted, settled
from vicuna_server.tools.parsing import THINK, THINK_END

__all__ = ["EncodedPrompt", "PromptEncoder", "make_encoder"]

_END_TOKENS = 16
"""Enough for a mark and white space behind it, however they are split."""


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


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """Token ids with BOS at their head, and the template's stop strings.

    Attributes:
        ids: The tokens.
        stop: Strings that end the answer.
        thinking: Whether the prompt ends within reasoning, which the answer goes on with.
    """

    ids: list[int]
    stop: tuple[str, ...] = ()
    thinking: bool = False

    def __len__(self) -> int:
        return len(self.ids)


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
        self.chats = template != NO_TEMPLATE
        self._template = get_template(template) if template in BUILT_IN_TEMPLATES else None
        self._jinja = JinjaTemplate(tokenizer) if self.chats and self._template is None else None
        tokens = {token.content for token in tokenizer.added_tokens.values()}
        self.chat_format: ChatFormat = chat_format(None if self._jinja is None else self._jinja.source, tokens)

    def close(self) -> None:
        """End the chat template's process; the next conversation starts another."""
        if self._jinja is not None:
            self._jinja.close()

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
        check_chats(self.chats)
        return self._chat(prompt, check)

    def _chat(self, prompt: ChatPrompt, check: Callable[[str], object]) -> EncodedPrompt:
        messages = settled(prompt.messages)
        if self._template is not None:
            return self._built_in(Conversation.of(as_text(messages, prompt.tools, self._template.system)), check)
        own, form = self._own_template, self.chat_format
        calls = bool(prompt.tools) or any(one.tool_calls or one.role == "tool" for one in messages)
        given = Rendering(prompt.tools, prompt.template_variables, calls)
        if calls and form.native:
            messages = fitted(messages, form.calls)
        elif calls:
            takes_system = not prompt.tools or own.takes_system
            messages = list(as_text(messages, prompt.tools, None, takes_system=takes_system))
            given = Rendering((), prompt.template_variables)
        conversation = Conversation.of(messages, in_place=own.keeps_system_in_place)
        ids = own.encode(conversation, check, given)
        return EncodedPrompt(ids, thinking=form.thinks and self._is_thinking(conversation, ids))

    def _built_in(self, conversation: Conversation, check: Callable[[str], object]) -> EncodedPrompt:
        if self._template is None:
            raise RuntimeError("this model's conversations have no built-in format")
        rendered = self._template.render(conversation)
        check(rendered.text())
        ids = [] if self._tokenizer.bos_id is None else [self._tokenizer.bos_id]
        for part in rendered.parts:
            if isinstance(part, EndOfTurn):
                ids.append(self._end_of_turn)
            else:
                # Text never becomes a special token, so a user cannot forge the end of a turn. Pieces between eos
                # tokens are encoded apart, as in the models' training (`legacy` in LLaMA's tokenizer).
                ids += self._tokenizer.encode(part, special_as_text=True)
        return EncodedPrompt(ids, rendered.stop)

    def _is_thinking(self, conversation: Conversation, ids: Sequence[int]) -> bool:
        """Whether a prompt ends within reasoning: the template has opened it, or the message that is continued."""
        if conversation.continues:
            said = conversation.turns[-1].content
            return said.rfind(THINK) > said.rfind(THINK_END)
        end = self.decode(list(ids[-_END_TOKENS:]), skip_special_tokens=False)
        return end.rstrip().endswith(THINK)

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
        added = self._tokenizer.added_tokens.items()
        if not skip_special_tokens or not any(token.special and token.content in shown for _, token in added):
            return lambda ids: self.decode(list(ids), skip_special_tokens=skip_special_tokens)
        hidden = {number for number, token in added if token.special and token.content not in shown}
        return lambda ids: self.decode([one for one in ids if one not in hidden], skip_special_tokens=False)

    def spellings(self, words: Sequence[str]) -> list[list[int]]:
        """Return the token ids of words, each with and without a space in front, as vLLM reads `bad_words`."""
        return [self._tokenizer.encode(text) for word in words for text in dict.fromkeys((word, f" {word.lstrip()}"))]

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens included.

        Raises:
            RequestError: An id is not in the vocabulary.
        """
        return self._tokenizer.decode(self._checked(ids, "prompt"), skip_special_tokens=False)

    @property
    def _own_template(self) -> JinjaTemplate:
        if self._jinja is None:
            raise RuntimeError("this model's conversations have a built-in format, or none")
        return self._jinja

    @property
    def _end_of_turn(self) -> int:
        if self._tokenizer.eos_id is None:
            raise RequestError(
                "messages: the chat template puts an end-of-sequence token behind each answer, and the model's "
                "tokenizer has none; send one message alone, or serve the model with another chatTemplate",
                param="messages",
            )
        return self._tokenizer.eos_id

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
