"""The chat template that a tokenizer brings: where transformers looks for it, and which of several counts."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicuna_server.prompts import KEPT_TEMPLATE, written_format
from vicuna_server.weights.formats.small_file import read_text

__all__ = ["TEMPLATE_FILE", "OwnTemplate", "named_templates", "own_template", "pinned_format"]

TEMPLATE_FILE = "chat_template.jinja"
_CONFIG = "tokenizer_config.json"
_DEFAULT = "default"


@dataclass(frozen=True)
class OwnTemplate:
    """A tokenizer's own template in Jinja.

    Attributes:
        place: the file that holds it.
        text: what it says.
        fault: why there is none to use, though something is stated: the rest of a sentence.
    """

    place: Path
    text: str
    fault: str | None = None


def own_template(folder: Path, files: Collection[str], config: Mapping[str, Any]) -> OwnTemplate | None:
    """Return what transformers' `apply_chat_template` would use for a chat without tools; None where there is none.

    A file of its own counts before what tokenizer_config.json says; of several by name, the default one. What only a
    processor's file has (chat_template.json) is not read by tokenizers, so not a tokenizer's. In an artifact, what an
    earlier merge has written there is not the tokenizer's either: it has put that into `KEPT_TEMPLATE`.

    Args:
        folder: where the files lie.
        files: names of the tokenizer's files.
        config: tokenizer_config.json's content.

    Raises:
        InputError: `ChatTemplateBroken` where its file is something else.
    """
    for name in (KEPT_TEMPLATE, TEMPLATE_FILE):
        if name in files:
            text = _read(folder / name)
            if written_format(text) is None:
                return OwnTemplate(folder / name, text)
    stated = config.get("chat_template")
    if stated is None:
        return None
    place = folder / _CONFIG
    if isinstance(stated, str):
        return OwnTemplate(place, stated)
    named = named_templates(stated)
    if isinstance(named.get(_DEFAULT), str):
        return OwnTemplate(place, named[_DEFAULT])
    names = ", ".join(sorted(named))
    what = (
        f"has chat templates by name ({names}), and none called {_DEFAULT}"
        if named
        else "has a chat_template that is neither a text nor a list of named ones"
    )
    return OwnTemplate(place, "", f"{what}; correct it")


def pinned_format(folder: Path, files: Collection[str]) -> str | None:
    """Return the built-in format that an earlier merge has written for this tokenizer's model; None: it has not.

    Raises:
        InputError: `ChatTemplateBroken`.
    """
    return written_format(_read(folder / TEMPLATE_FILE)) if TEMPLATE_FILE in files else None


def named_templates(stated: Any) -> dict[str, Any]:
    """Return the templates by name that a `chat_template` of tokenizer_config.json lists; it may be anything else."""
    return {
        str(entry["name"]): entry["template"]
        for entry in (stated if isinstance(stated, list) else [])
        if isinstance(entry, dict) and {"name", "template"} <= entry.keys()
    }


def _read(path: Path) -> str:
    return read_text(path, "ChatTemplateBroken", "a chat template")
