"""The gateway of the release serves all models, whatever happens to their pods."""

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import pytest

from .cluster import SYSTEM, Namespace, in_toolbox, model, run, scripted, until
from .conftest import TEAM
from .door import GATEWAY, SELECTOR, URL, gateway_key

MODELS = ("door-one", "door-two")
DAY = 100
"""Tokens a day of a key that has a limit."""
SLOW = [
    {"name": "VICUNA_ENGINE", "value": "scripted"},
    {"name": "VICUNA_SCRIPTED_TOKENS", "value": "30"},
    {"name": "VICUNA_SCRIPTED_TOKENS_PER_SECOND", "value": "10"},
]


@dataclass
class Load:
    """What the streaming clients saw; filled when they are done."""

    ok: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)
    revisions: dict[str, int] = field(default_factory=dict)


@contextmanager
def load(
    team: Namespace,
    key: str,
    clients: int,
    seconds: int,
    models: Sequence[str] = MODELS,
    revisions: int = 2,
    pause: float = 0,
) -> Iterator[Load]:
    """Let clients stream from inside the cluster while the block runs, and for as long as they were told.

    `revisions`: so many must have answered before they end. `pause`: seconds between two questions, at most.
    """
    asked, seen = [f"{team.name}/{name}" for name in models], Load()
    with in_toolbox(team, "streams.py", URL, key, seconds, revisions, pause, clients, *asked) as process:
        yield seen
        out, err = process.communicate(timeout=seconds + 120)
    assert process.returncode == 0, err
    for name, value in json.loads(out).items():
        setattr(seen, name, value)


@pytest.fixture(scope="module")
def door(team: Namespace, operator: Namespace) -> Iterator[str]:
    """Two models of two replicas behind the gateway, and a key for them."""
    team.apply(*(model(name, "weights", serving=scripted(replicas=2) | {"env": SLOW}) for name in MODELS))
    with gateway_key(operator, team, "e2e") as key:
        for name in MODELS:
            team.wait_ready(name)
        yield key
    team.kubectl("delete", "vicunamodel", *MODELS, "--timeout=120s", timeout=150)


@pytest.fixture
def outside(door: str, operator: Namespace) -> Iterator[httpx.Client]:
    """A client outside of the cluster, with the key."""
    headers = {"authorization": f"Bearer {door}"}
    with operator.forward(f"service/{GATEWAY}", 80) as url, httpx.Client(base_url=url, headers=headers) as client:
        yield client


def test_a_key_opens_its_models_and_no_key_opens_nothing(outside: httpx.Client, operator: Namespace) -> None:
    until("the new key works", lambda: outside.get("/v1/models").status_code == 200, 10)
    listed = {entry["id"]: entry["status"] for entry in outside.get("/v1/models").json()["data"]}
    assert {f"{TEAM}/{name}" for name in MODELS} <= set(listed)
    assert all(name.startswith(f"{TEAM}/") for name in listed)
    body = {"model": MODELS[0], "messages": [{"role": "user", "content": "a b"}], "max_tokens": 2}
    answer = outside.post("/v1/chat/completions", json=body, timeout=30)
    assert (answer.status_code, answer.json()["usage"]["completion_tokens"]) == (200, 2)
    assert httpx.get(f"{outside.base_url}/v1/models").status_code == 401
    assert httpx.get(f"{outside.base_url}/").headers["content-type"].startswith("text/html")
    operator_account = f"system:serviceaccount:{SYSTEM}:{GATEWAY}"
    for verb, what in (("get", "secrets/other"), ("list", "pods"), ("update", f"secrets/{GATEWAY}-keys")):
        words = ["auth", "can-i", verb, what, f"--as={operator_account}"]
        assert operator.kubectl(*words, check=False).strip() == "no"


def test_a_revoked_key_is_shut_out_within_seconds(outside: httpx.Client) -> None:
    key = run("kubectl", "vicuna", "key", "create", "short-lived", "--models", f"{TEAM}/*").strip()
    headers = {"authorization": f"Bearer {key}"}
    until("it works", lambda: outside.get("/v1/models", headers=headers).status_code == 200, 10)
    run("kubectl", "vicuna", "key", "revoke", "short-lived")
    until("it is shut out", lambda: outside.get("/v1/models", headers=headers).status_code == 401, 10)


