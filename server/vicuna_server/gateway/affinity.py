"""Which endpoint a request prefers: the one that has answered requests with the same beginning. Pure.

Rendezvous hashing: every endpoint has a score for a key, and the highest wins. All gateways compute the same scores. An
endpoint that is lost gives its own share to the others, and no other share moves. Load is bounded: an endpoint that has
25 % more requests than the mean gets no more of them, and the next in rank does.

Source: Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016 (for the bound).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from math import ceil
from typing import NamedTuple

from vicuna_server.errors import RequestError
from vicuna_server.gateway.catalogue import Endpoint
from vicuna_server.gateway.json_skip import Steps, after_space, value

__all__ = ["NONE", "Affinity", "choose", "of_beginning", "of_session"]

_NAMES = {
    "/v1/chat/completions": ("messages",),
    "/v1/completions": ("prompt",),
    "/v1/responses": ("instructions", "input"),
}
"""The fields that a prompt begins with."""
_CONVERSATIONS = frozenset({"messages", "input"})
_MOST_CHARACTERS = 1024
_MOST_BYTES = 32 * 2**10
"""Bytes of a conversation that are looked at."""
_MOST_OF_A_SESSION = 256
_USER = re.compile(rb'"role"[ \t\n\r]*+:[ \t\n\r]*+"user"')
_KEY_BYTES, _SCORE_BYTES = 16, 8


class Affinity(NamedTuple):
    """What a request prefers an endpoint by.

    Attributes:
        key: what requests that are to go to the same endpoint have in common; empty: nothing.
        pinned: whether the load of the endpoint does not matter.
    """

    key: bytes = b""
    pinned: bool = False


NONE = Affinity()


def of_session(session: str, salt: str) -> Affinity:
    """Return the affinity of a session that the client names."""
    return Affinity(_key(b"session", salt, session[:_MOST_OF_A_SESSION].encode(errors="replace")), pinned=True)


def of_beginning(path: str, body: bytes, texts: Mapping[str, tuple[int, int]], salt: str) -> Affinity:
    """Return the affinity of requests that begin alike.

    That is everything up to the first message of a user; of another prompt its first 1 024 characters, as they stand in
    the body.

    Args:
        path: of the route; `NONE` for one without a prompt.
        body: the JSON body, which has been scanned.
        texts: where fields of the body begin and end.
        salt: of the API key; requests of another salt share no cache.
    """
    names = [name for name in _NAMES.get(path, ()) if name in texts]
    if not names:
        return NONE
    return Affinity(_key(path.encode(), salt, *(_beginning(body, name, *texts[name]) for name in names)))


def choose(affinity: Affinity, endpoints: Sequence[Endpoint], load: Callable[[Endpoint], int]) -> Endpoint:
    """Return the endpoint that a request goes to.

    Args:
        affinity: with a key.
        endpoints: one or more.
        load: requests under way at an endpoint.
    """
    ranked = sorted(endpoints, key=lambda endpoint: _score(affinity.key, endpoint), reverse=True)
    if affinity.pinned:
        return ranked[0]
    bound = ceil(1.25 * (sum(map(load, ranked)) + 1) / len(ranked))
    return next(endpoint for endpoint in ranked if load(endpoint) < bound)  # the least loaded is below the mean


def _score(key: bytes, endpoint: Endpoint) -> bytes:
    name = f"{endpoint.revision}\0{endpoint.url}".encode()
    return blake2b(name, digest_size=_SCORE_BYTES, key=key).digest()


def _key(kind: bytes, salt: str, *parts: bytes) -> bytes:
    digest = blake2b(kind, digest_size=_KEY_BYTES, key=salt.encode())
    for part in parts:
        digest.update(b"\0%d\0" % len(part))
        digest.update(part)
    return digest.digest()


def _beginning(body: bytes, name: str, start: int, end: int) -> bytes:
    if name in _CONVERSATIONS and body[start : start + 1] == b"[":
        return _to_first_user(body[start : min(end, start + _MOST_BYTES)])
    return body[start : min(end, start + 4 * _MOST_CHARACTERS)].decode(errors="ignore")[:_MOST_CHARACTERS].encode()


def _to_first_user(messages: bytes) -> bytes:
    """Return a list of messages up to the first one of a user, or all that is there of it."""
    position = after_space(messages, 1)
    while position < len(messages):
        try:
            end = _last(value(messages, position))
        except RequestError:  # the list is empty, or longer than what is looked at
            break
        if _USER.search(messages, position, end):
            return messages[:end]
        position = after_space(messages, after_space(messages, end) + 1)
    return messages


def _last(steps: Steps) -> int:
    """Return the result of a generator."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return int(done.value)
