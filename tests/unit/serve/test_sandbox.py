"""Chat templates without transformers: the text that its `apply_chat_template` gives, and no way out of the sandbox."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import SecurityError, TemplateError

from support.amount import examples
from support.characters import CHATML
from vicuna_contract.templates import BUILT_IN_TEMPLATES
from vicuna_server.prompts import jinja_source
from vicuna_server.prompts.sandbox import chosen_template, render

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
SAID = [{"role": "user", "content": "<b>Hi</b> 'é' "}, {"role": "assistant", "content": " Well,  "}]
LOOP = "{% for m in messages %}"
TEMPLATES: dict[str, str] = {
    "chatml": CHATML,
    "whitespace": "  {% if true %}\n  {% set x = 1 %}\n{{ x }}\n\n  {% endif %}\n{{- bos_token }}\n",
    "content": LOOP + "{{ bos_token + m['role'] + ': ' + m.content }}{% endfor %}{{ eos_token }}",
    "trimmed": LOOP + "{{ m.content.strip() }}|{% endfor %}",
    "tojson": "{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}{{ 'é' | tojson(ensure_ascii=true) }}"
    "{{ {'b': 1, 'a': [none, true]} | tojson(separators=(',', ':'), sort_keys=true) }}",
    "tools": "{{ tools is none }}{{ documents is defined }}{{ tools is defined and not tools }}{{ x is defined }}",
    "controls": LOOP + "{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content }}{% continue %}x{% endfor %}",
    "namespace": "{% set n = namespace(a=1, self=2) %}"
    + LOOP
    + "{% set n.a = n.a + 1 %}{% endfor %}{{ n.a + n.self }}",
    "dict": "{{ dict(a=1, b=[2])['b'] }}{{ dict([('k', 'v')]).k }}{{ dict.fromkeys(['a'], 3) }}",
    "generation": LOOP + "{% generation %}{% set x = m.content %}{{ loop.index }}{{ x }}{% endgeneration %}"
    "{{ x is defined }}{% endfor %}",
    "macro": "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ caller() }}{% endmacro %}{% call m(1) %}in{% endcall %}",
    "prompt": "{{ add_generation_prompt }}" + LOOP + "{{ m.content }}{% endfor %}",
    "filters": "{{ messages | map(attribute='role') | join('+') }}"
    "{{ messages | selectattr('role', 'eq', 'user') | list }}",
    "refuses": "{{ raise_exception('no ' + messages[0].role) }}",
    "undefined": "{{ messages[9].content }}",
    "syntax": "{% if %}",
    "attributes": "{{ messages.__class__.__mro__ }}{{ ''.__class__ }}",
    "changes": "{{ messages.append(1) }}",
    "underscore": "{% set n = namespace(_x=1) %}{{ 1 }}",
    "underscore set": "{% set n = namespace() %}{% set n.__init__ = 1 %}{{ 1 }}",
    **{name: jinja_source(name) for name in BUILT_IN_TEMPLATES},
}


def theirs(template: str, messages: list[dict[str, str]], *, continues: bool) -> str:
    from transformers.utils import chat_template_utils

    transformers: Any = chat_template_utils  # its annotations are not what it returns
    rendered, _ = transformers.render_jinja_template(
        conversations=[messages],
        chat_template=template,
        add_generation_prompt=not continues,
        continue_final_message=continues,
        **TOKENS,
    )
    return str(rendered[0])


def outcome(call: Any, *args: Any, **options: Any) -> str | type:
    """Return the text, or the kind of failure: ours has sentences of its own."""
    try:
        return str(call(*args, **options))
    except Exception as error:  # noqa: BLE001  # whatever it is
        return type(error)


@pytest.mark.transformers
@pytest.mark.parametrize("continues", [False, True])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_gives_what_it_gives_in_transformers(name: str, continues: bool) -> None:
    ours = outcome(render, TEMPLATES[name], SAID, TOKENS, continues=continues)
    assert ours == outcome(theirs, TEMPLATES[name], SAID, continues=continues)
    assert SAID[1]["content"] == " Well,  "


@pytest.mark.transformers
@pytest.mark.parametrize("name", ["chatml", "content", "trimmed", "prompt", *BUILT_IN_TEMPLATES])
@settings(max_examples=examples(40))
@given(texts=st.lists(st.text(alphabet="ab \n{}%<>/s'é", max_size=6), min_size=1, max_size=4), continues=st.booleans())
def test_whatever_is_said(name: str, texts: list[str], continues: bool) -> None:
    said = [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]
    ours = outcome(render, TEMPLATES[name], said, TOKENS, continues=continues)
    assert ours == outcome(theirs, TEMPLATES[name], said, continues=continues)


def test_now_is_the_time_of_the_machine() -> None:
    before = time.strftime("%Y-%m-%d %H:%M")
    shown = render("{{ strftime_now('%Y-%m-%d %H:%M') }}", SAID, {}, continues=False)
    assert shown in (before, time.strftime("%Y-%m-%d %H:%M"))


def test_a_text_that_is_written_twice_is_continued_at_its_end() -> None:
    """In transformers its own mark stays in the middle of such a prompt."""
    twice = LOOP + "{{ m.content }}|{{ m.content | trim }}{% endfor %}"
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": " b "}]
    assert render(twice, said, TOKENS, continues=True) == "a|a b |b"


@pytest.mark.parametrize(
    "template",
    [TEMPLATES["attributes"], TEMPLATES["changes"], TEMPLATES["underscore"], TEMPLATES["underscore set"]],
)
def test_the_sandbox_lets_nothing_out(template: str) -> None:
    with pytest.raises(SecurityError):
        render(template, SAID, TOKENS, continues=False)


def test_a_message_that_is_not_there_to_be_continued_is_told() -> None:
    for template, messages in (("{{ 1 }}", SAID), ("{{ messages[0].content }}", SAID), (CHATML, [])):
        with pytest.raises(ValueError, match="continued"):
            render(template, messages, TOKENS, continues=True)


def test_a_template_says_why_it_refuses() -> None:
    with pytest.raises(TemplateError, match="no user"):
        render(TEMPLATES["refuses"], SAID, TOKENS, continues=False)


def test_of_several_templates_the_default_one_counts() -> None:
    assert chosen_template("A") == chosen_template({"x": "B", "default": "A"}) == "A"
    with pytest.raises(ValueError, match=r"by name \(x, y\) and none is named default"):
        chosen_template({"y": "A", "x": "B"})
    with pytest.raises(ValueError, match="no chat_template"):
        chosen_template(None)
