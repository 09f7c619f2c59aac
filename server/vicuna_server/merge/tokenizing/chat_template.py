"""Which prompt format the merged model was trained with; decided once, pinned in the artifact."""

from vicuna_server.errors import InputError

__all__ = ["CHAT_TEMPLATES", "resolve_chat_template"]

CHAT_TEMPLATES = ("auto", "vicuna_v1.1", "vicuna_v0", "alpaca", "from-tokenizer")
_BY_KIND = {"additive-v0": "vicuna_v0", "alpaca": "alpaca"}


def resolve_chat_template(asked: str, *, has_own: bool, kind: str, source_id: str) -> str:
    """Return the template's name.

    Args:
        asked: one of `CHAT_TEMPLATES`; anything but `auto` wins.
        has_own: whether the tokenizer brings a chat_template.
        kind: the resolved kind of the delta.
        source_id: hub id (ORG/NAME) of the delta, or of the base when there is none; empty for a folder,
            since a path says nothing about training.

    Raises:
        InputError: `ChatTemplateUnknown`.
    """
    if asked == "from-tokenizer" and not has_own:
        raise InputError(
            "ChatTemplateUnknown",
            "the tokenizer has no chat_template; set chatTemplate (--chat-template) to vicuna_v1.1 or another",
        )
    if asked != "auto":
        return asked
    if has_own:
        return "from-tokenizer"
    if kind in _BY_KIND:
        return _BY_KIND[kind]
    if source_id.lower().startswith("lmsys/vicuna-"):
        return "vicuna_v0" if source_id.lower().endswith("-v0") else "vicuna_v1.1"
    raise InputError(
        "ChatTemplateUnknown",
        "nothing tells the prompt format: set chatTemplate (--chat-template) to vicuna_v1.1, vicuna_v0 or alpaca",
    )
