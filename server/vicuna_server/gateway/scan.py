"""Reads `model`, `stream`, `previous_response_id` and a few counts of a JSON body, without parsing the rest.

The members of the body's object are read one by one, strictly; `json_skip` skips the values that are lists or objects.
The model's server judges what is inside of those.

A lenient parser must not see other members than this one. So text outside of strings that is not JSON is refused, and
bytes that are not UTF-8. So are `model` or `stream` given twice, and `Model`, which Go's parser takes as `model`.
"""

import codecs
import json
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

from vicuna_server.errors import RequestError
from vicuna_server.gateway.json_skip import FIRST_PIECE, PIECE, Steps, after, after_space, not_json, string, value

__all__ = ["Named", "scan"]

_ONCE = frozenset({"model", "stream"})
_LIMITS = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})
_PREVIOUS = "previous_response_id"
_CHOICES = frozenset({"n", "best_of"})
_TEXTS = ("messages", "prompt", "instructions", "input")
_READ = _ONCE | _LIMITS | _CHOICES | {_PREVIOUS, *_TEXTS}
_UNSTATED = 4096
"""Tokens of a completion whose limit is not stated."""
_COUNT = re.compile(rb"[0-9]++(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?")
_COUNT_BYTES = 32

_MOST_MEMBERS = 256


@dataclass(frozen=True, slots=True)
class Named:
    """What the gateway needs to know of a body.

    Attributes:
        model: the name given.
        start: where its JSON string begins, quote included, in bytes.
        end: where it ends.
        stream: whether `stream` is true.
        previous: the id of the response that it continues; empty: none.
        completion: the most tokens of all choices of a completion together, as the body states it.
        texts: where the fields with a prompt begin and end, in bytes.
    """

    model: str
    start: int
    end: int
    stream: bool
    completion: int
    previous: str = ""
    texts: Mapping[str, tuple[int, int]] = field(default_factory=dict, compare=False)


def scan(body: bytes) -> Generator[None, None, Named]:
    """Return what a body names; yields after each piece, so that the caller can let other requests run.

    Raises:
        RequestError: 400 `invalid_json`, `invalid_value`.
    """
    yield from _utf8(body)
    position = after_space(body, 0)
    if body[position : position + 1] != b"{":
        end = yield from value(body, position)
        if after_space(body, end) < len(body):
            raise not_json()
        raise _wrong("the body is not a JSON object; send one with a field `model`")
    found: dict[str, tuple[int, int]] = {}
    position = after_space(body, position + 1)
    closed = body[position : position + 1] == b"}"
    for _ in range(_MOST_MEMBERS):
        if closed:
            break
        before, position = position, (yield from _member(body, position, found))
        if position - before > FIRST_PIECE:
            yield
        closed = body[position : position + 1] == b"}"
        position = position if closed else after_space(body, after(body, position, b","))
    if not closed:
        raise _wrong(f"the body has more than {_MOST_MEMBERS} fields; send fewer")
    if after_space(body, position + 1) < len(body):
        raise not_json()
    return _named(body, found)


def _member(body: bytes, position: int, found: dict[str, tuple[int, int]]) -> Steps:
    """Read a name and its value; return where the next comma or brace is."""
    end = yield from string(body, position)
    name = _text(body, position, end)
    start = after_space(body, after(body, after_space(body, end), b":"))
    end = yield from value(body, start)
    if name.casefold() == "model" and name != "model":
        raise _wrong(f"the field {name} is not allowed; write model in small letters", "model")
    if name in _ONCE and name in found:
        raise _wrong(f"the field {name} is given twice; give it once", name)
    if name in _READ:
        found[name] = (start, end)
    return after_space(body, end)


def _named(body: bytes, found: dict[str, tuple[int, int]]) -> Named:
    start, end = found.get("model", (0, 0))
    name = _text(body, start, end) if body[start:end].startswith(b'"') else ""
    if not name:
        raise _wrong("model: give the name of a model; GET /v1/models lists them", "model")
    streaming = found.get("stream", (0, 0))
    before, behind = found.get(_PREVIOUS, (0, 0))
    previous = _text(body, before, behind) if body[before:behind].startswith(b'"') else ""
    most = max((_count(body, *found[each]) for each in _LIMITS if each in found), default=0) or _UNSTATED
    choices = max((_count(body, *found[each]) for each in _CHOICES if each in found), default=0) or 1
    return Named(name, start, end, body[slice(*streaming)] == b"true", most * choices, previous, _texts(found))


def _texts(found: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {name: found[name] for name in _TEXTS if name in found}


def _count(body: bytes, start: int, end: int) -> int:
    """Return a number as a count below 2^31; 0 for whatever else stands there."""
    if end - start > _COUNT_BYTES or not _COUNT.fullmatch(body, start, end):
        return 0
    return int(min(float(body[start:end]), 2**31 - 1))


def _utf8(body: bytes) -> Generator[None, None, None]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(body), PIECE):
            decoder.decode(body[start : start + PIECE])
            if start:
                yield
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise not_json() from None


def _text(body: bytes, start: int, end: int) -> str:
    try:
        return str(json.loads(body[start:end]))
    except ValueError:
        raise not_json() from None


def _wrong(message: str, param: str | None = None) -> RequestError:
    return RequestError(message, param=param, code="invalid_value")
