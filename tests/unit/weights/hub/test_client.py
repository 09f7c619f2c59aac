"""Requests that fail: what is tried again, what is said, and that a signal ends them all."""

import io
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import huggingface_hub.constants
import pytest
from huggingface_hub.utils import close_session, get_session  # type: ignore[attr-defined]  # exported lazily

from support.hub import Asked, Fault, Hub, Hurry
from vicuna_server.errors import InputError, InterruptedRunError, UnreachableError, VicunaError
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import JsonLines, Silent
from vicuna_server.weights.hub import token as hub_token
from vicuna_server.weights.hub.client import HubClient
from vicuna_server.weights.hub.redirects import require_public_peer, target_of
from vicuna_server.weights.hub.requests import blocks_of

CONTENT = bytes(range(256)) * 1000


def first(fault: Fault, times: int = 1) -> Callable[[Asked], Fault | None]:
    """The first requests fail, whatever they ask for."""
    left = [fault] * times
    return lambda _: left.pop() if left else None


@pytest.fixture
def read(hub: Hub, tmp_path: Path, control: Control) -> Callable[[int, int], bytes]:
    (tmp_path / "model" / "model.bin").write_bytes(CONTENT)
    client = HubClient(control)
    return lambda start, stop: client.read("the file", f"{hub.url}/me/model/resolve/main/model.bin", start, stop)


Read = Callable[[int, int], bytes]


def test_a_range_is_read(hub: Hub, read: Read) -> None:
    assert read(1000, 3000) == CONTENT[1000:3000]
    assert hub.served["model.bin"] == 2000
    assert hub.asked[0].token == "Bearer hf_secret"


@pytest.mark.parametrize(
    "status", [429, 503, *(pytest.param(status, marks=pytest.mark.long) for status in (408, 416, 500, 502, 504))]
)
def test_what_may_pass_is_tried_again(hub: Hub, read: Read, status: int, stop: Hurry) -> None:
    hub.fault = first(Fault(status), 3)
    assert read(0, 100) == CONTENT[:100]
    assert len(hub.asked) == 4
    [one, two, three] = stop.waits[-3:]
    assert 0.25 <= one <= 0.5 <= two <= 1 <= three <= 2


def test_a_cut_answer_is_gone_on_with(hub: Hub, read: Read) -> None:
    hub.fault = lambda _: Fault(cut=70_000)
    assert read(10, 250_000) == CONTENT[10:250_000]
    assert [asked.start for asked in hub.asked] == [10, 70_010, 140_010, 210_010]


@pytest.mark.parametrize("headers", [{"Retry-After": "7"}, {"RateLimit": '"resolvers";r=0;t=7'}])
def test_the_server_says_how_long_to_wait(hub: Hub, read: Read, stop: Hurry, headers: dict[str, str]) -> None:
    hub.fault = first(Fault(429, headers))
    assert read(0, 100) == CONTENT[:100]
    assert stop.waits == [7]


def test_a_long_wait_is_told_but_not_again_and_again(hub: Hub, tmp_path: Path, stop: Hurry) -> None:
    (tmp_path / "model" / "model.bin").write_bytes(CONTENT)
    stream = io.StringIO()
    client = HubClient(Control(JsonLines(stream), stop))
    hub.fault = lambda asked: Fault(429, {"Retry-After": "6"}) if asked.number < 2 else None
    for start in (0, 1000):
        client.read("the file", f"{hub.url}/me/model/resolve/main/model.bin", start, start + 100)
    assert stop.waits == [6, 6, 6, 6]
    [line] = stream.getvalue().splitlines()
    assert json.loads(line) == {
        "event": "warning",
        "reason": "HubUnsteady",
        "message": "the file cannot be fetched at the moment (HTTP 429); this is tried for 10 s",
    }


def test_patience_ends(hub: Hub, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICUNA_HUB_PATIENCE_SECONDS", "5")
    hub.fault = lambda _: Fault(429, {"Retry-After": "6"})
    with pytest.raises(UnreachableError, match=r"the file cannot be fetched \(HTTP 429\); check network") as caught:
        read(0, 100)
    assert caught.value.reason == "SourceUnreachable"
    assert len(hub.asked) == 1


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (401, InputError, "SourceForbidden"),
        (403, InputError, "SourceForbidden"),
        (404, InputError, "SourceNotFound"),
        (410, UnreachableError, "SourceUnreachable"),
    ],
)
def test_a_refusal_is_final(hub: Hub, read: Read, status: int, error: type[VicunaError], reason: str) -> None:
    hub.fault = lambda _: Fault(status)
    with pytest.raises(error) as caught:
        read(0, 100)
    assert caught.value.reason == reason
    assert "the file" in caught.value.message
    assert len(hub.asked) == 1


