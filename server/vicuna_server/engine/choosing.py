"""Which prompt format a folder is served with, and where the tokenizer's own is found."""

from pathlib import Path

from vicuna_contract.templates import AUTO, FROM_TOKENIZER, NO_TEMPLATE, TEMPLATE_SUFFIX, resolve_template
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.errors import InputError
from vicuna_server.prompts import KEPT_TEMPLATE, written_format
from vicuna_server.prompts.tokenizer import Tokenizer

__all__ = ["choose_template"]


def choose_template(tokenizer: Tokenizer, settings: LoadSettings) -> str:
    """Return a template's name, and set the tokenizer's own template, which is not always the folder's.

    Args:
        tokenizer: as opened from the folder; its `chat_template` is set.
        settings: the folder, what is asked for, and what the manifest says.

    Raises:
        InputError: `ChatTemplateUnknown`, `ChatTemplateBroken`.
    """
    asked, pinned = settings.chat_template, settings.pinned_template
    if asked.endswith(TEMPLATE_SUFFIX):
        tokenizer.chat_template = _read(Path(asked), f"--chat-template {asked}")
        return FROM_TOKENIZER
    found = tokenizer.chat_template
    written = written_format(found) if isinstance(found, str) else None
    if written is not None:  # a merge wrote it, and kept the tokenizer's own beside it
        kept = settings.folder / KEPT_TEMPLATE
        tokenizer.chat_template = _read(kept, str(kept)) if kept.is_file() else None
    own = tokenizer.chat_template is not None
    origin = {"kind": settings.kind, "source_id": settings.source_id}
    try:
        return resolve_template(asked, pinned=pinned or written, tokenizer_has_one=own, **origin)
    except ValueError as error:
        if (asked, pinned) == (AUTO, NO_TEMPLATE):  # as it was merged; nothing else names a format
            return NO_TEMPLATE
        raise InputError("ChatTemplateUnknown", str(error)) from None


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(
            "ChatTemplateBroken", f"{what} cannot be read: {error}; check the path and the file"
        ) from error
