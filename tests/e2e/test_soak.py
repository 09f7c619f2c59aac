"""Long proofs, only in `make e2e-full`."""

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.checkpoints import delta_weights, model_weights, write_checkpoint

from .cluster import (
    SERVER_IMAGE,
    Namespace,
    in_toolbox,
    make_namespace,
    meanwhile,
    model,
    provide,
    run,
    scripted,
    until,
)

pytestmark = pytest.mark.full

MODELS = [f"soak-{number}" for number in range(12)]
OPERATOR = "app.kubernetes.io/name=vicuna-operator"


@pytest.fixture
def soak(team: Namespace) -> Iterator[list[str]]:
    yield MODELS
    team.kubectl("delete", "vicunamodel", "--ignore-not-found", *MODELS, "--timeout=300s", timeout=330)


@pytest.mark.timeout(1500)
def test_many_models_come_up_while_the_operator_is_killed_again_and_again(
    team: Namespace, operator: Namespace, soak: list[str]
) -> None:
    moments = random.Random(20)
    team.apply(*(model(name, "weights", serving=scripted()) for name in soak))
    for _ in range(5):
        time.sleep(moments.uniform(1, 15))
        operator.kubectl("delete", "pods", "--selector", OPERATOR, "--grace-period=0", "--force")
    for name in soak:
        team.wait_ready(name, 600)
    for name in soak:
        jobs = team.find("jobs", f"vicuna.dev/model={name}")
        assert len(jobs) == 1, f"{name}: {len(jobs)} merge Jobs"
    edited = {name: team.status(name)["active"]["revision"] for name in soak}
    for name in soak:
        team.patch_spec(name, serving={"maxConcurrency": 9})
        if moments.random() < 0.4:
            operator.kubectl("delete", "pods", "--selector", OPERATOR, "--grace-period=0", "--force")
    for name in soak:
        until(f"{name} has a new revision", lambda: team.status(name)["active"]["revision"] != edited[name], 600)  # noqa: B023
        team.wait_ready(name, 600)
    # On a busy cluster its controllers write the last counts of pods well after a model is ready.
    before = until("all is counted", lambda: _unchanged(team, soak, seconds=20), 180)
    with team.recorded("vicunamodels") as states:
        time.sleep(60)
        after = _versions(team, soak)
    written = [name for name in soak if after[name] != before[name]]
    for name in written:
        print(name, before[name], after[name], sep="\n")
        print(*(json.dumps(state) for state in states if state["metadata"]["name"] == name), sep="\n")
    assert not written, "idle models were written to"


def _versions(team: Namespace, models: list[str]) -> dict[str, dict[str, str]]:
    return {name: team.versions(name) for name in models}


def _unchanged(team: Namespace, models: list[str], seconds: float) -> dict[str, dict[str, str]] | None:
    """Return the versions of all models' objects if none changes for a while."""
    before = _versions(team, models)
    time.sleep(seconds)
    return before if _versions(team, models) == before else None


