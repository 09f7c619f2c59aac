"""The names of chat templates, and which one a model gets; what each renders is the server's."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, get_args

__all__ = [
    "AUTO",
    "BUILT_IN_TEMPLATES",
    "CHAT_TEMPLATES",
    "FROM_TOKENIZER",
    "NO_TEMPLATE",
    "TEMPLATE_SUFFIX",
    "ChatTemplate",
    "is_resolved",
    "resolve_template",
]

AUTO: Final = "auto"
"""Leaves the choice to `resolve_template`."""

FROM_TOKENIZER: Final = "from-tokenizer"
"""The tokenizer's own Jinja template."""

NO_TEMPLATE: Final = "none"
"""Nothing is pinned, and a server answers no chats: for completions and embeddings."""

TEMPLATE_SUFFIX: Final = ".jinja"
"""What the path of a file ends with that stands in for the tokenizer's own template."""

ChatTemplate = Literal["auto", "vicuna_v1.1", "vicuna_v0", "alpaca", "from-tokenizer", "none"]
CHAT_TEMPLATES: Final[tuple[ChatTemplate, ...]] = get_args(ChatTemplate)
BUILT_IN_TEMPLATES: Final = tuple(name for name in CHAT_TEMPLATES if name not in (AUTO, FROM_TOKENIZER, NO_TEMPLATE))
"""Those that the server renders itself."""

_BY_KIND: Mapping[str, ChatTemplate] = MappingProxyType({"additive-v0": "vicuna_v0", "alpaca": "alpaca"})


def is_resolved(name: object) -> bool:
    """Whether a value names a template, not only the wish for one."""
    return name != AUTO and name in CHAT_TEMPLATES


def resolve_template(
    asked: str, *, tokenizer_has_one: bool, pinned: str | None = None, kind: str = "none", source_id: str = ""
) -> str:
    """Return the name of the template that a model is served with.

    What was asked for wins; else what its artifact pins; else the tokenizer's own; else what its origin tells.

    Args:
        asked: One of `CHAT_TEMPLATES`.
        tokenizer_has_one: Whether the tokenizer brings a template.
        pinned: What the artifact's manifest says; None without one, and `NO_TEMPLATE` decides nothing either.
        kind: The resolved kind of the delta.
        source_id: Hub id (ORG/NAME) of the delta, or of the base where there is none; empty for a folder, since a path
            says nothing about training.

    Raises:
        ValueError: nothing tells, the name is unknown, or the tokenizer that was named has none.
    """
    known = None if pinned == NO_TEMPLATE else pinned
    name = asked if asked != AUTO else known or _by_origin(tokenizer_has_one, kind, source_id)
    if name is None:
        raise ValueError(f"nothing tells this model's prompt format: {_advice((*BUILT_IN_TEMPLATES, NO_TEMPLATE))}")
    if not is_resolved(name):
        raise ValueError(f"chat template {name!r} is unknown: {_advice((*BUILT_IN_TEMPLATES, FROM_TOKENIZER))}")
    if name == FROM_TOKENIZER and not tokenizer_has_one:
        raise ValueError(f"the tokenizer has no chat_template: {_advice(BUILT_IN_TEMPLATES)}")
    return name


def _by_origin(tokenizer_has_one: bool, kind: str, source_id: str) -> str | None:
    if tokenizer_has_one:
        return FROM_TOKENIZER
    if kind in _BY_KIND:
        return _BY_KIND[kind]
    if source_id.lower().startswith("lmsys/vicuna-"):
        return "vicuna_v0" if source_id.lower().endswith("-v0") else "vicuna_v1.1"
    return None


def _advice(names: tuple[str, ...]) -> str:
    return f"set chatTemplate (--chat-template) to {', '.join(names[:-1])} or {names[-1]}"
