"""Settings of the HTTP side of one server."""

from dataclasses import dataclass, field
from typing import Protocol

from vicuna_contract.serve_arguments import PER_KEY, PrefixCache
from vicuna_server.api.responses.store import StoreLimits

__all__ = ["Check", "ServiceSettings"]


class Check(Protocol):
    """The check of a request's token."""

    def check(self, token: str, method: str, path: str) -> None:
        """Raise RequestError unless the token is valid for this method and path."""


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Names and limits of one server.

    Attributes:
        served_name: The model's name in the API.
        revision: Value of the `x-vicuna-revision` header.
        created: Seconds since the epoch, for `/v1/models`.
        max_stream_seconds: A completion that takes longer ends with `finish_reason` "length".
        max_body_bytes: Larger request bodies are refused with 413.
        body_seconds: A body that takes longer to arrive is refused with 408.
        allowed_origins: Origins whose pages may use the API from a browser; `*`: all.
        accepts_token_ids: Whether embeddings take token ids, which must be of this model's tokenizer.
        keepalive_seconds: A stream that is silent for so long gets an SSE comment.
        prefix_cache: Which requests share keys and values in the cache.
        kept_responses: How many responses of `/v1/responses` are kept, and for how long.
        artifact: The id of what is served; empty: not known, so no other server goes on with a stream of this one.
        signatures: Checks each request's signature; None: requests need no signature.
    """

    served_name: str
    revision: str
    created: int
    max_stream_seconds: float = 600.0
    max_body_bytes: int = 4 * 2**20
    body_seconds: float = 30.0
    allowed_origins: tuple[str, ...] = ()
    accepts_token_ids: bool = False
    keepalive_seconds: float = 15.0
    prefix_cache: PrefixCache = PER_KEY
    kept_responses: StoreLimits = field(default_factory=StoreLimits)
    artifact: str = ""
    signatures: Check | None = None
