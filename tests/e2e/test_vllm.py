"""Pods of two containers: our front, and a stand-in for vLLM that drains, hangs and dies as vLLM was seen to.

With `VLLM_IMAGE`, an image of vLLM for CPUs (`make e2e-vllm-image`), the same tests run on it too.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from .cluster import Namespace, model, scripted, until
from .conftest import TEAM
from .door import GATEWAY, gateway_key
from .test_rollouts import vicuna
from .test_soak import clients

NAME = "engine"
VLLM_DRAINS = 10
"""Seconds that vLLM, told to end, lets running streams go on: `--shutdown-timeout` as the operator states it."""
VLLM_IMAGE = os.environ.get("VLLM_IMAGE", "")
STAND_IN, VLLM = "stand-in", "vllm"
TOKENS_PER_SECOND = 15
SMALL = {"requests": {"cpu": "10m", "memory": "32Mi"}}


@dataclass(frozen=True)
class Engine:
    """What a pod's second container runs.

    Attributes:
        kind: STAND_IN or VLLM.
        serving: fields of `spec.serving`.
        slow: variables with which it takes a minute to load; the real one does in any case.
        seconds: in which a pod of it is ready.
        restart: seconds in which it is ready again.
        long: tokens of an answer that takes half a minute.
        crash: what it says when the process that computes has been killed.
    """

    kind: str
    serving: dict[str, Any]
    slow: list[dict[str, str]]
    seconds: float
    restart: float
    long: int
    crash: str


def variables(**values: object) -> list[dict[str, str]]:
    """Return `serving.env`."""
    return [{"name": name, "value": str(value)} for name, value in values.items()]


_PACE = {"FAKE_VLLM_TOKENS": 30, "FAKE_VLLM_TOKENS_PER_SECOND": TOKENS_PER_SECOND}
_FAKE = variables(**_PACE, FAKE_VLLM_LOAD_SECONDS=3)
_REAL = variables(VLLM_CPU_OMP_THREADS_BIND="0-1", VLLM_CPU_KVCACHE_SPACE=1)
ENGINES = {
    STAND_IN: Engine(
        STAND_IN,
        {"env": _FAKE, "resources": SMALL},
        variables(**_PACE, FAKE_VLLM_LOAD_SECONDS=60),
        seconds=90,
        restart=60,
        long=30 * TOKENS_PER_SECOND,
        crash="EngineCore died unexpectedly",
    ),
    VLLM: Engine(
        VLLM,
        {"env": _REAL, "engineImage": VLLM_IMAGE, "dtype": "float32", "engineArgs": ["--enforce-eager"]},
        _REAL,
        seconds=300,
        restart=300,
        long=1200,
        crash="EngineDeadError",
    ),
}
# Longer than the 60 s after which an engine counts as hung: else a stream's own limit ends it first.
BUILTIN: dict[str, Any] = scripted(device="cpu", numGpus=1, maxStreamSeconds=180)
BUILTIN["env"] += variables(VICUNA_SCRIPTED_TOKENS=30, VICUNA_SCRIPTED_TOKENS_PER_SECOND=TOKENS_PER_SECOND)
# To the process that makes the tokens: it is a child of the container's first, which is deaf to SIGKILL from inside.
SIGNAL = """
import os, pathlib, sys
(core,) = (p.parent for p in pathlib.Path("/proc").glob("[0-9]*/cmdline") if b"VLLM::EngineCore" in p.read_bytes())
os.kill(int(core.name), int(sys.argv[1]))
"""
KILL, STOP = 9, 19


@dataclass
class Move:
    """A model that moved from the built-in engine to vLLM while clients streamed from it."""

    engine: Engine
    jobs: int
    before: dict[str, Any]
    after: dict[str, Any]
    load: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module", params=[STAND_IN, pytest.param(VLLM, marks=pytest.mark.full)])
def moved(team: Namespace, request: pytest.FixtureRequest) -> Iterator[Move]:
    engine = ENGINES[request.param]
    if engine.kind == VLLM and not VLLM_IMAGE:
        pytest.skip("VLLM_IMAGE does not name an image of vLLM for CPUs; `make e2e-vllm-image` makes one")
    team.apply(model(NAME, "weights", serving=BUILTIN))
    team.wait_ready(NAME)
    before, load = team.status(NAME)["active"], dict[str, Any]()
    with clients(team, NAME, load, 4):
        rolled(team, engine, engine="vllm", device=None, **engine.serving)
    jobs = len(team.find("jobs", f"vicuna.dev/model={NAME}"))
    yield Move(engine, jobs, before, team.status(NAME)["active"], load)
    team.kubectl("delete", "vicunamodel", NAME, "--ignore-not-found", "--timeout=120s", timeout=150)


def rolled(team: Namespace, to: Engine, **serving: Any) -> None:
    """Edit the model, and wait until nothing but the new revision runs."""
    old = team.status(NAME)["active"]["revision"]
    team.patch_spec(NAME, serving=serving)
    until("the new revision serves", lambda: team.status(NAME)["active"]["revision"] != old, to.seconds)
    until("the old pod has ended", lambda: ended(team.find("pods", f"vicuna.dev/revision={old}")), to.seconds)
    team.wait_ready(NAME)


def ended(pods: list[dict[str, Any]]) -> bool:
    """Tell whether no container runs; how long a pod's object stays after that is the kubelet's."""
    return not any("running" in item["state"] for pod in pods for item in pod["status"]["containerStatuses"])


def the_pod(team: Namespace) -> dict[str, Any]:
    (pod,) = [pod for pod in team.pods(NAME) if "deletionTimestamp" not in pod["metadata"]]
    return pod


def state(pod: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a pod's engine; empty before there is one."""
    found = [item["state"] for item in pod["status"].get("containerStatuses", []) if item["name"] == "engine"]
    return next(iter(found), {})


