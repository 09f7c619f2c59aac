"""A stream that begins with an error."""

import pytest

from vicuna_server.gateway.first_event import error_in


@pytest.mark.parametrize(
    ("frames", "status"),
    [
        (b'data: {"error":{"code":503}}\n\n', 503),
        (b'data:{"error":{"code":400}}\r\n\r\n', 400),
        (b': comment\nevent: error\ndata: {"error":{"code":429}}\n\n', 429),
        (b'data: {"error":{"code":"model_overloaded"}}\n\n', 500),
        (b'data: {"error":{"code":true}}\n\n', 500),
        (b'data: {"error":{"code":200}}\n\n', 500),
        (b'data: {"error":{}}\n\n', 500),
    ],
)
def test_the_status_is_the_code_where_that_is_one(frames: bytes, status: int) -> None:
    found = error_in(frames)
    assert found is not None
    assert found[0] == status
    assert found[1].startswith(b'{"error"')


@pytest.mark.parametrize(
    "frames",
    [
        b"",
        b': "error"\n\n',
        b'data: {"choices":[{"delta":{"content":"\\"error\\""}}]}\n\n',
        b'data: {"error":null,"choices":[]}\n\n',
        b'data: {"error":"text"}\n\n',
        b'data: ["error"]\n\n',
        b'data: {"error"\n\n',
        b"data: " + b"[" * 100_000 + b'"error"\n\n',
        b'data: {"choices":[]}\n\ndata: {"error":{"code":503}}\n\n',
    ],
    ids=lambda frames: frames[:40].decode(),
)
def test_anything_else_is_passed_on(frames: bytes) -> None:
    assert error_in(frames) is None
