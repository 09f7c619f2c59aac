"""Which endpoints may keep the response that an id names. Pure.

Ids name the server that made them (`protocol.responses.ids`), and EndpointSlices name pods. An endpoint whose host is
not known, as those of `--upstream`, may keep any response.
"""

from collections.abc import Sequence

from vicuna_server.gateway.catalogue import Endpoint
from vicuna_server.protocol.responses.ids import replica_of

__all__ = ["RESPONSES_PATH", "holders"]

RESPONSES_PATH = "/v1/responses"


def holders(endpoints: Sequence[Endpoint], ident: str) -> list[Endpoint]:
    """Return the endpoints that may keep a response; none: its server has gone, or the id is not one of ours."""
    replica = replica_of(ident)
    if not replica:
        return []
    theirs = [endpoint for endpoint in endpoints if endpoint.replica == replica]
    return theirs or [endpoint for endpoint in endpoints if not endpoint.replica]
