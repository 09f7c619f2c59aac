"""How large a response may become that is not streamed; checked before anything is computed.

Such a response is in memory as a whole, as objects and as JSON, and proxies refuse large ones. Measured on SmolLM2, an
entry of `logprobs` takes 63 bytes of JSON; the limit assumes twice that, for longer tokens. Streams have no such limit.
"""

from vicuna_server.errors import RequestError

__all__ = ["MAX_ENTRIES", "MAX_RESPONSE_BYTES", "check_echo", "check_vectors", "max_scored_tokens", "token_limit"]

MAX_RESPONSE_BYTES = 64 * 2**20
_ENTRY_BYTES = 128
MAX_ENTRIES = MAX_RESPONSE_BYTES // _ENTRY_BYTES
"""The most tokens of a response over all its choices; each counts once more for every alternative beside it."""
_NUMBER_BYTES = {"float": 24, "base64": 16 / 3}
"""A float64 in JSON has up to 24 characters; base64 writes three bytes, of a float32's four, in four characters."""
_VECTOR_BYTES = 128
"""The JSON around each vector."""


def token_limit(choices: int, max_tokens: int | None, alternatives: int | None, field: str) -> int:
    """Return how many tokens each choice of a response may have; without `max_tokens` a completion ends there.

    Args:
        choices: Choices of all prompts together.
        max_tokens: The request's limit; None: it has none.
        alternatives: Alternatives reported beside each token; None: no log probabilities.
        field: The request field that asks for alternatives.

    Raises:
        RequestError: 400; the response could become too large.
    """
    each = choices * (1 + (alternatives or 0))
    most = MAX_ENTRIES // each
    if max_tokens is not None and max_tokens > most:
        raise RequestError(
            f"max_tokens: n * max_tokens * (1 + {field}) is {choices} * {max_tokens} * {1 + (alternatives or 0)} = "
            f"{max_tokens * each}, but a response without stream: true may have {MAX_ENTRIES} at most; "
            f"lower max_tokens to {most} or less, or set stream to true",
            param="max_tokens",
            code="answer_too_large",
        )
    return most


def max_scored_tokens(alternatives: int, choices: int) -> int:
    """Return how many prompt tokens a response may report log probabilities of; each counts once per choice."""
    return MAX_ENTRIES // ((1 + alternatives) * choices)


def check_echo(texts: list[str], choices: int) -> None:
    """Refuse a response that would repeat too much text of its prompts.

    Raises:
        RequestError: 400.
    """
    size, most = sum(len(text.encode(errors="replace")) for text in texts) * choices, MAX_RESPONSE_BYTES // 4
    if size > most:
        raise RequestError(
            f"echo: the prompts, {choices} times each, have {size} bytes, but a response repeats at most {most}; "
            "lower n, send fewer prompts, or leave echo out",
            param="echo",
            code="answer_too_large",
        )


def check_vectors(inputs: int, size: int, encoding_format: str) -> None:
    """Refuse more vectors than a response may hold.

    Args:
        inputs: Number of vectors.
        size: Numbers in each vector.
        encoding_format: "float" or "base64".

    Raises:
        RequestError: 400.
    """
    each = int(size * _NUMBER_BYTES[encoding_format]) + _VECTOR_BYTES
    most = max(1, MAX_RESPONSE_BYTES // each)
    if inputs > most:
        hint = "send several requests" + (", or set encoding_format to base64" if encoding_format == "float" else "")
        raise RequestError(
            f"input: {inputs} vectors of {size} numbers as {encoding_format} exceed the {MAX_RESPONSE_BYTES >> 20} MiB "
            f"that a response may have; at most {most} inputs fit; {hint}",
            param="input",
            code="answer_too_large",
        )
