"""Long proofs, only in `make e2e-full`."""

import json
import random
import time
from collections.abc import Iterator

import pytest

from .cluster import Namespace, model, scripted, until

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
    before = {name: team.versions(name) for name in soak}
    time.sleep(60)
    assert {name: team.versions(name) for name in soak} == before, "an idle model was written to"


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
