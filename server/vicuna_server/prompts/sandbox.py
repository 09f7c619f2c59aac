"""Renders chat templates in Jinja with what Hugging Face's templates count on, without transformers.

Source: the documentation of chat templates in transformers and the behaviour of its `apply_chat_template`, to which
tests hold this module: without tools `tools` is None, `documents` always is, `tojson` escapes no HTML,
`raise_exception`, `strftime_now`, `break`, `continue` and `{% generation %}` exist. A template is an untrusted program:
it runs in Jinja's sandbox, and the caller has to bound its time and memory.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

__all__ = ["chosen_template", "render"]

TOOL_USE = "tool_use"
"""Source: transformers, which gives the template of this name to chats with tools."""


def chosen_template(stated: str | Mapping[str, str] | None, *, tools: bool = False) -> str:
    """Return the template for a chat.

    Args:
        stated: The only template, or several by name; None: there is none.
        tools: Whether tools are called in it: one named "tool_use" is for that.

    Raises:
        ValueError: There is none, or none of several is named "default".
    """
    if stated is None:
        raise ValueError("the tokenizer has no chat_template; name a built-in format, or give a file")
    if isinstance(stated, str):
        return stated
    if tools and TOOL_USE in stated:
        return stated[TOOL_USE]
    if "default" in stated:
        return stated["default"]
    raise ValueError(
        f"the tokenizer has chat templates by name ({', '.join(sorted(stated))}) and none is named default; name one "
        "of them default, or give a file"
    )


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    tokens: Mapping[str, str],
    *,
    continues: bool,
    tools: Sequence[Mapping[str, Any]] | None = None,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """Return the prompt.

    Args:
        template: The template's text.
        messages: Each with `role`, `content` and perhaps more, as in `template_data`.
        tokens: Special tokens by the names that templates call them by, such as `bos_token`.
        tools: That may be called; None: there are none.
        variables: Further names that the template may use; those that it is given in any case count before.
        continues: Whether the prompt ends with the last message's text; otherwise it opens the answer.

    Raises:
        ValueError: The message that is to be continued does not end the prompt.
        Exception: Whatever the template raises.
    """
    compiled = _compiled(template)
    said = [dict(message) for message in messages]
    # Marks where the last message ends. No message can spell it; its space tells whether the template trims messages.
    end = f"vicuna{secrets.token_hex(8)} "
    if continues:
        if not said or "content" not in template:
            raise ValueError("there is no message whose content the template writes, so none can be continued")
        said[-1]["content"] += end
    given = {"messages": said, "tools": tools, "documents": None, "add_generation_prompt": not continues, **tokens}
    text = compiled.render({**(variables or {}), **given})
    return _cut(text, messages[-1]["content"], end) if continues else text


def _cut(text: str, last: str, end: str) -> str:
    """Return the prompt up to the end of its last message, without the marks in a text that is written twice."""
    place = text.rfind(end.strip())
    if place < 0 or last.strip() not in text:
        raise ValueError("the template does not write the last message as it is, so it cannot be continued")
    before = text[:place] if text.startswith(end, place) else text[:place].rstrip()
    return before.replace(end, "").replace(end.strip(), "")


@lru_cache(maxsize=4)
def _compiled(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment.from_string(template)


class _Generation(Extension):
    """`{% generation %}`, which marks the assistant's text for training, writes what is in it."""

    tags = {"generation"}  # noqa: RUF012  # Jinja has this type

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Dict:
    """`dict` for templates, without the attributes of the class."""

    def __call__(self, *args: Any, **values: Any) -> dict[Any, Any]:
        return dict(*args, **values)

    def fromkeys(self, keys: Any, value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


class _Namespace(Namespace):
    """`namespace` for templates; names with an underscore in front would reach into Python."""

    def __init__(self, /, *args: Any, **values: Any) -> None:
        held = dict(*args, **values)
        for name in held:
            _check_name(name)
        super().__init__(held)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}; rename it so that it begins without an underscore")


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)  # noqa: DTZ005  # the server's own time, as in transformers


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
