"""Which headers of clients and servers are passed on, and that no others are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from vicuna_server.gateway.request_head import request_headers
from vicuna_server.gateway.response_head import BadResponseError, read_head

JSON = {"content-type": "application/json"}
TRACE = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
SECRETS = [
    *["authorization", "Authorization", "proxy-authorization", "api-key", "Api-Key", "x-api-key", "apikey", "token"],
    *["cookie", "cookie2", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "x-amz-security-token"],
    *["x-goog-api-key", "openai-organization", "x-vicuna-salt", "x-vicuna-signature", "host", "connection", "te"],
    *["upgrade", "expect", "content-length", "transfer-encoding", "accept-encoding", "x-http-method-override"],
]


@pytest.mark.parametrize("name", SECRETS)
def test_no_key_and_nothing_of_the_connection_goes_to_a_server(name: str) -> None:
    sent = request_headers([(name.encode(), b"SECRET"), (b"connection", name.encode()), TRACE], "one")
    assert not any("SECRET" in value for _, value in sent)
    assert ("traceparent", TRACE[1].decode()) in sent


def test_what_a_server_gets() -> None:
    given_ = [(b"Content-Type", b"application/json; charset=utf-8"), (b"ACCEPT", b"text/event-stream"), TRACE]
    assert dict(request_headers([*given_, (b"tracestate", b"a=1"), (b"x-request-id", b"other")], "one")) == {
        "content-type": "application/json; charset=utf-8",
        "accept": "text/event-stream",
        "traceparent": TRACE[1].decode(),
        "tracestate": "a=1",
        "accept-encoding": "identity",
        "x-request-id": "one",
    }
    assert ("content-type", "application/json") in request_headers([], "one")
    assert request_headers([(b"x-own", b"a client's")], "one", [("x-own", "ours")])[-1] == ("x-own", "ours")


@given(st.lists(st.tuples(st.sampled_from([b"accept", b"tracestate", b"Content-Type", b"x"]), st.binary(max_size=700))))
def test_a_head_to_a_server_is_small_whatever_comes(raw: list[tuple[bytes, bytes]]) -> None:
    sent = request_headers(raw * 50, "one")
    assert len({name for name, _ in sent}) == len(sent) <= 6
    assert sum(len(name) + len(value) for name, value in sent) < 2048
    assert all(value.isascii() and value.isprintable() for _, value in sent)


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 101, 102, 103, 199, 300, 301, 302, 304, 307, 399, 600, 999])
def test_a_status_that_is_no_answer_is_refused(status: int) -> None:
    with pytest.raises(BadResponseError, match=str(status)):
        read_head(status, {**JSON, "location": "http://evil"})


@pytest.mark.parametrize(
    ("given_", "passed"),
    [
        ("application/json", "application/json"),
        ("Application/JSON ; charset=UTF-8", "application/json; charset=utf-8"),
        ('text/plain;charset="utf8"', "text/plain; charset=utf-8"),
        ("text/plain; charset=utf-7", "text/plain"),
        ("text/plain; a=1; charset=utf-8", "text/plain"),
        ("text/event-stream", "text/event-stream"),
        *[(odd, None) for odd in ("", "text/html", "application/octet-stream", "image/svg+xml", "text/xml", "json")],
        *[(odd, None) for odd in ("application/json, text/html", "multipart/mixed", "text/javascript", "application/")],
        ("text/html\x1b[31m" + "x" * 5000, None),
    ],
)
def test_three_content_types_pass(given_: str, passed: str | None) -> None:
    headers = {"content-type": given_} if given_ else {}
    if passed is None:
        with pytest.raises(BadResponseError) as caught:
            read_head(200, headers)
        assert len(str(caught.value)) < 300
        assert str(caught.value).isprintable()
    else:
        assert dict(read_head(200, headers).headers)[b"content-type"] == passed.encode()


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "identity, gzip", "x"])
def test_a_compressed_answer_is_refused(encoding: str) -> None:
    with pytest.raises(BadResponseError, match="compressed"):
        read_head(200, {**JSON, "content-encoding": encoding})
    assert read_head(200, {**JSON, "content-encoding": "Identity"}).status == 200


def test_a_stream_is_an_answer_of_200_and_is_not_to_be_buffered() -> None:
    head = read_head(200, {"content-type": "text/event-stream"})
    assert head.is_stream
    assert (b"x-accel-buffering", b"no") in head.headers
    with pytest.raises(BadResponseError, match="400"):
        read_head(400, {"content-type": "text/event-stream"})


@pytest.mark.parametrize(
    ("name", "value", "passes"),
    [
        ("retry-after", "7", True),
        ("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT", True),
        ("retry-after", "99999999", False),
        ("retry-after", "7\r\nset-cookie: a=1", False),
        ("cache-control", "no-store, max-age=0", True),
        ("cache-control", "x" * 200, False),
        ("cache-control", 'private="set-cookie"', False),
        ("x-vicuna-revision", "0a1b2c3d", True),
        ("x-vicuna-revision", "r" * 17, False),
        ("x-vicuna-revision", "R1", False),
        ("x-vicuna-revision", "a\x00", False),
        ("x-vicuna-revision", "٣", False),
        ("x-vicuna-trimmed-messages", "12", True),
        ("x-vicuna-trimmed-messages", "-1", False),
        ("x-vicuna-other", "1", False),
        *[(name, "1", False) for name in ("set-cookie", "clear-site-data", "strict-transport-security", "location")],
        *[(name, "1", False) for name in ("access-control-allow-origin", "refresh", "www-authenticate", "alt-svc")],
        *[(name, "1", False) for name in ("x-accel-redirect", "x-accel-expires", "content-security-policy", "link")],
        *[(name, "1", False) for name in ("x-sendfile", "server", "date", "via", "trailer", "connection", "upgrade")],
        *[(name, "1", False) for name in ("content-disposition", "content-location", "etag", "x-content-type-options")],
    ],
)
def test_headers_pass_by_name_and_by_look(name: str, value: str, passes: bool) -> None:
    passed = dict(read_head(200, {**JSON, name: value}).headers)
    assert (passed.get(name.encode()) == value.encode()) == passes
    assert len(passed) == 1 + passes


def test_the_revision_is_only_what_could_be_one() -> None:
    assert read_head(200, {**JSON, "x-vicuna-revision": "abc123"}).revision == "abc123"
    assert read_head(200, {**JSON, "x-vicuna-revision": "abc 123"}).revision == ""


@pytest.mark.parametrize("said", [{}, {"x-vicuna-revision": "feedbeef"}, {"X-Vicuna-Revision": "a b"}])
def test_a_pods_revision_counts_whatever_its_server_says(said: dict[str, str]) -> None:
    head = read_head(200, CIMultiDict({**JSON, **said, "Retry-After": "7"}), "0123abcd")
    assert (b"retry-after", b"7") in head.headers
    assert head.revision == "0123abcd"
    assert dict(head.headers)[b"x-vicuna-revision"] == b"0123abcd"


@pytest.mark.long
@given(
    st.integers(-5, 1005),
    st.dictionaries(
        st.sampled_from(
            ["content-type", "content-length", "retry-after", "x-vicuna-revision", "content-encoding", "x"]
        ),
        st.one_of(
            st.text(max_size=50), st.sampled_from(["application/json", "text/event-stream", "5", "9" * 40, "gzip"])
        ),
    ),
)
def test_whatever_a_head_says_it_is_read_or_refused(status: int, headers: dict[str, str]) -> None:
    try:
        head = read_head(status, headers)
    except BadResponseError as error:
        head, said = None, str(error)
    if head is None:
        assert said.isprintable()
        return
    assert 200 <= head.status <= 599
    assert head.length is None or 0 <= head.length < 10**18
    for name, value in head.headers:
        assert (name + value).decode().isprintable()
        assert len(value) <= 128
