"""A server that demands a gateway's signature, asked from its own machine and from another address."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import openai
import pytest

from support.served_process import process, wait_ready
from support.serving import NO_TLS
from support.signing import PATH, Pair
from vicuna_contract.signing import joined

get, post = partial(httpx.get, verify=NO_TLS), partial(httpx.post, verify=NO_TLS)
PAIR, NEXT = Pair(), Pair()
ASKED = {"model": "m", "messages": [{"role": "user", "content": "a b"}], "max_tokens": 2}
# `--upstream` models have neither namespace nor uid.
ENV = {"VICUNA_GATEWAY_KEYS": joined([NEXT.public, PAIR.public]), "VICUNA_AUDIENCE": "/m/"}


@pytest.fixture(scope="module")
def far() -> str:
    """An address of this machine that is not its loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but its loopback's")
        return str(probe.getsockname()[0])


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server on all addresses, with the environment in which uvicorn would trust proxy headers."""
    words = ["serve", "--model", str(tmp_path_factory.mktemp("model")), "--served-name", "m", "--host", "0.0.0.0"]
    env = {"VICUNA_ENGINE": "scripted", "FORWARDED_ALLOW_IPS": "*", **ENV}
    with process(*words, **env) as server:
        wait_ready(server)
        yield server.port


ROUTES = [
    "GET /",
    "GET /v1/models",
    "GET /v1/models/m",
    "GET /openapi.json",
    "GET /docs",
    "HEAD /",
    "OPTIONS /v1/models",
]
ROUTES += [f"POST {path}" for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize")]
ROUTES += [
    "POST /detokenize",
    "GET /nothing",
    "GET //livez",
    "GET /livez/",
    "GET /LIVEZ",
    "GET /metrics/",
    "BREW /livez%00",
]


@pytest.mark.parametrize("route", ROUTES)
def test_a_stranger_gets_nothing_but_health_and_metrics(port: int, far: str, route: str) -> None:
    method, path = route.split()
    answer = httpx.request(method, f"http://{far}:{port}{path}", timeout=60, verify=NO_TLS)
    assert answer.status_code == 401
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-request-id"]
    if method != "HEAD":
        error = answer.json()["error"]
        assert error["code"] == "gateway_signature_missing"
        assert "gateway" in error["message"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_probes_and_prometheus_need_no_signature(port: int, far: str, path: str) -> None:
    assert get(f"http://{far}:{port}{path}").status_code == 200


FAKES = [
    {"x-forwarded-for": "127.0.0.1"},
    {"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "https"},
    {"x-forwarded-for": "::1, 127.0.0.1"},
    {"forwarded": "for=127.0.0.1"},
    {"x-real-ip": "127.0.0.1"},
    {"host": "127.0.0.1"},
    {"x-vicuna-signature": "x"},
    {"x-vicuna-signature": PAIR.token(aud="team/other/uid")},
    {"x-vicuna-signature": PAIR.token(aud="/m/", ago=3600)},
]


@pytest.mark.parametrize("headers", FAKES)
def test_no_header_makes_a_stranger_local(port: int, far: str, headers: dict[str, str]) -> None:
    answer = post(f"http://{far}:{port}{PATH}", json=ASKED, headers=headers)
    assert answer.status_code == 401


def test_the_gateways_signature_lets_in_and_for_its_request_alone(port: int, far: str) -> None:
    url = f"http://{far}:{port}"
    good = {"x-vicuna-signature": PAIR.token(aud="/m/")}
    assert post(url + PATH, json=ASKED, headers=good, timeout=60).status_code == 200
    assert post(f"{url}/v1/completions", json=ASKED, headers=good).status_code == 401
    assert get(url + PATH, headers=good).status_code == 401
    later = {"x-vicuna-signature": NEXT.token(aud="/m/")}
    assert post(url + PATH, json=ASKED, headers=later, timeout=60).status_code == 200, "the next key is known too"


def test_connections_from_inside_the_pod_need_none(port: int) -> None:
    for host in ("127.0.0.1", "127.0.0.9"):
        assert post(f"http://{host}:{port}{PATH}", json=ASKED, timeout=60).status_code == 200
        assert get(f"http://{host}:{port}/v1/models").status_code == 200


def test_headers_do_not_change_that_a_connection_is_local(port: int) -> None:
    assert get(f"http://127.0.0.1:{port}/v1/models", headers={"x-forwarded-for": "10.0.0.7"}).status_code == 200


def test_to_ask_its_own_outer_address_is_not_local(port: int, far: str) -> None:
    """What a mesh's proxy does: it comes from the pod and goes to the pod's address."""
    with socket.create_connection((far, port), source_address=(far, 0)) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: m\r\n\r\n")
        assert connection.makefile("rb").readline().split()[1] == b"401"


def test_the_body_of_a_stranger_is_not_waited_for(port: int, far: str) -> None:
    with socket.create_connection((far, port), timeout=60) as connection:
        connection.sendall(b"POST /tokenize HTTP/1.1\r\nHost: m\r\nContent-Length: 4000000\r\n\r\n")
        answer = connection.makefile("rb").read()  # until it is closed
    assert answer.startswith(b"HTTP/1.1 401 ")


def test_the_official_client_says_what_to_do(port: int, far: str) -> None:
    client = openai.OpenAI(base_url=f"http://{far}:{port}/v1", api_key="none", max_retries=0)
    with client, pytest.raises(openai.AuthenticationError, match="through the gateway"):
        client.models.list()


def test_through_a_gateway_with_the_key_and_not_through_one_without(port: int, far: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(PAIR.pem)
    flags = [
        "gateway",
        "--no-keys",
        "--upstream",
        f"m=http://{far}:{port}",
        "--metrics-port",
        "0",
        "--host",
        "127.0.0.1",
    ]
    with ExitStack() as stack:
        signing = stack.enter_context(process(*flags, "--signing-key", str(tmp_path / "key")))
        bare = stack.enter_context(process(*flags))
        for body in (ASKED, {**ASKED, "stream": True}):
            through = post(f"{signing.url}{PATH}", json=body, timeout=60, headers={"x-vicuna-signature": "x"})
            assert through.status_code == 200
            refused = post(f"{bare.url}{PATH}", json=body, timeout=60)
            assert (refused.status_code, refused.json()["error"]["code"]) == (502, "upstream_refused")
        bare.process.send_signal(signal.SIGKILL)
        assert bare.process.stderr is not None
        assert "refused the gateway itself" in bare.process.stderr.read()


WRONG = [
    ({"VICUNA_GATEWAY_KEYS": joined([PAIR.public])}, "--audience"),
    ({"VICUNA_GATEWAY_KEYS": "x", "VICUNA_AUDIENCE": "/m/"}, "Ed25519 public key"),
    ({"VICUNA_GATEWAY_KEYS": ",", "VICUNA_AUDIENCE": "/m/"}, "1 to 8"),
]


@pytest.mark.parametrize(("env", "says"), WRONG)
def test_half_a_setting_ends_the_server_instead_of_opening_it(tmp_path: Path, env: dict[str, str], says: str) -> None:
    command = [sys.executable, "-m", "vicuna_server", "serve", "--model", str(tmp_path), "--port", "0"]
    env = {**os.environ, "VICUNA_ENGINE": "scripted", **env}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert (done.returncode, says in done.stderr) == (64, True), done.stderr
