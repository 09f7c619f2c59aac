"""Which tokens end an answer: what the model's files name, as far as the tokenizer knows them for more than text."""

import re
from typing import Any

__all__ = ["end_ids"]

_MARK = re.compile(r"<[^<>]+>|\[[^\[\]]+\]")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""How sentencepiece writes a byte: text like any other."""


def end_ids(tokenizer: Any, *configs: Any) -> frozenset[int]:
    """Return the ids of the tokens that end an answer.

    Configurations name one id or a list; some were copied from other models: 2 is LLaMA's end and LLaMA 3's "#". Where
    the tokenizer has an end of its own, an id that is plain text to it ends nothing.

    Args:
        tokenizer: A tokenizer of transformers.
        configs: What may have an `eos_token_id`, generation config and config; None counts for nothing.
    """
    own = tokenizer.eos_token_id
    named = {token for config in configs for token in _listed(getattr(config, "eos_token_id", None))}
    if own is None:
        return frozenset(named)
    return frozenset({own, *(token for token in named if not _is_text(tokenizer, token))})


def _listed(value: Any) -> list[int]:
    """Return one id or a list of them as a list, without what is no id."""
    several = value if isinstance(value, list | tuple) else [value]
    return [token for token in several if isinstance(token, int) and token >= 0]


def _is_text(tokenizer: Any, token: int) -> bool:
    if token in tokenizer.added_tokens_decoder or token in tokenizer.all_special_ids:
        return False
    piece = tokenizer.convert_ids_to_tokens(token)
    return piece is not None and (_MARK.fullmatch(piece) is None or _BYTE.fullmatch(piece) is not None)
