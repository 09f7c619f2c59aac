"""How another server goes on with a stream whose server was lost: what servers tell the gateway, and it tells them.

A request with `STATE_HEADER` asks for comments in its stream: one `STATE_COMMENT` in front of all else, then
`TOKENS_COMMENT`s. Each token's comment stands in front of the events that the token's text is in.

The header's value is the number of bytes behind the request's own body. There are none where the stream begins. Else
they are a JSON object: `begin`, which the `STATE_COMMENT` of the lost server stated; `tokens`, the ids that its
`TOKENS_COMMENT`s stated; `events`, how many of its events the client has; `seconds` since the request was sent first.
The server generates these tokens again without the model, leaves out so many events, and goes on.
"""

from collections.abc import Mapping
from typing import Final

STATE_COMMENT: Final = b": vicuna-state "
"""Behind it is a JSON object: what the server that goes on must know; or `off`, a name from `WHY_OFF`."""
TOKENS_COMMENT: Final = b": vicuna-tokens "
"""Behind it are the ids of the next tokens, in decimal digits, with commas between them."""

MOST_BEGIN_BYTES: Final = 1024
MOST_STATE_BYTES: Final = 2**21
"""What a server accepts behind a request's body: more than 200 000 tokens."""

REFUSED: Final = "continuation_refused"
"""Code of the error (409) by which a server refuses to go on with a stream."""

WHY_OFF: Final[Mapping[str, str]] = {
    "artifact": "its model has no manifest",
    "choices": "it has several choices",
    "logprobs": "it has log probabilities",
    "kept": "it refers to what its server alone keeps",
    "seed": "the vllm engine does not go on with seeded draws",
    "format": "the vllm engine does not go on within a format",
    "counting": "the vllm engine does not go on with presence_penalty, frequency_penalty or bad_words",
}
"""Why no other server can go on with a stream, by the name that its server states; told to the client."""
