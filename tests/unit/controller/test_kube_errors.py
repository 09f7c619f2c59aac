import json

import pytest

from vicuna_operator import errors
from vicuna_operator.kube.errors import error_from_answer


def status(reason: str = "", fields: tuple[str, ...] = (), message: str = "the API's words") -> bytes:
    causes = [{"field": field} for field in fields]
    return json.dumps({"kind": "Status", "message": message, "reason": reason, "details": {"causes": causes}}).encode()


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (404, status("NotFound"), errors.NotFoundError),
        (409, status("AlreadyExists"), errors.AlreadyExistsError),
        (409, status("Conflict"), errors.ConflictError),
        (422, status("Invalid", ("spec.x",)), errors.InvalidError),
        (422, status("Invalid", ("metadata.uid",)), errors.ConflictError),
        (400, status("BadRequest"), errors.InvalidError),
        (401, status("Unauthorized"), errors.ForbiddenError),
        (403, status("Forbidden"), errors.ForbiddenError),
        (429, status("TooManyRequests"), errors.UnavailableError),
        (500, status("InternalError"), errors.UnavailableError),
        (503, b"<html>proxy</html>", errors.UnavailableError),
        (418, b"[]", errors.InvalidError),
    ],
)
def test_each_status_has_its_error(code: int, body: bytes, kind: type[Exception]) -> None:
    error = error_from_answer(code, body, {})
    assert type(error) is kind
    assert error.status == code
    assert str(error)


def test_the_message_is_the_apis_own_and_retry_after_is_kept() -> None:
    error = error_from_answer(429, status("TooManyRequests"), {"Retry-After": "7"})
    assert str(error) == "the API's words"
    assert error.retry_after == 7.0
    assert error_from_answer(429, status(), {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}).retry_after is None


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"message": {}, "reason": [], "details": []}',
        b'{"details": {"causes": [null, {"field": 1}, 5]}}',
        b'{"details": {"causes": {"field": "metadata.uid"}}, "message": null}',
        b"null",
        b"\xff\x1b[31m",
    ],
)
def test_an_answer_of_any_form_is_an_error_that_can_be_shown(body: bytes) -> None:
    error = error_from_answer(422, body, {})
    assert type(error) is errors.InvalidError
    assert "\x1b" not in str(error)
