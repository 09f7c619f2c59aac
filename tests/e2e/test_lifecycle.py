"""Killed operators, changed specs, deleted models, deleted namespaces."""

import json
import time
from pathlib import Path

import httpx
import pytest

from support.checkpoints import delta_weights, model_weights, write_checkpoint

from .cluster import Namespace, lease_holder, make_namespace, model, provide, run, scripted, until

MEBIBYTE = 2**20
OPERATOR = "app.kubernetes.io/name=vicuna-operator"


def test_the_operator_killed_in_mid_merge_costs_nothing(team: Namespace, operator: Namespace, fresh: str) -> None:
    team.apply(
        model(
            fresh,
            "weights",
            storage={"size": "2Gi", "reclaimPolicy": "Delete"},
            merge={"maxBytesPerSecond": 20 * MEBIBYTE},
            serving=scripted(),
        )
    )
    until("the merge runs and says how far it is", lambda: team.status(fresh).get("merge", {}).get("percent"), 90)
    (pod,) = team.pods(fresh, "vicuna-merge")
    operator.kubectl("delete", "pods", "--selector", OPERATOR, "--grace-period=0", "--force")
    team.wait_ready(fresh)
    (after,) = team.pods(fresh, "vicuna-merge")
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert len(team.find("jobs", f"vicuna.dev/model={fresh}")) == 1
    status = team.status(fresh)
    assert status["merge"]["percent"] == 100


def test_an_edit_rolls_out_without_a_gap(team: Namespace, fresh: str) -> None:
    team.apply(model(fresh, "weights", serving=scripted()))
    team.wait_ready(fresh)
    old = team.status(fresh)["active"]["revision"]
    (old_pod,) = team.pods(fresh)
    with team.forward(f"pod/{old_pod['metadata']['name']}", 8000) as url:
        team.kubectl(
            "patch", "vicunamodel", fresh, "--type=merge", "--patch", '{"spec":{"serving":{"maxConcurrency":7}}}'
        )
        until("the new revision is the target", lambda: team.status(fresh)["target"]["revision"] != old, 30)
        # The old pod answers until the new one is ready.
        while team.status(fresh)["active"]["revision"] == old:
            response = httpx.get(f"{url}/v1/models", timeout=10)
            assert response.headers["x-vicuna-revision"] == old
            time.sleep(0.2)
    team.wait_ready(fresh)
    new = team.status(fresh)["active"]["revision"]
    deployments = team.find("deployments", f"vicuna.dev/model={fresh}")
    replicas = {item["metadata"]["labels"]["vicuna.dev/revision"]: item["spec"]["replicas"] for item in deployments}
    assert replicas == {old: 0, new: 1}
    assert [item["revision"] for item in team.status(fresh)["history"]] == [new, old]
    assert len(team.find("jobs", f"vicuna.dev/model={fresh}")) == 1


def test_suspend_keeps_the_weights(team: Namespace, fresh: str) -> None:
    team.apply(model(fresh, "weights", serving=scripted()))
    team.wait_ready(fresh)
    team.patch_spec(fresh, suspend=True)
    until("no pod is left", lambda: team.pods(fresh) == [] and team.status(fresh)["phase"] == "Suspended", 150)
    team.patch_spec(fresh, suspend=False)
    team.wait_ready(fresh)
    assert len(team.find("jobs", f"vicuna.dev/model={fresh}")) == 1


def left_of(team: Namespace, name: str) -> list[str]:
    kinds = "jobs,deployments,replicasets,pods,services,persistentvolumeclaims"
    found = json.loads(team.kubectl("get", kinds, "--selector", f"vicuna.dev/model={name}", "--output", "json"))[
        "items"
    ]
    return sorted(f"{item['kind']}/{item['metadata']['name']}" for item in found)


def test_delete_leaves_exactly_the_claim_or_nothing(team: Namespace) -> None:
    team.apply(model("goes", "weights", storage={"size": "2Gi", "reclaimPolicy": "Retain"}, serving=scripted()))
    team.wait_ready("goes")
    team.kubectl("delete", "vicunamodel", "goes", timeout=60)
    until("the claim alone is left", lambda: left_of(team, "goes") == ["PersistentVolumeClaim/goes-weights"], 120)
    # The claim that stayed is used again, with what is on it.
    team.apply(model("goes", "weights", storage={"size": "2Gi", "reclaimPolicy": "Delete"}, serving=scripted()))
    team.wait_ready("goes")
    (pod,) = team.pods("goes", "vicuna-merge")
    log = team.kubectl("logs", pod["metadata"]["name"]).splitlines()
    assert not [line for line in log if json.loads(line).get("bytesDone")], (
        "an artifact that was there was written again"
    )
    team.kubectl("delete", "vicunamodel", "goes", timeout=60)
    until("nothing is left", lambda: left_of(team, "goes") == [], 120)


def held_up(namespace: Namespace) -> list[str]:
    """Return what is left in a namespace and not on its way out, or held by a finalizer that is not Kubernetes' own."""
    kinds = "vicunamodels,jobs,deployments,replicasets,pods,services,persistentvolumeclaims"
    found = json.loads(namespace.kubectl("get", kinds, "--output", "json"))["items"]
    return [
        f"{item['kind']}/{item['metadata']['name']}"
        for item in found
        if "deletionTimestamp" not in item["metadata"]
        or set(item["metadata"].get("finalizers", [])) - {"kubernetes.io/pvc-protection"}
    ]


