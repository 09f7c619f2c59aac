"""A template is a stranger's program: whatever it does, it fails one request, and the next is answered."""

import gc
import json
import random
import sys

import psutil
import pytest

from vicuna_server.engine import rendering, template_process
from vicuna_server.engine.rendering import Renderer
from vicuna_server.errors import OverloadedError, RequestError
from vicuna_server.prompts import Message

pytestmark = pytest.mark.long  # processes, and a second of processor time for each that does not end
HELLO = [Message("user", "Hello")]
PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
WHEN_ASKED = "{% if messages[0].content == 'go wrong' %}BAD{% endif %}" + PLAIN
FOR_EVER = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def render(renderer: Renderer, text: str = "Hello") -> str:
    return renderer.render([Message("user", text)], continues=False)


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (FOR_EVER, "s of processor time"),
        ("{{ 'a' * 10**9 }}", "MiB of memory"),
        ("{% set n = namespace(t='ab') %}{% for i in range(99) %}{% set n.t = n.t + n.t %}{% endfor %}", "of memory"),
        ("{{ 'a' * (messages | length * 150 * 2**20) }}", "of memory"),  # there is room for it once
        ("{{ ([messages] * 10**9) | length }}", "of memory"),
        ("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", "macros within each other"),
    ],
)
def test_a_template_without_end_fails_one_request_alone(bad: str, what: str) -> None:
    renderer = Renderer(WHEN_ASKED.replace("BAD", bad), {}, seconds=1)
    for _ in range(2):
        with pytest.raises(RequestError, match=what) as caught:
            render(renderer, "go wrong")
        assert (caught.value.status, caught.value.code, caught.value.param) == (400, "template_failed", "messages")
        assert render(renderer) == "<user>Hello"
    renderer.close()


def test_once_a_conversation_has_used_up_its_time_others_have_less() -> None:
    """What hangs once hangs again: ten of them are not ten times five seconds of everybody's."""
    renderer = Renderer(WHEN_ASKED.replace("BAD", FOR_EVER), {}, seconds=1)
    said = []
    for _ in range(3):
        with pytest.raises(RequestError) as caught:
            render(renderer, "go wrong")
        said.append(caught.value.message.partition(" s of")[0].rpartition(" ")[2])
    assert said == ["1", "0.5", "0.5"]
    assert renderer.render([Message("user", "Hello")] * 2048, continues=False).count("<user>") == 2048
    renderer.close()


def test_one_process_renders_all() -> None:
    renderer = Renderer("{{ bos_token }}" + PLAIN, {"bos_token": "<s>"})
    assert render(renderer) == "<s><user>Hello"
    process = renderer._process
    odd = "é😀\ud800\x00\u2028 \\u0041"
    assert render(renderer, odd) == f"<s><user>{odd}"
    with pytest.raises(RequestError, match="refuses this conversation"):
        renderer.render([Message("assistant", "gone on with")] * 0, continues=True)
    assert render(renderer, "x" * 4_000_000) == "<s><user>" + "x" * 4_000_000
    assert renderer._process is process
    renderer.close()


def test_what_transformers_quotes_of_a_prompt_is_not_told_whole() -> None:
    renderer = Renderer("{{ messages[0].content | upper }}", {})  # what is to be continued is not in it
    with pytest.raises(RequestError, match="refuses this conversation") as caught:
        renderer.render([Message("user", "a" * 5000), Message("assistant", "b")], continues=True)
    assert len(json.dumps(caught.value.message)) < 500
    renderer.close()


def test_a_process_that_has_ended_is_started_anew() -> None:
    renderer = Renderer(PLAIN, {})
    render(renderer)
    assert renderer._process is not None
    renderer._process.kill()
    renderer._process.wait()
    assert render(renderer) == "<user>Hello"
    renderer.close()


def test_no_process_outlives_its_renderer() -> None:
    renderer = Renderer(PLAIN, {})
    render(renderer)
    assert renderer._process is not None
    number = renderer._process.pid
    del renderer
    gc.collect()
    assert not psutil.pid_exists(number)


def test_where_no_process_is_to_be_had_the_client_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    with pytest.raises(OverloadedError, match="cannot be started"):
        render(Renderer(PLAIN, {}))
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(OverloadedError, match="did not start"):
        render(Renderer(PLAIN, {}))


def test_a_template_that_does_not_get_on_is_stopped_whatever_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = Renderer(WHEN_ASKED.replace("BAD", FOR_EVER), {}, seconds=1000)
    render(renderer)
    monkeypatch.setattr(rendering, "WAIT_SECONDS", 0.5)
    with pytest.raises(RequestError, match="processor time"):
        render(renderer, "go wrong")
    monkeypatch.undo()
    assert render(renderer) == "<user>Hello"
    renderer.close()


def test_whatever_a_template_says_gives_a_prompt_or_a_fault() -> None:
    """Templates mutated with seeded dice, without loops beyond the messages, so that they may run in this process."""
    dice = random.Random(20261129)
    pieces = ["{%", "%}", "{{", "}}", "|", ".", "(", ")", "'", "\ud800", "\x00", "[" * 300, "self", "loop", "é", "-%}"]
    seeds = [PLAIN, "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", "{{ messages[0]['content'] | upper }}"]
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    asked = {"messages": said, "continues": False}
    kinds = set()
    for _ in range(150):
        text = dice.choice(seeds)
        for _ in range(dice.choice((0, 1, 2, 6))):
            place = dice.randrange(len(text) + 1)
            text = text[:place] + dice.choice(pieces) + text[place + dice.choice((0, 0, 1, 5)) :]
        answer = template_process._render(text, {}, asked)
        kinds |= set(answer)
        assert json.dumps(answer)
    assert kinds == {"text", "fault", "limit"}
