"""The gateway's command, as a process."""

import os
import re
import signal
import subprocess
import sys

import httpx
import pytest

from support.gateway import chat, events
from support.raw import error, exchange, request, status
from support.serving import NO_TLS, running
from vicuna_server.engine.scripted import ScriptedEngine, ScriptedSettings

COMMAND = [sys.executable, "-m", "vicuna_server.cli", "gateway"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "--keys-secret"),
        (["--no-keys", "--keys-secret", "a/b"], "contradict"),
        (["--keys-secret", "b"], "NAMESPACE/NAME"),
        (["--upstream", "x=http://h", "--keys-secret", "a/b"], "--upstream"),
        (["--upstream", "x", "--no-keys"], "MODEL=URL"),
        (["--no-keys", "--port", "-1"], "0 or more"),
        (["--no-keys", "--trusted-proxy", "my-proxy"], "10.0.0.0/8"),
        (["--no-keys", "--port", "8000", "--metrics-port", "8000"], "--port and --metrics-port are both 8000"),
    ],
)
def test_wrong_flags_are_64_and_say_what_to_do(flags: list[str], says: str) -> None:
    done = subprocess.run([*COMMAND, *flags], capture_output=True, text=True, timeout=60)
    assert done.returncode == 64
    assert says in done.stderr


def test_without_a_cluster_it_says_so(tmp_path: object) -> None:
    env = {**os.environ, "KUBECONFIG": f"{tmp_path}/none"}
    flags = ["--no-keys", "--port", "0", "--metrics-port", "0"]
    done = subprocess.run([*COMMAND, *flags], capture_output=True, text=True, timeout=60, env=env)
    assert (done.returncode, "NoCluster" in done.stderr) == (69, True)


async def test_the_port_of_the_metrics_has_bounds_too() -> None:
    flags = ["--no-keys", "--upstream", "tiny=http://127.0.0.1:1", "--port", "0", "--metrics-port", "0"]
    with subprocess.Popen([*COMMAND, *flags, "--host", "127.0.0.1"], stderr=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
        try:
            assert process.stderr is not None
            ports = re.search(r"port (\d+), metrics on (\d+)", process.stderr.readline())
            assert ports is not None
            url = f"http://127.0.0.1:{ports[2]}"
            endless = await exchange(url, b"GET /metrics HTTP/1.1\r\nhost: x\r\na: " + b"b" * 100_000)
            assert (status(endless), error(endless)["code"]) == (431, "head_too_large")
            body = await exchange(url, request(b"x" * 1000, path="/metrics", length=10**9))
            assert (status(body), b"connection: close" in body) == (405, True)
            metrics = await exchange(url, request(None, "connection: close", method="GET", path="/metrics"))
            assert status(metrics) == 200
        finally:
            process.kill()


async def test_on_sigterm_running_streams_end_and_the_exit_code_is_0() -> None:
    engine = ScriptedEngine(ScriptedSettings(tokens=20, tokens_per_second=20))
    async with running(engine) as server:
        flags = ["--no-keys", "--upstream", f"tiny={server.url}", "--port", "0", "--metrics-port", "0"]
        flags += ["--drain-seconds", "1", "--host", "127.0.0.1"]
        process = subprocess.Popen([*COMMAND, *flags], stderr=subprocess.PIPE, text=True)  # noqa: ASYNC220
        assert process.stderr is not None
        try:
            ports = re.search(r"port (\d+), metrics on (\d+)", process.stderr.readline())
            assert ports is not None
            url, metrics = (f"http://127.0.0.1:{port}" for port in ports.groups())
            async with httpx.AsyncClient(timeout=30, verify=NO_TLS) as client:
                assert (await client.get(f"{url}/readyz")).status_code == 200
                assert (await client.post(f"{url}/v1/completions", json={"model": "nobody"})).status_code == 404
                refused = 'vicuna_gateway_refused_total{key="",status="404"} 1.0'
                assert refused in (await client.get(f"{metrics}/metrics")).text
                body = chat(stream=True)
                async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
                    lines = response.aiter_lines()
                    await anext(lines)
                    assert "vicuna_gateway_requests_in_flight" in (await client.get(f"{metrics}/metrics")).text
                    process.send_signal(signal.SIGTERM)
                    while (late := await client.get(f"{url}/readyz")).status_code == 200:
                        pass
                    assert late.headers["connection"] == "close"
                    rest = [line async for line in lines]
            assert events("\n".join(rest))[-1] == "[DONE]"
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
            process.stderr.close()
            process.wait()
