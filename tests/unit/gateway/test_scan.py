"""`model` and `stream` of a body are read as `json` reads them, or refused, without parsing the rest."""

import contextlib
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.amount import first
from vicuna_server.errors import RequestError
from vicuna_server.gateway import json_skip
from vicuna_server.gateway.json_skip import PIECE
from vicuna_server.gateway.scan import Named, scan

MIB = 2**20


def drive(body: bytes) -> Named:
    steps = scan(body)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            named: Named = done.value
            return named


def refused(body: bytes) -> str:
    with pytest.raises(RequestError) as caught:
        drive(body)
    assert (caught.value.status, len(caught.value.message) < 300) == (400, True)
    return caught.value.code or ""


def filled(head: bytes, unit: bytes, tail: bytes, size: int = 4 * MIB) -> bytes:
    return head + unit * ((size - len(head) - len(tail)) // len(unit)) + tail


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(), inner, max_size=8),
    max_leaves=60,
)
FIELDS = st.dictionaries(st.text().filter(lambda name: name.casefold() not in ("model", "stream")), NESTED, max_size=5)
NAMES = st.text(min_size=1)


@pytest.mark.long
@given(
    FIELDS,
    FIELDS,
    NAMES,
    st.booleans() | st.none() | st.text() | st.just(1),
    st.booleans(),
    st.sampled_from([None, 1, "\t"]),
)
def test_it_reads_what_json_reads(
    before: dict[str, Any], after: dict[str, Any], name: str, stream: Any, plain: bool, indent: Any
) -> None:
    fields = {**before, "model": name, **{key: value for key, value in after.items() if key not in before}}
    fields["stream"] = stream
    text = json.dumps(fields, ensure_ascii=plain, indent=indent)
    if not plain:
        text = text.encode("utf-8", "replace").decode()
    body = text.encode()
    expected = json.loads(body)
    named = drive(body)
    assert (named.model, named.stream) == (expected["model"], expected["stream"] is True)
    assert json.loads(body[named.start : named.end]) == expected["model"]
    renamed = json.loads(body[: named.start] + b'"other"' + body[named.end :])
    same = json.dumps({**expected, "model": "other"})  # as text: not even itself is equal to NaN
    assert json.dumps(renamed) == same


@pytest.mark.long
@given(NESTED, st.binary(max_size=6), st.integers(0, 10**6))
def test_what_it_takes_is_one_object_for_every_parser_that_takes_it(value: Any, noise: bytes, place: int) -> None:
    """Bytes put anywhere into a body: refused, or json reads the same model, or json refuses all of it."""
    body = json.dumps({"a": value, "model": "m", "b": [value]}).encode()
    place %= len(body) + 1
    body = body[:place] + noise + body[place:]
    try:
        named = drive(body)
    except RequestError:
        return
    try:
        expected = json.loads(body)
    except ValueError:
        return
    assert named.model == expected["model"]


@given(st.text('[]{}",:\\ 1aé', max_size=40))
def test_soup_is_never_read_as_something_else(soup: str) -> None:
    body = b'{"model":"m","x":%b}' % soup.encode()
    try:
        named = drive(body)
    except RequestError:
        return
    with contextlib.suppress(ValueError):
        assert named.model == json.loads(body)["model"]


@given(st.lists(st.sampled_from(["[1]", '{"a":"]"}', '"\\""', '"\\\\"', "1", "[[],{}]"]), max_size=12))
def test_json_is_not_refused(values: list[str]) -> None:
    members = "".join(f',"{number}":{value}' for number, value in enumerate(values))
    assert drive(f'{{"a":[{",".join(values)}],"model":"m"{members}}}'.encode()).model == "m"


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"m"}', "m"),
        (b' \t\r\n{ "model" : "m" } \n', "m"),
        (b'{"mod\\u0065l":"m"}', "m"),
        (b'{"model":"\\u006d"}', "m"),
        (b'{"a":{"model":"x"},"model":"m","b":[{"model":"y"}],"c":"\\"model\\":\\"z\\""}', "m"),
        (b'{"a":"\\\\","model":"m","b":"\\\\\\""}', "m"),
        (b'{"model":"team-a/\xef\xbd\x8d"}', "team-a/\uff4d"),
        (b'{"model":"m\\u0000"}', "m\0"),
        (b'{"model":"\\ud800"}', "\ud800"),
        (b'{"model":"m","x":NaN,"y":1e999,"z":"\\ud800","w":-Infinity,"v":-0.5E+7}', "m"),
    ],
)
def test_it_finds_the_models_name(body: bytes, model: str) -> None:
    assert drive(body).model == model


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"model":"m"', "invalid_json"),
        (b'{"model":"m",}', "invalid_json"),
        (b'{"model":"m"}}', "invalid_json"),
        (b'{"model":"m"} {"model":"n"}', "invalid_json"),
        (b'{"model":"m"}\0', "invalid_json"),
        (b'{"model" "m"}', "invalid_json"),
        (b'{"model":"m" "a":1}', "invalid_json"),
        (b"{model:1}", "invalid_json"),
        (b"{'model':'m'}", "invalid_json"),
        (b'{"model":"m\n"}', "invalid_json"),
        (b'{"model":"m","a":01}', "invalid_json"),
        (b'{"model":"m","a":nope}', "invalid_json"),
        (b'{"model":"m","a":[/* "]} */]}', "invalid_json"),
        (b'{"model":"m","a":["x\xff"]}', "invalid_json"),
        (b'{"model":"m","a":"\xc0\xa2"}', "invalid_json"),
        (b'{"model":"m","a":["\\"]}', "invalid_json"),
        (b'{"model":"m","a":[\\"]}', "invalid_json"),
        (json.dumps({"model": "m"}).encode("utf-16"), "invalid_json"),
        (json.dumps({"model": "m"}).encode("utf-32-le"), "invalid_json"),
        (b'\xef\xbb\xbf{"model":"m"}', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b"[]", "invalid_value"),
        (b'"text"', "invalid_value"),
        (b"null", "invalid_value"),
        (b"{}", "invalid_value"),
        (b'{"model":7}', "invalid_value"),
        (b'{"model":""}', "invalid_value"),
        (b'{"model":["m"]}', "invalid_value"),
        (b'{"model":"m","model":"n"}', "invalid_value"),
        (b'{"model":"m","mod\\u0065l":"n"}', "invalid_value"),
        (b'{"model":"m","Model":"n"}', "invalid_value"),
        (b'{"model":"m","stream":true,"stream":false}', "invalid_value"),
        (b'{"model":"m"' + b"".join(b',"%d":0' % n for n in range(300)) + b"}", "invalid_value"),
    ],
)
def test_what_could_be_read_in_two_ways_or_in_none_is_refused(body: bytes, code: str) -> None:
    assert refused(body) == code


