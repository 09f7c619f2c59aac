"""The built-in formats as Jinja: in plain transformers the same ids as our renderers give, whatever is said."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from support.amount import examples
from support.characters import make_tokenizer
from support.checkpoints import CONFIG
from support.opened import opened
from support.pieces import train
from vicuna_contract.templates import BUILT_IN_TEMPLATES
from vicuna_server.engine import ChatPrompt
from vicuna_server.engine.encoding import PromptEncoder
from vicuna_server.prompts import Conversation, Message, Role, get_template, jinja_source, written_format
from vicuna_server.weights.tokenizers.tokenizer import read_tokenizer

pytestmark = pytest.mark.transformers

_TEXTS = st.one_of(
    st.text(alphabet="ab .\n▁<s>/é{}#_😀", max_size=12),
    st.sampled_from(["", " ", "</s>", "<s>", "USER: x", "### Human: y", " led", "trail ", "{{ bos_token }}", "a<s>b"]),
)
_MESSAGES = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), _TEXTS), max_size=7).filter(
    lambda messages: any(one.role != "system" for one in messages) and not _begins_with_look_alike(messages)
)


def _begins_with_look_alike(messages: list[Message]) -> bool:
    """Whether the prompt's first letters spell a special token, which transformers encodes without LLaMA's space."""
    return (Conversation.of(messages).system or "").startswith(("<s>", "</s>"))


@cache
def llama(**config: Any) -> Any:
    """LLaMA's, as a merge makes it of a tokenizer.model."""
    from transformers import AutoTokenizer

    with TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "tokenizer.model").write_bytes(train())
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        for name, item in read_tokenizer(folder).files.items():
            (folder / name).write_bytes(item if isinstance(item, bytes) else item.read_bytes())
        (folder / "config.json").write_text(json.dumps(CONFIG))
        return AutoTokenizer.from_pretrained(folder)


@cache
def byte_level() -> Any:
    """A tokenizer of bytes that has no bos, as Qwen's."""
    from transformers import PreTrainedTokenizerFast

    vocab = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    raw = Tokenizer(models.BPE(vocab, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>")


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "LLaMA's": lambda: llama(),
    "LLaMA's, legacy false": lambda: llama(legacy=False),
    "LLaMA's, no space in front": lambda: llama(legacy=False, add_prefix_space=False),
    "bytes, no bos": byte_level,
    "characters": lambda: make_tokenizer(adds_bos=True),
}
SPACED_ONCE = {"LLaMA's, legacy false"}


def plain_ids(tokenizer: Any, messages: list[dict[str, Any]], source: str, **options: Any) -> list[int]:
    return list(tokenizer.apply_chat_template(messages, chat_template=source, return_dict=False, **options))


@pytest.mark.long
@pytest.mark.parametrize("name", BUILT_IN_TEMPLATES)
@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=examples(60))
@given(messages=_MESSAGES)
def test_plain_transformers_gives_the_ids_that_the_server_does(kind: str, name: str, messages: list[Message]) -> None:
    tokenizer = TOKENIZERS[kind]()
    continues = Conversation.of(messages).continues
    ids = plain_ids(
        tokenizer,
        [{"role": one.role, "content": one.content} for one in messages],
        jinja_source(name, spaced_once=kind in SPACED_ONCE),
        add_generation_prompt=not continues,
        continue_final_message=continues,
        sanitize_control_tokens=True,
    )
    assert ids == PromptEncoder(opened(tokenizer), name).encode(ChatPrompt(tuple(messages))).ids


@pytest.mark.parametrize("name", BUILT_IN_TEMPLATES)
@settings(max_examples=examples(40))
@given(messages=_MESSAGES)
def test_without_a_prompt_for_the_answer_the_last_turn_is_ended(name: str, messages: list[Message]) -> None:
    """As training has it: what the next question begins with, and no more."""
    tokenizer, source = TOKENIZERS["characters"](), jinja_source(name)
    said = [{"role": one.role, "content": one.content} for one in messages]
    options = {"chat_template": source, "tokenize": False}
    last = Conversation.of(messages).turns[-1].role
    role: Role = "assistant" if last == "user" else "user"
    other = {"role": role, "content": "zZ"}
    longer = tokenizer.apply_chat_template([*said, other], **options)
    alone = tokenizer.apply_chat_template(said, **options)
    assert longer.startswith(alone)
    opening = get_template(name).render(Conversation.of([Message(role, "zZ")])).text()
    assert longer.removeprefix(alone).partition("zZ")[0] in opening


@pytest.mark.parametrize("name", BUILT_IN_TEMPLATES)
def test_parts_and_the_newer_name_of_system_are_understood(name: str) -> None:
    tokenizer = TOKENIZERS["characters"]()
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    said: list[dict[str, Any]] = [{"role": "developer", "content": "Be."}, {"role": "user", "content": parts}]
    messages = (Message("system", "Be."), Message("user", "a\nb"))
    ids = plain_ids(tokenizer, said, jinja_source(name), add_generation_prompt=True)
    assert ids == PromptEncoder(opened(tokenizer), name).encode(ChatPrompt(messages)).ids


@pytest.mark.parametrize("name", BUILT_IN_TEMPLATES)
@pytest.mark.parametrize("messages", [[{"role": "system", "content": "a"}], [{"role": "tool", "content": "a"}]])
def test_what_the_format_has_no_place_for_is_refused(name: str, messages: list[dict[str, Any]]) -> None:
    with pytest.raises(TemplateError, match=r"is needed|the roles"):
        plain_ids(TOKENIZERS["characters"](), messages, jinja_source(name))


@pytest.mark.parametrize("name", BUILT_IN_TEMPLATES)
@pytest.mark.parametrize("spaced_once", [False, True])
def test_a_format_of_ours_is_known_again(name: str, spaced_once: bool) -> None:
    assert written_format(jinja_source(name, spaced_once=spaced_once)) == name
    assert written_format("{{ messages }}") is None
    assert written_format("{#- vicuna-operator: prompt format chatml, as -#}") is None
