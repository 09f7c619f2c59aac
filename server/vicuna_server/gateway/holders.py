"""Which endpoints may keep the response or the item that an id names. Pure.

Ids name the server that made them (`protocol.responses.ids`), and EndpointSlices name pods. An endpoint whose host is
not known, as those of `--upstream`, may keep any response.
"""

import re
from collections.abc import Sequence

from vicuna_server.gateway.catalogue import Endpoint
from vicuna_server.protocol.responses.ids import replica_of

__all__ = ["RESPONSES_PATH", "holders", "referred_item"]

RESPONSES_PATH = "/v1/responses"
_REFERENCE = b'"item_reference"'
_ITEM = re.compile(rb'"((?:msg|fc|rs)_[0-9a-f]{44})"')


def holders(endpoints: Sequence[Endpoint], ident: str) -> list[Endpoint]:
    """Return the endpoints that may keep a response; none: its server has gone, or the id is not one of ours."""
    replica = replica_of(ident)
    if not replica:
        return []
    theirs = [endpoint for endpoint in endpoints if endpoint.replica == replica]
    return theirs or [endpoint for endpoint in endpoints if not endpoint.replica]


def referred_item(body: bytes) -> str:
    """Return the id of an item in a body that refers to items; empty where it refers to none.

    It is a guess, since a text may speak of ids too: the server that it names is preferred where there is such a one.
    """
    match = _ITEM.search(body) if _REFERENCE in body else None
    return match[1].decode() if match else ""
