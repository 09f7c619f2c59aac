"""From an HTTP answer of the API server to an error of ours, in the API's own words."""

import json
from collections.abc import Mapping

from vicuna_contract.printable import printable
from vicuna_operator.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    KubeError,
    NotFoundError,
    UnavailableError,
)
from vicuna_operator.planning.lenient import table, tables, text

__all__ = ["error_from_answer"]

_BY_STATUS: Mapping[int, type[KubeError]] = {
    400: InvalidError,
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    405: InvalidError,
    409: ConflictError,
    410: NotFoundError,
    413: InvalidError,
    415: InvalidError,
    422: InvalidError,
}


def error_from_answer(status: int, body: bytes, headers: Mapping[str, str]) -> KubeError:
    """Choose the error for an answer outside 2xx; its message is the `message` of the Status object.

    Sources: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
    """
    message, reason, causes = _read_status(body)
    kind = _BY_STATUS.get(status, UnavailableError if status >= 500 or status == 429 else InvalidError)
    if reason == "AlreadyExists":
        kind = AlreadyExistsError
    elif kind is InvalidError and "metadata.uid" in causes:
        # A patch has the uid as precondition; an object of another uid answers that its uid cannot change.
        kind = ConflictError
    return kind(message or f"the API server answered {status}", status, _retry_after(headers))


def _read_status(body: bytes) -> tuple[str, str, set[str]]:
    try:
        parsed = json.loads(body)
    except (RecursionError, ValueError):
        return printable(body.decode(errors="replace")).strip()[:1000], "", set()
    causes = {text(cause.get("field")) for cause in tables(table(parsed, "details").get("causes"))}
    return text(table(parsed).get("message")), text(table(parsed).get("reason")), causes


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        return max(0.0, float(headers.get("Retry-After", "")))
    except ValueError:
        return None
