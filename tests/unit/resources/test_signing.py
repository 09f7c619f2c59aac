"""Servers that demand a gateway's signature: what their pods are told, and that nothing else depends on it."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from support.cluster import model_body
from support.world import World
from vicuna_contract.serve_arguments import ServeArguments
from vicuna_contract.signing import AUDIENCE_VARIABLE, GATEWAY_KEYS_VARIABLE, joined
from vicuna_operator.api.model import parse_model
from vicuna_operator.planning.config import PlanConfig
from vicuna_operator.resources.deployment import revision_deployment

KEYS, LATER = joined([bytes(32), bytes([1]) * 32]), joined([bytes([1]) * 32, bytes([2]) * 32])
IMAGE = "registry.example/server:1"
Body = dict[str, Any]


def deployment(keys: str, **serving: Any) -> Body:
    words: Body = {"revision": "r", "artifact_id": "a" * 16, "image": IMAGE, "pull_policy": "Always", "replicas": 1}
    model = parse_model(model_body(serving=serving))
    return revision_deployment(model, **words, shared_volume=False, annotations={}, gateway_keys=keys)


def container(body: Body) -> Body:
    (only,) = body["spec"]["template"]["spec"]["containers"]
    return dict(only)


def variables(body: Body) -> dict[str, str]:
    return {item["name"]: item["value"] for item in container(body)["env"]}


def test_a_pod_is_told_the_keys_and_who_it_is_by_variables_alone() -> None:
    plain, told = deployment(""), deployment(KEYS)
    added = {GATEWAY_KEYS_VARIABLE: KEYS, AUDIENCE_VARIABLE: "team/demo/uid-demo"}
    assert variables(told) == variables(plain) | added
    without = copy.deepcopy(told)
    env = without["spec"]["template"]["spec"]["containers"][0]["env"]
    env[:] = [item for item in env if item["name"] not in added]
    assert without == plain, "older images take no notice of a variable, and would end at a flag"


def test_the_server_reads_what_it_is_told() -> None:
    told = deployment(KEYS)
    read = ServeArguments.from_argv(container(told)["args"], variables(told))
    assert (read.gateway_keys, read.audience) == (KEYS, "team/demo/uid-demo")


def test_a_model_can_state_its_own() -> None:
    told = deployment(KEYS, env=[{"name": GATEWAY_KEYS_VARIABLE, "value": LATER}])
    assert [item["value"] for item in container(told)["env"] if item["name"] == GATEWAY_KEYS_VARIABLE] == [LATER]


@pytest.mark.parametrize(("before", "after"), [("", KEYS), (KEYS, LATER), (KEYS, "")])
def test_keys_that_come_change_or_go_touch_no_running_pod_and_reach_those_made_later(before: str, after: str) -> None:
    world = World(model_body(serving={"replicas": 2}))
    world.config = PlanConfig(server_image=IMAGE, gateway_keys=before)
    world.deploy()
    revision, shape = world.status["active"]["revision"], copy.deepcopy(world.only("Deployment")["spec"]["template"])
    world.config = PlanConfig(server_image=IMAGE, gateway_keys=after)
    assert world.reconcile().actions == []
    assert world.only("Deployment")["spec"]["template"] == shape
    assert variables(world.only("Deployment")).get(GATEWAY_KEYS_VARIABLE, "") == before
    world.edit(serving={"maxConcurrency": 7})
    world.settle()
    assert world.condition("Ready")["status"] == "True"
    (fresh,) = [item for item in world.all("Deployment") if revision not in item["metadata"]["name"]]
    assert variables(fresh).get(GATEWAY_KEYS_VARIABLE, "") == after
    assert world.condition("Drifted") == {}


def test_a_revision_has_the_same_name_with_and_without_keys() -> None:
    names = set()
    for keys in ("", KEYS, LATER):
        world = World(model_body())
        world.config = PlanConfig(server_image=IMAGE, gateway_keys=keys)
        world.deploy()
        names.add(world.status["active"]["revision"])
    assert len(names) == 1


def test_no_stored_identity_knows_of_keys() -> None:
    for file in sorted((Path(__file__).parent / "identities").glob("*.json")):
        assert GATEWAY_KEYS_VARIABLE not in json.dumps(json.loads(file.read_text()))
