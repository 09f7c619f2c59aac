"""Which tokens end a completion: those that the model's files name, unless they are plain text to the tokenizer."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vicuna_server.prompts.tokenizer import Tokenizer

__all__ = ["end_ids", "end_ids_of_folder", "read_config"]

_MARK = re.compile(r"<[^<>]+>|\[[^\[\]]+\]")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""How sentencepiece writes a byte: text like any other."""


def end_ids_of_folder(tokenizer: Tokenizer, folder: Path) -> frozenset[int]:
    """Return the ids of the tokens that end an answer, as generation_config.json and config.json name them."""
    return end_ids(tokenizer, read_config(folder / "generation_config.json"), read_config(folder / "config.json"))


def read_config(path: Path) -> Mapping[str, Any]:
    """Return a configuration's fields; none where the file is missing or is not a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def end_ids(tokenizer: Tokenizer, *configs: Mapping[str, Any]) -> frozenset[int]:
    """Return the ids of the tokens that end an answer.

    Configurations name one id or a list; some were copied from other models: 2 is LLaMA's end and LLaMA 3's "#". Where
    the tokenizer has an end of its own, an id that is plain text to it is ignored.

    Args:
        tokenizer: The model's.
        configs: What may have an `eos_token_id`.
    """
    own = tokenizer.eos_id
    named = {token for config in configs for token in _listed(config.get("eos_token_id"))}
    if own is None:
        return frozenset(named)
    return frozenset({own, *(token for token in named if not _is_text(tokenizer, token))})


def _listed(value: Any) -> list[int]:
    """Return one id or a list of them as a list, without what is not an id."""
    several = value if isinstance(value, list | tuple) else [value]
    return [token for token in several if isinstance(token, int) and token >= 0]


def _is_text(tokenizer: Tokenizer, token: int) -> bool:
    if token in tokenizer.added_tokens or token in tokenizer.special_ids:
        return False
    piece = tokenizer.token(token)
    return piece is not None and (_MARK.fullmatch(piece) is None or _BYTE.fullmatch(piece) is not None)
