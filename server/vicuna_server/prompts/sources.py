"""The built-in formats as Jinja, for programs that take a model's prompt format from its folder.

The renderers in `templates` define the formats; tests hold these to the same token ids.
"""

import re
from importlib.resources import files

from vicuna_contract.templates import BUILT_IN_TEMPLATES

__all__ = ["KEPT_TEMPLATE", "jinja_source", "written_format"]

KEPT_TEMPLATE = "chat_template_of_tokenizer.jinja"
"""Holds a tokenizer's own template in an artifact whose `chat_template.jinja` is a built-in format."""

_NO_LEAD, _LEAD = "{%- set lead = '' -%}", "{%- set lead = ' ' -%}"
_MARK = re.compile(r"\{#- vicuna-operator: prompt format (\S+),")


def jinja_source(name: str, *, spaced_once: bool = False) -> str:
    """Return a built-in format as Jinja.

    BOS stands in front, where the tokenizer has one; eos ends every turn that the format ends so, the last included,
    unless it is to be continued.

    Args:
        name: one of `BUILT_IN_TEMPLATES`.
        spaced_once: whether the tokenizer puts a space before the first text alone (LLaMA's with `legacy: false`).
            The renderers' pieces are encoded apart, each with its space; so the text itself brings the others.
    """
    source = files(__package__).joinpath(f"{name}.jinja").read_text(encoding="utf-8")
    return source.replace(_NO_LEAD, _LEAD, 1) if spaced_once else source


def written_format(source: str) -> str | None:
    """Return which built-in format a template is that `jinja_source` gave; None for any other."""
    found = _MARK.match(source)
    return found[1] if found and found[1] in BUILT_IN_TEMPLATES else None