LARGE = {
    "nested lists": filled(b'{"model":"m","x":[', b"[],", b"[]]}"),
    "deep": b'{"model":"m","x":' + b"[" * (2 * MIB - 20) + b"]" * (2 * MIB - 20) + b"}",
    "floats": filled(b'{"model":"m","x":[', b"1e1,", b"1]}"),
    "long ints": filled(b'{"model":"m","x":[', b"9" * 4299 + b",", b"1]}"),
    "one int": filled(b'{"model":"m","x":', b"9", b"}"),
    "escapes": filled(b'{"model":"m","x":"', b"\\u0001", b'"}'),
    "quotes": filled(b'{"model":"m","x":["', b'\\"', b'"]}'),
    "backslashes": filled(b'{"model":"m","x":["', b"\\\\", b'"]}'),
    "strings": filled(b'{"model":"m","x":[', b'"",', b'""]}'),
    "space": filled(b'{"model":"m","x":1', b" ", b"}"),
    "in the way": b'{"x":' + b"[[]," * (MIB // 2) + b"1" + b"]" * (MIB // 2) + b',"model":"m"}',
    "text": filled(b'{"model":"m","x":"', "Zażółć gęślą jaźń 😀 ".encode(), b'"}'),
    "many lists": b'{"model":"m"' + b"".join(b',"%d":[%b1]' % (n, b"[]," * 5400) for n in range(250)) + b"}",
}


@pytest.mark.parametrize("kind", first(LARGE, len(LARGE) - 1))
def test_a_body_of_4_mib_is_looked_at_in_small_pieces(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two pauses only a few pieces are read. Bytes are counted, since time depends on the machine."""
    touched = 0

    def counting(name: str) -> None:
        plain = getattr(json_skip, name)

        def wrapped(body: bytes, *rest: Any) -> Any:
            nonlocal touched
            touched += len(body)
            return plain(body, *rest)

        monkeypatch.setattr(json_skip, name, wrapped)

    counting("_depths")
    counting("_without_escapes")
    body = LARGE[kind]
    steps, worst = scan(body), 0
    while True:
        before = touched
        try:
            next(steps)
        except StopIteration as done:
            named = done.value
            break
        finally:
            worst = max(worst, touched - before)
    assert named.model == "m"
    assert worst <= 12 * PIECE
    assert touched <= 12 * len(body) + PIECE


@pytest.mark.parametrize("kind", first(["nested lists", "strings", "many lists"], 2))
def test_it_builds_nothing(kind: str) -> None:
    body = LARGE[kind]
    tracemalloc.start()
    try:
        drive(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * MIB, "json takes 100 MiB and more"


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ("", 4096),
        ('"max_tokens": 7', 7),
        ('"max_tokens": 7, "max_completion_tokens": 9, "n": 3, "best_of": 5', 45),
        ('"max_output_tokens": 11', 11),
        ('"max_tokens": 16.0, "n": 2e0', 32),
        ('"max_tokens": 1e999, "n": 2', 2 * (2**31 - 1)),
        *[(f'"max_tokens": {odd}', 4096) for odd in ("null", "true", '"7"', "[7]", "-7", "NaN", "0", "9" * 5000)],
        *[(f'"n": {odd}', 4096) for odd in ("null", "0", "-1", '{"a":1}')],
        ('"x": {"max_tokens": 7}', 4096),
    ],
)
def test_the_most_tokens_of_a_completion_are_what_the_body_states(fields: str, tokens: int) -> None:
    assert drive(b'{"model": "m"%b}' % (f", {fields}" if fields else "").encode()).completion == tokens


@pytest.mark.parametrize(
    ("value", "previous"),
    [('"resp_1"', "resp_1"), ('"\\u0061"', "a"), ("null", ""), ("5", ""), ('["resp_1"]', ""), ('{"id": "resp_1"}', "")],
)
def test_the_response_that_a_body_continues_is_read(value: str, previous: str) -> None:
    body = f'{{"model": "m", "previous_response_id": {value}, "input": {{"previous_response_id": "resp_2"}}}}'
    assert drive(body.encode()).previous == previous
    assert drive(b'{"model": "m"}').previous == ""
