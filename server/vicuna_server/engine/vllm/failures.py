"""What vLLM says of a request that it does not answer, as errors of ours.

vLLM's error object has a number as `code`; it comes as a body with that status, or as an event in a stream. 400 is the
request's fault. All else is the engine's: before the first token another server may do better, so it is a 503.
"""

import json
from collections.abc import Mapping
from typing import Any

from vicuna_server.errors import EngineError, OverloadedError, RequestError, VicunaError

__all__ = ["failed_response", "failure", "unavailable"]

_MOST_LETTERS = 300


def unavailable(why: str) -> OverloadedError:
    """Return the 503 of a server whose engine cannot answer now."""
    return OverloadedError(
        f"the vllm engine of this server {why}; send the request again", status=503, code="engine_unavailable"
    )


def failed_response(status: int, body: bytes) -> VicunaError:
    """Return what an HTTP response other than 200 stands for."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, LookupError, TypeError):
        error = None
    stated = error if isinstance(error, Mapping) else {}
    return failure({"code": status, **stated}, begun=False)


def failure(error: Mapping[str, Any], *, begun: bool) -> VicunaError:
    """Return what an error object stands for.

    Args:
        error: vLLM's object: `message`, `code`, perhaps `param`.
        begun: Whether tokens of the answer have come already.
    """
    message = str(error.get("message") or "no reason was given")[:_MOST_LETTERS]
    param = error.get("param")
    if error.get("code") == 400:
        return RequestError(f"vllm: {message}", param=param if isinstance(param, str) else None, code="invalid_value")
    if begun:
        return EngineError("GenerationFailed", f"the vllm engine failed while it generated: {message}")
    return unavailable(f"did not take the request ({message})")
