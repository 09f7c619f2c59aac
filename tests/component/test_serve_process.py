"""`vicuna-server serve` and `chat` as processes: start, drain, failure, and a chat from the command line."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from support.served_process import START_SECONDS, served, wait_ready
from support.serving import NO_TLS, write_tiny_model


def chat(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vicuna_server", "chat", *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def test_sigterm_drains(tmp_path: Path) -> None:
    # 40 tokens at 5 a second: the stream outlives the five seconds in which new requests are still served.
    speed = {"VICUNA_SCRIPTED_TOKENS": "40", "VICUNA_SCRIPTED_TOKENS_PER_SECOND": "5"}
    with (
        served(tmp_path, VICUNA_ENGINE="scripted", **speed) as server,
        httpx.Client(timeout=60, verify=NO_TLS) as client,
    ):
        wait_ready(server)
        body = {"model": "m", "messages": [{"role": "user", "content": "a"}], "stream": True}
        with client.stream("POST", f"{server.url}/v1/chat/completions", json=body) as stream:
            lines = stream.iter_lines()
            next(lines)
            idle, unused = (http.client.HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in range(2))
            for connection in (idle, unused):
                connection.request("GET", "/livez")
                connection.getresponse().read()
            server.process.send_signal(signal.SIGTERM)
            while httpx.get(f"{server.url}/readyz").status_code != 503:
                time.sleep(0.02)
            # A request on an idle connection may have been on its way: it is served, with `Connection: close`.
            idle.request("GET", "/livez")
            assert idle.getresponse().headers["connection"] == "close"
            late = httpx.post(f"{server.url}/v1/completions", json={"model": "m", "prompt": "late", "max_tokens": 1})
            assert late.status_code == 200
            assert late.headers["connection"] == "close"
            rest = list(lines)
            # The stream is complete, and by now the listener is closed.
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", server.port))
            # On its own connection, which could not be told so before, the stream's client may ask once more.
            again = client.post(f"{server.url}/v1/completions", json={"model": "m", "prompt": "again", "max_tokens": 1})
            assert again.status_code == 200
            assert again.headers["connection"] == "close"
            assert unused.sock is not None
            assert "[DONE]" in rest[-2]
            assert sum('"content":"a "' in line for line in rest) == 40
            assert unused.sock.recv(1) == b""  # and a connection that stayed idle is closed
            idle.close()
            unused.close()
        assert server.process.wait(timeout=60) == 0


def test_sigterm_while_loading_ends_at_once(tmp_path: Path) -> None:
    with served(tmp_path, VICUNA_ENGINE="scripted", VICUNA_SCRIPTED_LOAD_SECONDS="3600") as server:
        assert httpx.get(f"{server.url}/livez").status_code == 200
        assert httpx.get(f"{server.url}/readyz").status_code == 503
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 0


def test_a_load_failure_ends_the_process_with_its_reason(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"\x00" * 64)
    log = tmp_path / "termination-log"
    with served(folder, VICUNA_TERMINATION_LOG=str(log)) as server:
        assert server.process.wait(timeout=START_SECONDS) == 65
        assert server.process.stderr is not None
        said = server.process.stderr.read()
    assert "vicuna-server serve: ModelBroken: " in said
    assert "Traceback" not in said
    told = json.loads(log.read_text())
    assert told["reason"] == "ModelBroken"
    assert f" INFO listening on {server.url}" in told["log"], "the lines printed before it are kept"


def test_a_model_answers_and_a_chat_asks_it(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    with served(folder, "--dtype", "float32", "--context-length", "64") as server:
        done = chat("--url", server.url, "--wait", "60", "--temperature", "0", "--prompt", "Hi")
        assert done.returncode == 0
        assert done.stderr.startswith("[cut off: the context is full")  # random weights find no end
        assert done.stdout.endswith("\n")
        again = chat("--url", f"{server.url}/v1", "--model", "m", "--temperature", "0", "--prompt", "Hi")
        assert again.stdout == done.stdout
        refused = chat("--url", server.url, "--model", "other", "--prompt", "Hi")
        assert refused.returncode == 65
        assert "RequestRefused" in refused.stderr
        assert "'other'" in refused.stderr


def test_the_log_has_a_json_line_per_request_unless_switched_off(tmp_path: Path) -> None:
    logs = {}
    for words in (("--access-log", "off"), ()):
        with served(tmp_path, *words, VICUNA_ENGINE="scripted") as server:
            wait_ready(server)
            httpx.get(f"{server.url}/v1/models")
            server.process.send_signal(signal.SIGTERM)
            logs[words] = server.process.communicate(timeout=30)[1]
    assert "/v1/models" not in logs["--access-log", "off"]
    (line,) = (line for line in logs[()].splitlines() if "/v1/models" in line)
    assert json.loads(line)["status"] == 200


def test_piped_questions_are_a_conversation(tmp_path: Path) -> None:
    with served(tmp_path, VICUNA_ENGINE="scripted", VICUNA_SCRIPTED_TOKENS="2") as server:
        done = chat("--url", server.url, "--wait", "60", stdin="one\n\n!!set model m\ntwo\n!!set model default\n")
        refused = chat("--url", server.url, stdin="!!set model other\nthree\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "one one \ntwo two \n"
    assert (refused.returncode, refused.stdout) == (65, "")
    assert "has no model 'other'; choose one of m" in refused.stderr


def test_a_chat_that_is_too_long_continues_with_a_warning(tmp_path: Path) -> None:
    questions = "one two\nthree four\nfive six\n"  # of two tokens each, and answers of nine with the end
    with served(tmp_path, "--context-length", "24", VICUNA_ENGINE="scripted", VICUNA_SCRIPTED_TOKENS="8") as server:
        trimmed = chat("--url", server.url, "--wait", "60", "--max-new-tokens", "9", stdin=questions)
        cut_off = chat("--url", server.url, stdin=questions)
    assert (trimmed.returncode, trimmed.stdout.count("\n")) == (0, 3)
    assert trimmed.stderr == "[too long for the context: the oldest 2 messages were left out]\n"
    assert cut_off.stdout.endswith("five six \n")
    assert "[cut off: the context is full" in cut_off.stderr


def test_ctrl_c_stops_the_answer(tmp_path: Path) -> None:
    speed = {"VICUNA_SCRIPTED_TOKENS": "3000", "VICUNA_SCRIPTED_TOKENS_PER_SECOND": "50"}
    with served(tmp_path, VICUNA_ENGINE="scripted", **speed) as server:
        wait_ready(server)
        command = [sys.executable, "-m", "vicuna_server", "chat", "--url", server.url, "--prompt", "word"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asking:
            assert asking.stdout is not None
            asking.stdout.read(5)
            asking.send_signal(signal.SIGINT)
            assert asking.wait(timeout=60) == 130
            assert asking.stderr is not None
            assert b"Traceback" not in asking.stderr.read()
        deadline = time.monotonic() + 60
        while "vicuna_generations_cancelled_total 1.0" not in httpx.get(f"{server.url}/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("--url", "http://127.0.0.1:9"), 69, "ServerUnreachable"),
        (("--url", "http://127.0.0.1:9", "--wait", "0.1"), 69, "ServerNotReady"),
        (("--url", "not an address"), 64, "UsageError"),
        (("--temperature", "hot"), 64, "temperature"),
    ],
)
def test_chat_says_what_is_wrong_in_one_line(words: tuple[str, ...], code: int, reason: str) -> None:
    done = chat(*words, "--prompt", "Hi")
    assert done.returncode == code
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()[-1]) < 250