def test_a_merge_under_its_own_memory_limit(team: Namespace, fresh: str) -> None:
    """The Job's limit is 1Gi; the kernel would kill it if the merge needed more."""
    body = model(fresh, "weights", storage={"size": "2Gi", "reclaimPolicy": "Delete"}, serving=scripted())
    body["spec"]["merge"] = {"dtype": "float32"}
    team.apply(body)
    team.wait_ready(fresh)
    (pod,) = team.pods(fresh, "vicuna-merge")
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == "1Gi"
    said = json.loads(pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"])
    assert said["reason"] == "Merged"


CLIENTS = 20


@pytest.fixture
def busy(operator: Namespace, tmp_path: Path) -> Iterator[Namespace]:
    """A namespace with a pair of a few megabytes, so that a merge takes seconds."""
    namespace = make_namespace("vicuna-e2e-busy")
    write_checkpoint(tmp_path / "base", model_weights(1), "bin-sharded")
    write_checkpoint(tmp_path / "delta", delta_weights(2), "safetensors")
    provide(namespace, "weights", tmp_path)
    yield namespace
    namespace.kubectl("delete", "vicunamodel", "--all", "--timeout=120s", timeout=150)
    run("kubectl", "delete", "namespace", namespace.name, "--wait=false")


@contextmanager
def clients(namespace: Namespace, name: str, result: dict[str, Any], count: int = CLIENTS) -> Iterator[None]:
    """Let clients stream from inside the cluster, past any gateway; afterwards `result` has what they saw."""
    namespace.kubectl("exec", "toolbox", "--", "rm", "-f", "/tmp/stop")
    url = f"http://{name}.{namespace.name}.svc:8000"
    with in_toolbox(namespace, "clients.py", url, name, count, "/tmp/stop") as process:
        try:
            yield
        finally:
            namespace.kubectl("exec", "toolbox", "--", "touch", "/tmp/stop")
            said, _ = process.communicate(timeout=180)
        result |= json.loads(said.splitlines()[-1])


@contextmanager
def killing(operator: Namespace, moments: random.Random) -> Iterator[list[float]]:
    """Kill the operator with SIGKILL at random times."""
    kills: list[float] = []

    def kill() -> None:
        operator.kubectl("delete", "pods", "--selector", OPERATOR, "--grace-period=0", "--force", check=False)
        kills.append(time.monotonic())

    with meanwhile(kill, lambda: moments.uniform(5, 25)):
        yield kills


@pytest.mark.timeout(1800)
def test_ten_edits_under_load_lose_no_request_while_the_operator_is_killed(
    busy: Namespace, operator: Namespace
) -> None:
    name = "busy"
    script = [
        {"name": "VICUNA_ENGINE", "value": "scripted"},
        {"name": "VICUNA_SCRIPTED_TOKENS", "value": "40"},
        {"name": "VICUNA_SCRIPTED_TOKENS_PER_SECOND", "value": "20"},
    ]
    serving = {"numGpus": 0, "replicas": 2, "chatTemplate": "vicuna_v1.1", "env": script, "maxStreamSeconds": 30}
    busy.apply(model(name, "weights", serving=serving))
    busy.wait_ready(name)
    same_image = SERVER_IMAGE if "/" in SERVER_IMAGE else f"docker.io/library/{SERVER_IMAGE}"
    edits: list[dict[str, Any]] = [
        {"serving": {"maxConcurrency": 40}},
        {"merge": {"dtype": "bfloat16"}},
        {"serving": {"image": same_image}},
        {"serving": {"podAnnotations": {"edit": "4"}}},
        {"merge": {"dtype": "float16"}},
        {"serving": {"maxConcurrency": 41, "rollout": {"strategy": "Surge"}}},
        {"merge": {"dtype": "float32"}},
        {"serving": {"image": None, "maxConcurrency": 43}},
        {"serving": {"maxConcurrency": 42, "rollout": {"strategy": "Drain"}}},
        {"serving": {"env": [*script, {"name": "EDIT", "value": "10"}]}},
    ]
    revisions = {busy.status(name)["active"]["revision"]}
    result: dict[str, Any] = {}
    with clients(busy, name, result), killing(operator, random.Random(7)) as kills:
        for edit in edits:
            busy.patch_spec(name, **edit)
            generation = (busy.get("vicunamodel", name) or {})["metadata"]["generation"]
            until("it was seen", lambda: busy.status(name)["observedGeneration"] == generation, 120)  # noqa: B023
            busy.wait_ready(name, 300)
            revisions.add(busy.status(name)["active"]["revision"])
            print(time.strftime("%H:%M:%S"), edit, busy.status(name)["active"]["revision"])
    print(json.dumps(result), f"{len(kills)} kills")
    assert len(revisions) >= 9, "some of the edits made no revision"
    assert len(kills) >= 3
    assert result["failed"] == 0, result["failures"]
    assert result["requests"] > 10 * CLIENTS
    assert set(result["revisions"]) <= revisions