def restarts(pod: dict[str, Any]) -> dict[str, int]:
    return {item["name"]: item["restartCount"] for item in pod["status"]["containerStatuses"]}


def signal_core(team: Namespace, pod: dict[str, Any], number: int) -> None:
    words = ["exec", "--stdin", pod["metadata"]["name"], "--container=engine", "--", "python3", "-", str(number)]
    team.kubectl(*words, stdin=SIGNAL)


def ready(url: str) -> int:
    return httpx.get(f"{url}/readyz", timeout=10).status_code


def chat(**options: Any) -> dict[str, Any]:
    return {"model": NAME, "messages": [{"role": "user", "content": "Tell me a story."}], **options}


def test_a_running_model_moves_to_vllm_without_a_merge_and_without_a_cut_stream(moved: Move) -> None:
    old, new = moved.before["revision"], moved.after["revision"]
    assert moved.load["failures"] == []
    assert set(moved.load["revisions"]) == {old, new}
    assert moved.after["artifactID"] == moved.before["artifactID"]
    assert "engineImage" not in moved.before
    assert moved.after["engineImage"]
    assert moved.jobs == 1


def test_the_gpu_is_the_engines_and_neither_container_may_write_or_be_root(moved: Move, team: Namespace) -> None:
    pod = the_pod(team)
    containers = {item["name"]: item for item in pod["spec"]["containers"]}
    gpus = {name: item["resources"].get("limits", {}).get("nvidia.com/gpu") for name, item in containers.items()}
    assert gpus == {"server": None, "engine": "1"}
    look = 'id -u; touch /x 2>/dev/null && echo wrote; touch "$HOME/x" && echo "home"'
    for name, item in containers.items():
        assert item["securityContext"]["readOnlyRootFilesystem"], name
        said = team.kubectl("exec", pod["metadata"]["name"], f"--container={name}", "--", "sh", "-c", look)
        assert said.split() == ["65532", "home"], name


def test_it_answers_through_the_gateway_and_what_vllm_prints_is_shown(
    moved: Move, team: Namespace, operator: Namespace
) -> None:
    with gateway_key(operator, team, NAME) as key, operator.forward(f"service/{GATEWAY}", 80) as url:
        body, headers = chat(model=f"{TEAM}/{NAME}", max_tokens=3), {"authorization": f"Bearer {key}"}

        def post() -> httpx.Response:
            return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=30)

        until("the new key works", lambda: post().status_code == 200, 10)
        answer = post()
    assert answer.headers["x-vicuna-revision"] == moved.after["revision"]
    assert answer.json()["usage"]["completion_tokens"] == 3
    assert "Application startup complete" in vicuna(team, "logs", NAME, "--engine")


def test_a_crash_is_told_though_it_exits_with_0_and_the_front_stays(moved: Move, team: Namespace) -> None:
    pod = the_pod(team)
    with team.forward(f"pod/{pod['metadata']['name']}", 8000) as url:
        assert ready(url) == 200
        signal_core(team, pod, KILL)
        until("the front is not ready", lambda: ready(url) == 503, 15)
        condition = team.wait_reason(NAME, "EngineCrashed", 30)
        until("it is ready again", lambda: ready(url) == 200, moved.engine.restart)
    assert moved.engine.crash in condition["message"]
    failure = team.status(NAME)["lastFailure"]
    assert (failure["reason"], failure["exitCode"]) == ("EngineCrashed", 0)
    assert moved.engine.crash in failure["log"]
    if moved.engine.kind == STAND_IN:  # the real one says more afterwards
        assert failure["log"].splitlines()[-1].endswith(f"{moved.engine.crash}.")
    team.wait_ready(NAME, 30)
    after = the_pod(team)
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert restarts(after) == {"server": 0, "engine": 1}


