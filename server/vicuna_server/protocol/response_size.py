"""How large a whole answer may become, checked before anything is computed.

A whole answer is in memory at once, as objects and as JSON, and proxies refuse what is large. Measured on SmolLM2, an
entry of `logprobs` takes 63 bytes of JSON; twice that is reckoned, for longer tokens. Streams have no such limit.
"""

from vicuna_server.errors import RequestError

__all__ = ["MAX_ENTRIES", "MAX_RESPONSE_BYTES", "check_echo", "check_vectors", "max_scored_tokens", "token_limit"]

MAX_RESPONSE_BYTES = 64 * 2**20
_ENTRY_BYTES = 128
MAX_ENTRIES = MAX_RESPONSE_BYTES // _ENTRY_BYTES
"""The most tokens of a whole answer, over all its choices, each counted once more for every alternative beside it."""
_NUMBER_BYTES = {"float": 24, "base64": 16 / 3}
"""A float64 in JSON has up to 24 letters; base64 makes four letters of three of a float32's four bytes."""
_VECTOR_BYTES = 128
"""What stands around each vector."""


def token_limit(answers: int, max_tokens: int | None, alternatives: int | None, field: str) -> int:
    """Return how many tokens each of a whole answer's choices may have; where the request states none, it ends there.

    Args:
        answers: choices, times prompts.
        max_tokens: what the request says; None: nothing.
        alternatives: likeliest tokens reported beside each.
        field: by which they are asked for.

    Raises:
        RequestError: 400; what is asked for could not be delivered.
    """
    each = answers * (1 + (alternatives or 0))
    most = MAX_ENTRIES // each
    if max_tokens is not None and max_tokens > most:
        raise RequestError(
            f"n * max_tokens * (1 + {field}) is {answers} * {max_tokens} * {1 + (alternatives or 0)} = "
            f"{max_tokens * each}, but at most {MAX_ENTRIES} fit into a whole answer; lower one of them (max_tokens to "
            f"{most}), or ask for a stream",
            param="max_tokens",
            code="answer_too_large",
        )
    return most


def max_scored_tokens(alternatives: int, choices: int) -> int:
    """Return how many tokens of prompts an answer may tell the likelihoods of, each once per choice."""
    return MAX_ENTRIES // ((1 + alternatives) * choices)


def check_echo(texts: list[str], choices: int) -> None:
    """Refuse an answer that would repeat too much of its prompts.

    Raises:
        RequestError: 400.
    """
    size, most = sum(len(text.encode(errors="replace")) for text in texts) * choices, MAX_RESPONSE_BYTES // 4
    if size > most:
        raise RequestError(
            f"echo: the prompts, {choices} times each, have {size} bytes, but at most {most} are repeated; "
            "lower n, or leave echo out",
            param="echo",
            code="answer_too_large",
        )


def check_vectors(inputs: int, size: int, encoding_format: str) -> None:
    """Refuse more vectors than an answer can hold.

    Args:
        inputs: how many.
        size: numbers in each.
        encoding_format: "float" or "base64".

    Raises:
        RequestError: 400.
    """
    each = int(size * _NUMBER_BYTES[encoding_format]) + _VECTOR_BYTES
    most = max(1, MAX_RESPONSE_BYTES // each)
    if inputs > most:
        hint = "send several requests" + (", or set encoding_format to base64" if encoding_format == "float" else "")
        raise RequestError(
            f"input: {inputs} vectors of {size} numbers as {encoding_format} are more than the "
            f"{MAX_RESPONSE_BYTES >> 20} MiB that an answer may have; at most {most} inputs fit; {hint}",
            param="input",
            code="answer_too_large",
        )