def test_what_a_key_used_is_told_and_outlives_the_gateway(outside: httpx.Client, operator: Namespace) -> None:
    key = run("kubectl", "vicuna", "key", "create", "tally", "--models", f"{TEAM}/*", "--tpd", str(DAY)).strip()
    headers = {"authorization": f"Bearer {key}"}
    until("it works", lambda: outside.get("/v1/models", headers=headers).status_code == 200, 10)
    messages = [{"role": "user", "content": "a b"}]
    body = {"model": f"{TEAM}/{MODELS[0]}", "messages": messages, "max_tokens": 5}
    said = outside.post("/v1/chat/completions", json=body, headers=headers, timeout=30).json()["usage"]
    long = body | {"stream": True, "max_tokens": 30}
    with outside.stream("POST", "/v1/chat/completions", json=long, headers=headers, timeout=30) as answer:
        next(line for line in answer.iter_lines() if '"content"' in line)  # and disconnect before the usage is sent

    def counted(requests: int) -> dict[str, Any] | None:
        rows = json.loads(run("kubectl", "vicuna", "usage", "--by", "key", "-o", "json"))
        return next((row for row in rows if row["key"] == "tally" and row["requests"] == requests), None)

    def settled() -> dict[str, Any] | None:
        row = counted(2)
        return row if row and row["completionTokens"] > 5 else None

    used = until("both requests are in the store", settled, 30)
    assert used["promptTokens"] == 2 * said["prompt_tokens"]
    assert 5 < used["completionTokens"] < 5 + 30

    each, answered = said["total_tokens"], 2

    def spent() -> dict[str, Any] | None:
        # The stream may still be under way, since a port-forward tells late that its client has left. What it may still
        # use is reserved meanwhile, so that other requests are told to come back.
        nonlocal answered
        answer = outside.post("/v1/chat/completions", json=body, headers=headers, timeout=30)
        answered += answer.status_code == 200
        assert answered * each < 2 * DAY, "the day's limit is not kept"
        if answer.status_code == 200:
            return None
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        row = counted(answered)
        return row if row and row["promptTokens"] + row["completionTokens"] >= DAY else None

    used = until("the day's tokens are used", spent, 60)
    assert used["promptTokens"] + used["completionTokens"] <= DAY + each
    operator.kubectl("delete", "pod", "--selector", SELECTOR, "--wait=false")
    operator.kubectl("rollout", "status", f"deployment/{GATEWAY}", "--timeout=120s")
    assert counted(answered) == used
    run("kubectl", "vicuna", "key", "revoke", "tally")


def test_a_test_message_reaches_every_replica(team: Namespace, door: str) -> None:
    said = run(
        "kubectl", "vicuna", "test", MODELS[1], "--namespace", team.name, "--max-tokens", "2", "--output", "json"
    )
    rows = json.loads(said)
    assert [row["pod"] for row in rows] == sorted(pod["metadata"]["name"] for pod in team.pods(MODELS[1]))
    assert {row["revision"] for row in rows} == {team.status(MODELS[1])["active"]["revision"]}
    words = ["kubectl", "vicuna", "chat", MODELS[1], "--namespace", team.name, "--max-tokens", "2"]
    assert run(*words, stdin="one two\n").split() == ["one", "two"]


def _started_after(log: str, moment: float) -> list[str]:
    """Return the requests of a pod's timestamped log that came after a moment, in seconds since the epoch."""
    late = []
    for line in log.splitlines():
        stamp, _, text = line.partition(" ")
        said = json.loads(text) if text.startswith("{") else {}
        if said.get("route") == "/v1/chat/completions":
            done = datetime.fromisoformat(f"{stamp[:26].rstrip('Z')}+00:00").timestamp()
            late += [line] if done - said["seconds"] > moment else []
    return late


def _serving_pod(team: Namespace, name: str) -> dict[str, Any]:
    """Return a pod that serves; those of the revision before may be on their way out."""
    revision = team.status(name)["active"]["revision"]
    pods = team.find("pods", f"vicuna.dev/model={name},vicuna.dev/revision={revision}")
    return next(pod for pod in pods if "deletionTimestamp" not in pod["metadata"])


def _is_endpoint(team: Namespace, pod: dict[str, Any]) -> bool:
    """Tell whether a pod is among the ready endpoints of its model, as the API server has them."""
    slices = team.find("endpointslices", f"kubernetes.io/service-name={pod['metadata']['labels']['vicuna.dev/model']}")
    endpoints = [endpoint for each in slices for endpoint in each["endpoints"] or ()]
    ready = [endpoint for endpoint in endpoints if endpoint["conditions"]["ready"]]
    return pod["metadata"]["name"] in [endpoint["targetRef"]["name"] for endpoint in ready]


def _withstand(team: Namespace, operator: Namespace, key: str, clients: int, seconds: int) -> None:
    """Under load: a pod deleted, one killed, a rollout, a gateway replica lost."""
    victim, killed = _serving_pod(team, MODELS[0]), _serving_pod(team, MODELS[1])
    follow = ["kubectl", "--namespace", team.name, "logs", "--follow", "--timestamps", victim["metadata"]["name"]]
    began = time.monotonic()
    with (
        subprocess.Popen(follow, stdout=subprocess.PIPE, text=True) as logs,
        load(team, key, clients, seconds) as seen,
    ):
        time.sleep(4)  # so that the streams have begun
        team.kubectl("delete", "pod", victim["metadata"]["name"], "--wait=false")
        until("the cluster says that it takes no requests", lambda: not _is_endpoint(team, victim), 30)
        removed = time.time()
        team.kubectl("delete", "pod", killed["metadata"]["name"], "--grace-period=0", "--force")
        gateways = operator.find("pods", SELECTOR)
        operator.kubectl("delete", "pod", gateways[0]["metadata"]["name"], "--wait=false")
        team.patch_spec(MODELS[0], serving={"maxConcurrency": clients + 1})
        log = logs.communicate(timeout=120)[0]
        team.wait_ready(MODELS[0], max(60.0, seconds - (time.monotonic() - began)))
    assert seen.ok > clients
    assert len(seen.revisions) >= 2  # equal models have equal revisions; one of them got another
    assert seen.failed == []
    assert _started_after(log, removed + 1) == []


@pytest.mark.full
def test_streams_survive_lost_pods_a_rollout_and_a_lost_gateway(
    team: Namespace, operator: Namespace, door: str
) -> None:
    _withstand(team, operator, door, clients=24, seconds=30)


@pytest.mark.full
def test_two_hundred_streams_survive_it_too(team: Namespace, operator: Namespace, door: str) -> None:
    for name in MODELS:
        team.patch_spec(name, serving={"maxConcurrency": 200})
        team.wait_ready(name)
    _withstand(team, operator, door, clients=200, seconds=60)
