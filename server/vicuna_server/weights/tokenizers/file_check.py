"""Every file of a tokenizer is opened before it is copied: what is something else is named."""

from pathlib import Path

from vicuna_server.errors import InputError
from vicuna_server.weights.formats.small_file import read_object, read_small, read_text

__all__ = ["check_file"]

_REASON = "TokenizerBroken"


def check_file(path: Path) -> None:
    """Raise where a file cannot be what its name says.

    Args:
        path: one of `TOKENIZER_FILES` that is there.

    Raises:
        InputError: `TokenizerBroken`; `ChatTemplateBroken` for a template.
    """
    name = path.name
    if name.startswith("chat_template"):
        read_text(path, "ChatTemplateBroken", "a chat template")
    elif name in ("tokenizer.json", "tokenizer.model", "merges.txt"):
        read_small(path, _REASON, "a tokenizer")
    else:
        table = read_object(path, _REASON, "a tokenizer's file")
        if name in ("vocab.json", "added_tokens.json") and not all(type(token) is int for token in table.values()):
            raise InputError(_REASON, f"{path}: {name} is not a table of tokens and their ids; fetch it again")
