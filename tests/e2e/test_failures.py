"""What goes wrong is said on the object, once, and nothing else suffers."""

import json
from typing import Any

import pytest

from .cluster import Namespace, model, names, run, scripted, until


def test_a_delta_that_does_not_exist_fails_once(team: Namespace, fresh: str) -> None:
    body = model(fresh, "weights", serving=scripted())
    body["spec"]["weights"]["delta"] = {"source": "pvc://weights/no-such-delta"}
    team.apply(body)
    condition = team.wait_reason(fresh, "SourceNotFound", 60)
    assert "delta" in condition["message"]
    assert team.condition(fresh, "Stalled")["status"] == "True"
    status = team.status(fresh)
    assert (status["phase"], status["lastFailure"]["exitCode"]) == ("Failed", 65)
    (job,) = team.find("jobs", f"vicuna.dev/model={fresh}")
    # Another pass over a terminal failure, asked for by an event, makes no second attempt.
    team.kubectl("label", "vicunamodel", fresh, "poke=1")
    operator_saw(team, fresh)
    assert names(team.find("jobs", f"vicuna.dev/model={fresh}")) == [job["metadata"]["name"]]
    assert len(team.pods(fresh, "vicuna-merge")) == 1


def operator_saw(team: Namespace, name: str) -> None:
    """Wait for proof that the operator has looked at a model: a spec change is in the observed generation."""
    team.patch_spec(name, serving={"replicas": 3})
    wanted = (team.get("vicunamodel", name) or {})["metadata"]["generation"]
    until("the operator looked", lambda: team.status(name).get("observedGeneration") == wanted, 30)


def test_retry_annotation_tries_again(team: Namespace, fresh: str) -> None:
    body = model(fresh, "weights", serving=scripted())
    body["spec"]["weights"]["delta"] = {"source": "pvc://weights/appears-later"}
    team.apply(body)
    team.wait_reason(fresh, "SourceNotFound", 60)
    team.kubectl("exec", "toolbox", "--", "cp", "-r", "/weights/delta", "/weights/appears-later")
    team.kubectl("annotate", "vicunamodel", fresh, "vicuna.dev/retry=1")
    team.wait_ready(fresh)
    team.kubectl("exec", "toolbox", "--", "rm", "-r", "/weights/appears-later")


def test_the_api_server_refuses_wrong_types(team: Namespace) -> None:
    for field, value in (("dtype", "int4"), ("replicas", "two"), ("numGpus", -1)):
        body = json.dumps(model("wrong", "weights", serving={field: value}))
        with pytest.raises(AssertionError, match=field):
            team.kubectl("create", "--validate=false", "-f", "-", stdin=body)


def test_cross_field_errors_name_the_field(team: Namespace, fresh: str) -> None:
    """Which of the two checks them is asked first, so that neither can stand in for the other."""
    if keeps_rules(team):
        refused_by_the_api_server(team, fresh)
    else:
        refused_by_the_operator(team, fresh)


def keeps_rules(team: Namespace) -> bool:
    """Tell whether the API server keeps the CRD's rules (CEL): clusters before 1.25 drop them."""
    crd = json.loads(team.kubectl("get", "customresourcedefinition", "vicunamodels.vicuna.dev", "--output", "json"))
    (version,) = crd["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return "x-kubernetes-validations" in json.dumps(spec)


def refused_by_the_api_server(team: Namespace, fresh: str) -> None:
    with pytest.raises(AssertionError, match=r"serving.*numGpus"):
        team.apply(model(fresh, "weights", serving={"numGpus": 0, "device": "cuda"}))
    assert team.get("vicunamodel", fresh) is None


def refused_by_the_operator(team: Namespace, fresh: str) -> None:
    team.apply(model(fresh, "weights", serving={"numGpus": 0, "device": "cuda"}))
    condition = team.wait_reason(fresh, "InvalidSpec", 10)
    assert "spec.serving.numGpus" in condition["message"]
    assert team.find("jobs", f"vicuna.dev/model={fresh}") == []
    team.patch_spec(fresh, serving=scripted(device="auto"))
    team.wait_ready(fresh)


def test_what_the_api_server_refuses_of_the_pods_is_told_before_the_merge(team: Namespace, fresh: str) -> None:
    team.apply(model(fresh, "weights", serving=scripted(podLabels={"team": "b c"})))
    condition = team.wait_reason(fresh, "InvalidSpec", 10)
    assert "b c" in condition["message"]
    assert "roles" not in condition["message"]
    assert team.find("jobs,deployments", f"vicuna.dev/model={fresh}") == []
    team.patch_spec(fresh, serving={"podLabels": {"team": "b"}})
    team.wait_ready(fresh)


def test_a_claim_that_does_not_exist_is_named(team: Namespace, fresh: str) -> None:
    team.apply(model(fresh, "no-such-claim"))
    condition = team.wait_reason(fresh, "ClaimNotFound", 10)
    assert "no-such-claim" in condition["message"]


def test_an_image_that_does_not_exist_is_named(team: Namespace, fresh: str) -> None:
    team.apply(model(fresh, "weights", serving=scripted(image="no.such.registry.invalid/server:1")))
    condition = team.wait_reason(fresh, "ImagePullFailed", 30)
    assert "no.such.registry.invalid/server:1" in condition["message"]


def test_a_foreign_object_of_that_name_is_left_alone(team: Namespace, fresh: str) -> None:
    foreign: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": fresh, "annotations": {"mine": "yes"}},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "other"}},
    }
    team.apply(foreign)
    before = (team.get("service", fresh) or {})["metadata"]["resourceVersion"]
    team.apply(model(fresh, "weights", serving=scripted()))
    condition = team.wait_reason(fresh, "NameConflict", 30)
    assert fresh in condition["message"]
    assert (team.get("service", fresh) or {})["metadata"]["resourceVersion"] == before
    team.kubectl("delete", "service", fresh)
    team.wait_ready(fresh)


def test_a_server_that_cannot_start_says_why(team: Namespace, fresh: str) -> None:
    team.apply(model(fresh, "weights", serving={"numGpus": 1, "device": "cuda"}))
    condition = team.wait_reason(fresh, "DeviceUnavailable", 120)
    assert "GPU" in condition["message"] or "CUDA" in condition["message"]
    assert "INFO listening on" in team.status(fresh)["lastFailure"]["log"], "what it printed before is kept"


def test_the_operator_may_not_read_secrets_or_exec(operator: Namespace) -> None:
    account = f"--as=system:serviceaccount:{operator.name}:vicuna-operator"
    for verb, what in (("get", "secrets"), ("list", "secrets"), ("create", "pods/exec"), ("get", "nodes")):
        assert run("kubectl", "auth", "can-i", verb, what, account, "-A", check=False).strip() == "no"
