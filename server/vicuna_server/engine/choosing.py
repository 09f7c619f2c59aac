"""Which prompt format a folder is served with, and where the tokenizer's own is found."""

from pathlib import Path
from typing import Any

from vicuna_contract.templates import AUTO, FROM_TOKENIZER, NO_TEMPLATE, TEMPLATE_SUFFIX, resolve_template
from vicuna_server.errors import InputError
from vicuna_server.prompts import KEPT_TEMPLATE, written_format

__all__ = ["choose_template"]


def choose_template(tokenizer: Any, folder: Path, asked: str, pinned: str | None) -> str:
    """Return a template's name, and give the tokenizer its own template, which is not always the folder's.

    Args:
        tokenizer: transformers', as loaded from the folder; its `chat_template` is set.
        folder: an artifact, or any folder in Hugging Face's layout.
        asked: one of `CHAT_TEMPLATES`, or the path of a `.jinja` file.
        pinned: what the artifact's manifest says; None without one.

    Raises:
        InputError: `ChatTemplateUnknown`, `ChatTemplateBroken`.
    """
    if asked.endswith(TEMPLATE_SUFFIX):
        tokenizer.chat_template = _read(Path(asked), f"--chat-template {asked}")
        return FROM_TOKENIZER
    found = tokenizer.chat_template
    written = written_format(found) if isinstance(found, str) else None
    if written is not None:  # a merge's; it has kept what it took the place of
        kept = folder / KEPT_TEMPLATE
        tokenizer.chat_template = _read(kept, str(kept)) if kept.is_file() else None
    own = tokenizer.chat_template is not None
    if asked == AUTO and pinned == NO_TEMPLATE and not own:
        return NO_TEMPLATE
    try:
        return resolve_template(asked, pinned=pinned or written, tokenizer_has_one=own)
    except ValueError as error:
        raise InputError("ChatTemplateUnknown", str(error)) from None


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError("ChatTemplateBroken", f"{what} cannot be read: {error}") from error
