"""The pinned prompt format as the file that every program reads: `chat_template.jinja`."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vicuna_contract.templates import FROM_TOKENIZER, NO_TEMPLATE
from vicuna_server.errors import InputError
from vicuna_server.files.beneath import read_file
from vicuna_server.files.json_files import dump_json
from vicuna_server.prompts import KEPT_TEMPLATE, jinja_source, written_format
from vicuna_server.weights.tokenizers.chat_template import TEMPLATE_FILE, named_templates
from vicuna_server.weights.tokenizers.tokenizer import Tokenizer

__all__ = ["pinned_files"]

_JSON, _CONFIG = "tokenizer.json", "tokenizer_config.json"
# where transformers looks for named templates; the default one is chat_template.jinja
_FURTHER = "additional_chat_templates"
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LLAMA_CLASSES = ("LlamaTokenizer", "CodeLlamaTokenizer")
_PRE_TOKENIZER = re.compile(rb'(?<!\\)"pre_tokenizer"\s*:\s*')
_MOST_PRE_TOKENIZER_BYTES = 64 * 1024

Files = dict[str, Path | bytes]


def pinned_files(tokenizer: Tokenizer, template: str) -> Files:
    """Return the tokenizer's files with the template that is pinned where plain transformers finds it.

    A built-in format takes the place of the tokenizer's own template, which stays in a file for servers that are asked
    for it. Nothing pinned: as the source has them.

    Args:
        tokenizer: what goes into the artifact.
        template: the resolved name.
    """
    files = {name: item for name, item in tokenizer.files.items() if name not in (TEMPLATE_FILE, KEPT_TEMPLATE)}
    own = tokenizer.template.text.encode() if tokenizer.template and not tokenizer.template.fault else None
    if template == FROM_TOKENIZER and own is not None:
        return files | {TEMPLATE_FILE: own} | _further(files)
    if template in (FROM_TOKENIZER, NO_TEMPLATE):
        return files | _as_found(tokenizer)
    pinned: Files = {TEMPLATE_FILE: jinja_source(template, spaced_once=_is_spaced_once(files)).encode()}
    config = _table(files.get(_CONFIG))
    if config.pop("chat_template", None) is not None:
        pinned[_CONFIG] = dump_json(config)
    return files | pinned | ({KEPT_TEMPLATE: own} if own is not None else {})


def _as_found(tokenizer: Tokenizer) -> Files:
    """Return the source's own template file, whatever an earlier merge has put in its place."""
    item = tokenizer.files.get(TEMPLATE_FILE)
    if item is None or written_format(_content(item).decode(errors="replace")) is None:
        return {} if item is None else {TEMPLATE_FILE: item}
    kept = tokenizer.files.get(KEPT_TEMPLATE)
    return {} if kept is None else {TEMPLATE_FILE: kept}


def _further(files: Mapping[str, Path | bytes]) -> Files:
    """Return the templates with other names, which transformers reads from files once there is a default in one."""
    if TEMPLATE_FILE in files:
        return {}
    several = named_templates(_table(files.get(_CONFIG)).get("chat_template"))
    return {
        f"{_FURTHER}/{name}.jinja": text.encode()
        for name, text in several.items()
        if name != "default" and isinstance(text, str) and _SAFE_NAME.fullmatch(name)
    }


def _is_spaced_once(files: Mapping[str, Path | bytes]) -> bool:
    """Tell whether transformers puts LLaMA's space before the first text alone; see `jinja_source`."""
    config = _table(files.get(_CONFIG))
    named = str(config.get("tokenizer_class")).removesuffix("Fast")
    if named in _LLAMA_CLASSES:
        legacy = config.get("legacy") and named == "LlamaTokenizer"
        return not legacy and config.get("add_prefix_space") in (None, True)
    return '"prepend_scheme": "first"' in json.dumps(_pre_tokenizer(files.get(_JSON)))


def _pre_tokenizer(item: Path | bytes | None) -> Any:
    """Return that part of tokenizer.json, without reading its vocabulary; None where there is none."""
    content = b"" if item is None else _content(item)
    found = _PRE_TOKENIZER.search(content)
    if found is None:
        return None
    part = content[found.end() : found.end() + _MOST_PRE_TOKENIZER_BYTES].decode(errors="replace")
    try:
        return json.JSONDecoder().raw_decode(part)[0]
    except (ValueError, RecursionError):
        return None


def _table(item: Path | bytes | None) -> dict[str, Any]:
    """Return a JSON object that was judged when the tokenizer was read.

    Raises:
        InputError: `TokenizerBroken` where its file was changed since.
    """
    try:
        return {} if item is None else dict(json.loads(_content(item)))
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError("TokenizerBroken", f"{item!s} was changed while it was read; merge again") from error


def _content(item: Path | bytes) -> bytes:
    return item if isinstance(item, bytes) else read_file(item)
