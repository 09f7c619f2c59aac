"""A model without demand has no pod, and the first request brings one, while the gateway holds it."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .cluster import Namespace, meanwhile, model, scripted, until
from .conftest import TEAM
from .door import GATEWAY, SELECTOR, gateway_key

NAME = "sleeper"
IDLE = 10
HELD = 50
"""As many requests of one model and key as a pod of the gateway holds, by the chart's default."""
SCALING = {"minReplicas": 0, "maxReplicas": 2, "targetRequests": 25, "idleSeconds": IDLE, "scaleDownSeconds": IDLE}


@pytest.fixture(scope="module")
def key(team: Namespace, operator: Namespace) -> Iterator[str]:
    with gateway_key(operator, team, "sleeper") as key:
        yield key


@pytest.fixture(scope="module")
def sleeper(team: Namespace, key: str) -> Iterator[str]:
    """A model that was brought up once, and sleeps."""
    team.apply(model(NAME, "weights", serving=scripted(autoscaling=SCALING)))
    until("it sleeps", lambda: asleep(team), 180)
    yield NAME
    team.kubectl("delete", "vicunamodel", NAME, "--timeout=120s", timeout=150)


def asleep(team: Namespace) -> bool:
    """Tell whether the model says that it sleeps, and nothing of it runs."""
    return ready(team, NAME)["reason"] == "Asleep" and sizes(team) == {0}


def ready(team: Namespace, name: str) -> dict[str, str]:
    """Return the condition Ready; empty texts where there is none yet."""
    found: dict[str, str] = conditions(team, name).get("Ready", {"status": "", "reason": "", "message": ""})
    return found


def conditions(team: Namespace, name: str) -> dict[str, Any]:
    found = (team.get("vicunamodel", name) or {}).get("status", {}).get("conditions", ())
    return {condition["type"]: condition for condition in found}


def sizes(team: Namespace) -> set[int]:
    return {item["spec"]["replicas"] for item in team.find("deployments", f"vicuna.dev/model={NAME}")}


@contextmanager
def watched(team: Namespace) -> Iterator[list[int]]:
    """Record how many replicas the model has, each time that it changes."""
    seen: list[int] = []

    def look() -> None:
        size = max(sizes(team))
        if seen[-1:] != [size]:
            seen.append(size)

    with meanwhile(look):
        yield seen


def gateway_address(operator: Namespace) -> str:
    """Return the address of one pod of the gateway: the bounds hold for each."""
    pods = [pod for pod in operator.find("pods", SELECTOR) if "deletionTimestamp" not in pod["metadata"]]
    port = pods[0]["spec"]["containers"][0]["ports"][0]["containerPort"]
    return f"http://{pods[0]['status']['podIP']}:{port}"


def burst(team: Namespace, url: str, key: str, count: int, name: str = NAME) -> list[dict[str, Any]]:
    """Send requests all at once from inside the cluster; return what came of each."""
    words = ["kubectl", "--namespace", team.name, "exec", "--stdin", "toolbox", "--"]
    words += ["python3", "-", url, key, str(count), f"{TEAM}/{name}"]
    script = (Path(__file__).parent / "burst.py").read_text()
    done = subprocess.run(words, input=script, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_sleeping_model_is_well(team: Namespace, sleeper: str) -> None:
    found = {name: each["status"] for name, each in conditions(team, sleeper).items()}
    assert (found["Ready"], found["Available"], found["Stalled"]) == ("False", "True", "False")
    assert "asleep" in team.kubectl("get", "vicunamodel", sleeper).lower()


def test_requests_at_once_wake_it_and_are_all_answered(
    team: Namespace, operator: Namespace, key: str, sleeper: str
) -> None:
    with watched(team) as seen:
        answers = burst(team, gateway_address(operator), key, HELD + 1)
    refused = [answer for answer in answers if answer["status"] != 200]
    assert [(answer["status"], answer["code"]) for answer in refused] == [(503, "too_many_held")]
    assert refused[0]["seconds"] < min(answer["seconds"] for answer in answers if answer["status"] == 200)
    assert max(seen) == SCALING["maxReplicas"]
    assert seen == sorted(seen), "it was scaled down while requests were held"
    print(f"{HELD} requests, the last one answered after {max(answer['seconds'] for answer in answers):.1f} s")
    answered = time.monotonic()
    until("it sleeps again", lambda: asleep(team), IDLE + 60)
    assert time.monotonic() - answered > IDLE - 2, "it was put to sleep too early"


@pytest.mark.full
def test_a_gateway_that_is_lost_wakes_nothing_and_holds_up_nothing(
    team: Namespace, operator: Namespace, key: str, sleeper: str
) -> None:
    until("it sleeps", lambda: asleep(team), 120)
    (lost, *_) = operator.find("pods", SELECTOR)
    operator.kubectl("delete", "pod", lost["metadata"]["name"], "--grace-period=0", "--force")
    operator.kubectl("rollout", "status", f"deployment/{GATEWAY}", "--timeout=120s")
    assert asleep(team)
    answers = burst(team, gateway_address(operator), key, 5)
    assert [answer["status"] for answer in answers] == [200] * 5


def test_requests_for_a_model_that_cannot_come_are_told_why(
    team: Namespace, operator: Namespace, key: str, fresh: str
) -> None:
    body = model(fresh, "weights", serving=scripted(autoscaling=SCALING))
    body["spec"]["weights"] = {"base": {"source": "pvc://weights/nothing-here"}}
    team.apply(body)
    found = until("the gateway knows it", lambda: known(team, operator, key, fresh), 30)
    assert [answer["status"] for answer in found] == [503, 503]
    until("its merge failed", lambda: conditions(team, fresh)["Stalled"]["status"] == "True", 120)
    reason = ready(team, fresh)["reason"]
    assert all(reason in answer["message"] for answer in found), found


def known(team: Namespace, operator: Namespace, key: str, name: str) -> list[dict[str, Any]] | None:
    """Return the answers to two requests for a model, once the gateway knows it."""
    answers = burst(team, gateway_address(operator), key, 2, name)
    return None if 404 in [answer["status"] for answer in answers] else answers