def test_gpus_that_cannot_share_the_heads_are_refused_and_the_model_goes_on(moved: Move, team: Namespace) -> None:
    pod = the_pod(team)
    team.patch_spec(NAME, serving={"numGpus": 2})
    condition = team.wait_reason(NAME, "InvalidSpec", 15)
    assert "spec.serving.numGpus" in condition["message"]
    assert "9 attention heads" in condition["message"]
    assert "1, 3, 9" in condition["message"]
    assert the_pod(team)["metadata"]["uid"] == pod["metadata"]["uid"]
    assert team.condition(NAME, "Available")["status"] == "True"
    team.patch_spec(NAME, serving={"numGpus": 1})
    team.wait_ready(NAME, 30)
    assert the_pod(team)["metadata"]["uid"] == pod["metadata"]["uid"]


@pytest.mark.full
def test_a_hung_engine_is_restarted_alone(moved: Move, team: Namespace) -> None:
    """After 60 s without a token, and three probes; the stream that hung has ended with an error."""
    pod = the_pod(team)
    before = restarts(pod)
    with team.forward(f"pod/{pod['metadata']['name']}", 8000) as url:
        body = chat(stream=True, min_tokens=500, max_tokens=500)
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=120) as answer:
            lines = (line for line in answer.iter_lines() if line.startswith("data: "))
            next(lines)
            signal_core(team, pod, STOP)
            *_, last, done = (line.removeprefix("data: ") for line in lines)
        assert "engine hangs" in json.loads(last)["error"]["message"]
        assert done == "[DONE]"
        until("its container is restarted", lambda: restarts(the_pod(team))["engine"] == before["engine"] + 1, 90)
        until("it is ready again", lambda: ready(url) == 200, moved.engine.restart)
    team.wait_ready(NAME, 30)  # for the kubelet and the Service too, which the next test asks
    after = the_pod(team)
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert restarts(after)["server"] == before["server"]


def test_a_rollout_under_load_cuts_no_stream(moved: Move, team: Namespace) -> None:
    load: dict[str, Any] = {}
    with clients(team, NAME, load, 4):
        rolled(team, moved.engine, maxConcurrency=7)
    assert load["failures"] == []
    assert set(load["revisions"]) == {moved.after["revision"], team.status(NAME)["active"]["revision"]}


@pytest.mark.full
def test_told_to_end_before_it_has_loaded_it_ends_at_once(moved: Move, team: Namespace) -> None:
    """It imports for half a minute, during which it handles no signal."""
    edited = {"maxConcurrency": 5, "env": moved.engine.slow}
    stated = (team.get("vicunamodel", NAME) or {})["spec"]["serving"]
    revision, old = team.status(NAME)["active"]["revision"], the_pod(team)["metadata"]["name"]
    team.patch_spec(NAME, serving=edited)

    def loading() -> list[str]:
        pods = [pod for pod in team.pods(NAME) if pod["metadata"]["name"] != old and "running" in state(pod)]
        return [pod["metadata"]["name"] for pod in pods]

    (new,) = until("a pod loads", loading, 60)
    team.patch_spec(NAME, serving={name: stated.get(name) for name in edited})

    def told_to_end() -> bool:
        pod = team.get("pod", new)
        return pod is None or "deletionTimestamp" in pod["metadata"]

    until("it is told to end", told_to_end, 30)
    began = time.monotonic()

    def is_gone() -> bool:
        pod = team.get("pod", new)
        return pod is None or ended([pod])

    until("its containers have ended", is_gone, 30)
    print(f"{moved.engine.kind}: its containers ended {time.monotonic() - began:.1f} s after it was told to")
    team.wait_ready(NAME)
    assert team.status(NAME)["active"]["revision"] == revision


def test_a_deletion_waits_for_a_stream_that_is_longer_than_vllm_would(moved: Move, team: Namespace) -> None:
    """Told to end, vLLM cuts what runs after 10 s, and answers 500 to what comes: its preStop hook must prevent it."""
    pod = the_pod(team)
    assert value_of(pod, "--shutdown-timeout") == str(VLLM_DRAINS)
    length = moved.engine.long
    with team.forward(f"pod/{pod['metadata']['name']}", 8000) as url:
        body = chat(stream=True, min_tokens=length, max_tokens=length)
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=90) as answer:
            lines = (line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: "))
            next(lines)
            team.kubectl("delete", "vicunamodel", NAME, "--wait=false")
            until("the front has been told to end", lambda: ready(url) == 503, 15)
            told = time.monotonic()
            late = httpx.post(f"{url}/v1/chat/completions", json=chat(max_tokens=3), timeout=30)
            rest = list(lines)
            went_on = time.monotonic() - told
    assert late.status_code == 200, late.text  # for some seconds new requests are still taken
    assert rest[-1] == "[DONE]"
    choices = [choice for event in rest[:-1] for choice in json.loads(event)["choices"]]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["length"]
    assert went_on > VLLM_DRAINS + 2, "else vLLM could have been told to end, and this would show nothing"
    until("its containers have ended", lambda: ended(team.pods(NAME)), 40)


def value_of(pod: dict[str, Any], flag: str) -> str:
    (words,) = [item["args"] for item in pod["spec"]["containers"] if item["name"] == "engine"]
    return str(words[words.index(flag) + 1])
