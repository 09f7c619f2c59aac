"""What a server must know to go on with another server's stream; `vicuna_contract.stream_state` describes it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["StreamBegin", "StreamState"]

_MOST = 2**31 - 1


class StreamBegin(BaseModel):
    """What a server states once, before the first event of a stream.

    Attributes:
        key: What must be equal at both servers.
        id: Value of `id` in all events.
        created: Seconds since the epoch, in all events.
        seed: Of the draws; None: the engine draws anew.
        cached: Tokens of the prompt that were not computed again, which `usage` tells.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    key: str = Field(max_length=64)
    id: str = Field(pattern=r"^(?:[a-z]{1,16}-[0-9a-f]{24}|resp_[0-9a-f]{44})$")
    created: int = Field(ge=0, lt=2**53)
    seed: int | None = None
    cached: int = Field(default=0, ge=0, le=_MOST)


class StreamState(BaseModel):
    """What a stream has come to.

    Attributes:
        begin: What its first server stated.
        events: How many events the client has.
        seconds: Since the request was sent to the first server.
        tokens: All tokens that are known.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    begin: StreamBegin
    events: int = Field(ge=0, le=_MOST)
    seconds: float = Field(ge=0)
    tokens: tuple[Annotated[int, Field(ge=0, le=_MOST)], ...]