@pytest.mark.full
def test_a_namespace_goes_while_the_operator_is_stopped(operator: Namespace, tmp_path: Path) -> None:
    """Nothing of ours holds it up: within a minute there are only pods that end, without a finalizer, if any.

    Usually it is gone after half a minute. How long the last pod's object stays is the kubelet's, and the namespace
    controller, where it sees the same pods twice, looks again only after half their longest grace period.
    """
    gone = make_namespace("vicuna-e2e-gone")
    write_checkpoint(tmp_path / "base", model_weights(1), "bin-sharded")
    write_checkpoint(tmp_path / "delta", delta_weights(2), "safetensors")
    provide(gone, "weights", tmp_path)
    for name in ("one", "two"):
        gone.apply(
            model(
                name,
                "weights",
                storage={"size": "1Gi", "reclaimPolicy": "Delete"},
                serving=scripted(chatTemplate="vicuna_v1.1", maxStreamSeconds=1),
            )
        )
    for name in ("one", "two"):
        gone.wait_ready(name)
    try:
        operator.kubectl("scale", "deployment/vicuna-operator", "--replicas=0")
        # It writes nothing from then on; how long its pod's object stays is the kubelet's.
        until("the operator has let go of its Lease", lambda: lease_holder(operator) == "", 60)
        run("kubectl", "delete", "namespace", gone.name, "--wait=false")
        until("nothing is held up", lambda: held_up(gone) == [], 60)
        run("kubectl", "wait", "--for=delete", f"namespace/{gone.name}", "--timeout=150s", timeout=180)
    finally:
        operator.kubectl("scale", "deployment/vicuna-operator", "--replicas=1")
        operator.kubectl("rollout", "status", "deployment/vicuna-operator", "--timeout=90s")


@pytest.mark.full
def test_weights_that_are_gone_come_back_by_themselves(team: Namespace, fresh: str) -> None:
    # an artifact that no other test's model serves
    team.apply(model(fresh, "weights", merge={"dtype": "bfloat16"}, serving=scripted()))
    team.wait_ready(fresh)
    artifact = team.status(fresh)["active"]["artifactID"]
    team.kubectl("exec", "toolbox", "--", "rm", "-r", f"/weights/artifacts/{artifact}")
    (pod,) = team.pods(fresh)
    team.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=1")
    merges = f"vicuna.dev/model={fresh},app.kubernetes.io/name=vicuna-merge"
    until("the weights are looked at", lambda: len(team.find("jobs", merges)) == 2, 60)
    team.wait_ready(fresh)
    assert team.status(fresh)["active"]["artifactID"] == artifact
    team.kubectl("exec", "toolbox", "--", "test", "-f", f"/weights/artifacts/{artifact}/config.json")
    assert len(team.find("jobs", merges)) == 2


def test_orphans_are_adopted_and_their_pods_go_on(team: Namespace, fresh: str) -> None:
    """As after a restore: the children are there, and their owner is another model of the name."""
    body = model(fresh, "weights", serving=scripted())
    team.apply(body)
    team.wait_ready(fresh)
    before = {pod["metadata"]["uid"] for pod in team.pods(fresh)}
    team.kubectl("delete", "vicunamodel", fresh, "--cascade=orphan", timeout=60)
    team.apply(body)
    team.wait_ready(fresh)
    assert {pod["metadata"]["uid"] for pod in team.pods(fresh)} == before
    uid = json.loads(team.kubectl("get", "vicunamodel", fresh, "--output=json"))["metadata"]["uid"]
    for kind in ("deployments", "services"):
        owners = [
            owner["uid"]
            for item in team.find(kind, f"vicuna.dev/model={fresh}")
            for owner in item["metadata"]["ownerReferences"]
        ]
        assert owners == [uid]


@pytest.mark.full
def test_a_claim_deleted_under_a_running_model_is_told_and_merged_onto_anew(team: Namespace, fresh: str) -> None:
    storage = {"size": "2Gi", "reclaimPolicy": "Delete"}
    team.apply(model(fresh, "weights", storage=storage, serving=scripted()))
    team.wait_ready(fresh)
    name = f"{fresh}-weights"
    before = (team.get("pvc", name) or {})["metadata"]["uid"]
    team.kubectl("delete", "pvc", name, "--wait=false")
    until("it is told", lambda: team.condition(fresh, "Drifted").get("reason") == "ClaimTerminating", 30)
    assert team.condition(fresh, "Ready")["status"] == "True"
    team.patch_spec(fresh, suspend=True)
    until("another claim is made", lambda: (team.get("pvc", name) or {}).get("metadata", {}).get("uid") != before, 120)
    team.patch_spec(fresh, suspend=False)
    team.wait_ready(fresh)
    assert (team.get("pvc", name) or {})["metadata"]["uid"] != before


def test_replicas_are_handed_to_an_autoscaler_without_a_drop(team: Namespace, fresh: str) -> None:
    """By the command that docs/operations.md has; the editor is a program here."""
    team.apply(model(fresh, "weights", serving=scripted(replicas=2)))
    team.wait_ready(fresh)
    editor = "KUBE_EDITOR=sed -i /replicas:/d"
    words = ["kubectl", "--namespace", team.name, "apply", "edit-last-applied", "vicunamodel", fresh]
    run("env", editor, *words)
    team.kubectl("scale", f"vicunamodel/{fresh}", "--replicas=3")
    team.apply(model(fresh, "weights", serving=scripted()))
    assert (team.get("vicunamodel", fresh) or {})["spec"]["serving"]["replicas"] == 3