def test_the_token_stays_with_the_hub(hub: Hub, read: Read) -> None:
    hub.redirects = True
    assert read(5, 50) == CONTENT[5:50]
    assert [(asked.host, asked.token) for asked in hub.asked] == [
        ("127.0.0.1", "Bearer hf_secret"),
        ("localhost", None),
    ]


def test_a_link_that_is_too_old_is_asked_for_again(hub: Hub, read: Read) -> None:
    hub.redirects = True
    hub.fault = lambda asked: Fault(403) if (asked.host, len(hub.asked)) == ("localhost", 2) else None
    assert read(5, 50) == CONTENT[5:50]
    assert [asked.host for asked in hub.asked] == ["127.0.0.1", "localhost"] * 2


def test_a_hub_without_ranges_is_refused_unless_all_is_wanted(hub: Hub, read: Read) -> None:
    hub.fault = lambda _: Fault(200)
    assert read(0, len(CONTENT)) == CONTENT
    for start, end in ((0, 100), (100, len(CONTENT))):
        with pytest.raises(InputError, match="does not answer range requests; use one that does, or fetch") as caught:
            read(start, end)
        assert caught.value.reason == "SourceUnsupported"


def test_another_range_than_asked_for_is_not_taken(hub: Hub, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICUNA_HUB_PATIENCE_SECONDS", "0")
    hub.fault = lambda _: Fault(headers={"Content-Range": "bytes 7-106/256000"})
    with pytest.raises(UnreachableError, match="another range than asked for"):
        read(0, 100)


def test_nobody_answers(read: Read, hub: Hub, control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICUNA_HUB_PATIENCE_SECONDS", "0")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(UnreachableError, match=r"ConnectError.*check network and hub"):
        HubClient(control).read("the file", f"http://127.0.0.1:{port}/x", 0, 10)


def test_an_endpoint_that_is_none_is_not_tried_twice(hub: Hub, control: Control, stop: Hurry) -> None:
    with pytest.raises(UnreachableError, match="check HF_ENDPOINT"):
        HubClient(control).read("the file", "hub.example/x", 0, 10)
    assert not stop.waits


def test_a_certificate_that_is_not_trusted_is_not_tried_twice(
    read: Read, stop: Hurry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate (_ssl.c:1000)")

    monkeypatch.setattr(get_session(), "stream", refuse)
    with pytest.raises(UnreachableError, match=r"name your CA's file in SSL_CERT_FILE .*self-signed"):
        read(0, 100)
    assert not stop.waits


def test_offline_says_so(read: Read, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnreachableError, match="HF_HUB_OFFLINE is set; unset it or name a folder"):
        read(0, 100)
    assert not hub.asked


def test_a_proxy_is_used(hub: Hub, read: Read, control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    close_session()  # the session reads the environment once
    monkeypatch.setenv("HTTP_PROXY", hub.url)
    monkeypatch.delenv("HF_TOKEN")
    url = "http://hub.example/me/model/resolve/main/model.bin"
    assert HubClient(control).read("the file", url, 0, 100) == CONTENT[:100]
    assert hub.asked[0].path == url


def test_a_signal_ends_a_request_that_hangs(hub: Hub, read: Read, stop: Hurry) -> None:
    released = threading.Event()

    def hang(_: Asked) -> Fault:
        stop.set()
        return Fault(cut=10, until=released)

    hub.fault = hang
    try:
        with pytest.raises(InterruptedRunError):
            read(0, 100)
    finally:
        released.set()


def test_a_signal_ends_the_wait_between_two_tries(hub: Hub, read: Read, stop: Hurry) -> None:
    def stopping(_: Asked) -> Fault:
        stop.set()
        return Fault(503)

    hub.fault = stopping
    with pytest.raises(InterruptedRunError):
        read(0, 100)


def test_what_comes_is_held_to_the_rate(hub: Hub, tmp_path: Path, stop: Hurry) -> None:
    (tmp_path / "model" / "model.bin").write_bytes(CONTENT)
    client = HubClient(Control(Silent(), stop, 10_000, clock=lambda: sum(stop.waits)))
    client.read("the file", f"{hub.url}/me/model/resolve/main/model.bin", 0, 50_000)
    assert sum(stop.waits) == pytest.approx(4, abs=1.01)  # a second's worth comes at once


def test_a_token_is_not_sent_over_plain_http(read: Read, hub: Hub, control: Control) -> None:
    words = r"http://hub\.example:80 is a hub without TLS.* name one .*https.*HF_TOKEN"
    with pytest.raises(InputError, match=words) as caught:
        HubClient(control).read("the file", "http://me:word@hub.example:80/x", 0, 10)
    assert caught.value.reason == "TokenNotSafe"
    assert read(0, 10) == CONTENT[:10], "the loopback is not the network"


def test_the_token_does_not_stay_in_the_environment(hub: Hub, read: Read) -> None:
    assert os.environ["HF_TOKEN"]
    for _ in range(2):
        read(0, 10)
    assert "HF_TOKEN" not in os.environ
    assert [asked.token for asked in hub.asked] == ["Bearer hf_secret"] * 2


@pytest.mark.long
def test_a_process_forgets_the_token_that_it_was_given() -> None:
    look = (
        "from vicuna_server.weights.hub.token import take_token, token\n"
        "from pathlib import Path\n"
        "before = Path('/proc/self/environ').read_bytes()\n"
        "take_token()\n"
        "after = Path('/proc/self/environ').read_bytes()\n"
        "print(b'hf_of_the_pod' in before, b'hf_of_the_pod' in after, token())"
    )
    environment = {**os.environ, "HF_TOKEN": "hf_of_the_pod"}
    done = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "hf_of_the_pod"]


def test_a_mounted_token_is_used(hub: Hub, read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("hf_mounted\n")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    read(0, 10)
    assert hub.asked[0].token == "Bearer hf_mounted"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254, an address of a private network"),
        ("http://10.96.0.1/secrets", "10.96.0.1"),
        ("http://[::ffff:127.0.0.1]/", "127.0.0.1"),
        ("http://[fe80::1]/", "fe80::1"),
        ("https://inside.example/", "192.168.7.7"),
        ("file:///etc/passwd", "to file:"),
        ("ftp://hub.example/x", "to ftp:"),
    ],
)
def test_a_hub_of_the_internet_sends_nobody_into_a_private_network(
    monkeypatch: pytest.MonkeyPatch, target: str, words: str
) -> None:
    addresses = {"hub.example": "8.8.8.8", "inside.example": "192.168.7.7"}

    def resolve(host: str, *_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (addresses.get(host, host), 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    answer = httpx.Response(302, headers={"Location": target})
    asked = "https://hub.example/x"
    with pytest.raises(UnreachableError, match="check HF_ENDPOINT") as caught:
        target_of("the file", answer, asked, asked)
    assert words in caught.value.message
    near = httpx.Response(302, headers={"Location": "/y"})
    assert target_of("the file", near, asked, asked) == "https://hub.example/y"
    if target.startswith("http"):
        addresses["hub.example"] = "10.1.1.1"  # a mirror of the same network
        assert target_of("the file", answer, asked, asked) == target


def test_the_address_that_answers_counts_not_the_one_that_was_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        def get_extra_info(self, _: str) -> tuple[str, int]:
            return ("127.0.0.1", 80)

    def resolve(host: str, *_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    answer = httpx.Response(200, extensions={"network_stream": Stream()})
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1"):
        require_public_peer("the file", answer, "https://cdn.example/x", "https://hub.example/x")
    require_public_peer("the file", answer, "https://hub.example/x", "https://hub.example/x")


def test_redirects_end(hub: Hub, read: Read) -> None:
    hub.fault = lambda asked: Fault(302, {"Location": asked.path})
    with pytest.raises(UnreachableError, match="redirected without end"):
        read(0, 10)
    assert len(hub.asked) == 10


class _Clock:
    """Half a second passes with every byte."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 0.25
        return self.now


def test_a_body_that_drips_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICUNA_HUB_PATIENCE_SECONDS", "3")
    monkeypatch.setattr("vicuna_server.weights.hub.requests.time", _Clock())
    dripping = SimpleNamespace(iter_raw=lambda: iter([b" "] * 100_000))
    with pytest.raises(UnreachableError, match="comes too slowly"):
        sum(map(len, blocks_of("the file", dripping)))
    steady = SimpleNamespace(iter_raw=lambda: iter([b" " * 8192] * 1000))
    assert sum(map(len, blocks_of("the file", steady))) == 8192 * 1000


def test_a_head_that_drips_ends(monkeypatch: pytest.MonkeyPatch, control: Control) -> None:
    """A server that sends a header's byte now and then keeps every idle timeout waiting."""
    released, closed = threading.Event(), threading.Event()

    @contextmanager
    def stream(*_: object, **__: object) -> Iterator[None]:
        released.wait(60)
        yield
        closed.set()

    monkeypatch.setenv("VICUNA_HUB_PATIENCE_SECONDS", "0")
    monkeypatch.setattr("vicuna_server.weights.hub.requests._LEAST_SECONDS", 0.01)
    monkeypatch.setattr("vicuna_server.weights.hub.requests._TIMEOUT_SECONDS", 0.01)
    monkeypatch.setattr(get_session(), "stream", stream)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(UnreachableError, match="no answer within"):
        HubClient(control).read("the file", "https://hub.example/x", 0, 10)
    released.set()
    assert closed.wait(10), "what comes too late is closed"


@pytest.mark.parametrize(
    ("told", "sent"), [("hf_secret\n", "hf_secret"), (" hf_secret\r\n", "hf_secret"), ("\n", None)]
)
def test_a_newline_is_not_part_of_a_token(told: str, sent: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_token, "_taken", None)
    monkeypatch.setenv("HF_TOKEN", told)
    assert hub_token.token() == sent
