"""Ids of responses and items. They cannot be guessed, and name the server that keeps what they stand for.

An id is a prefix, 12 hex digits for the server, and 128 random bits in hex: `resp_<server><random>`. So a gateway finds
the server, and knows when it has gone.
"""

import hashlib
import re
import secrets
from collections.abc import Callable
from itertools import count

from vicuna_server.errors import RequestError

__all__ = ["RESPONSE", "item_ids", "new_id", "replica_of", "replica_tag", "response_not_found"]

RESPONSE = "resp"
"""The prefix of a response's id."""

_DOMAIN = b"vicuna.dev/replica/v1\0"
_ITEM_DOMAIN = b"vicuna.dev/item/v1\0"
_TAG_DIGITS = 12
_OWN_DIGITS = 32
_ID = re.compile(rf"[a-z]{{2,4}}_([0-9a-f]{{{_TAG_DIGITS}}})[0-9a-f]{{{_OWN_DIGITS}}}")
_MOST_OF_A_HOST = 63


def replica_tag(pod: str) -> str:
    """Return the digits that stand for a server, by the name of its pod or host.

    A pod's host name is its name, cut as the kubelet does it: 63 characters, no dash or dot at the end. Source:
    https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-hostname-and-subdomain-field
    """
    host = pod[:_MOST_OF_A_HOST].rstrip("-.")
    return hashlib.sha256(_DOMAIN + host.encode(errors="replace")).hexdigest()[:_TAG_DIGITS]


def new_id(prefix: str, tag: str) -> str:
    """Return a new id of a server's; `prefix` is `RESPONSE`, or an item's: msg, rs, fc, fco."""
    return f"{prefix}_{tag}{secrets.token_hex(_OWN_DIGITS // 2)}"


def item_ids(response_id: str) -> Callable[[str], str]:
    """Return what makes the ids of a response's items, one after the other, from their prefixes.

    Another server that goes on with the response makes the same ones. They tell nothing of the response's own id.
    """
    tag, numbers = replica_of(response_id), count()

    def item_id(prefix: str) -> str:
        digest = hashlib.sha256(_ITEM_DOMAIN + f"{response_id}\0{next(numbers)}".encode()).hexdigest()
        return f"{prefix}_{tag}{digest[:_OWN_DIGITS]}"

    return item_id


def replica_of(ident: str) -> str:
    """Return the digits of the server that an id names; empty: no server of ours has made it."""
    match = _ID.fullmatch(ident)
    return match[1] if match else ""


def response_not_found(param: str | None) -> RequestError:
    """Return the error for an id that nobody keeps, or not for this caller: both look the same.

    Args:
        param: field of the request that has the id; None: its path.
    """
    return RequestError(
        f"{param or 'response_id'}: no such response is kept for this API key. Responses are kept in the memory of the "
        "server that made them, for a limited time and only while that server runs; send the whole conversation as "
        "input",
        status=404,
        param=param,
        code="response_not_found",
    )
