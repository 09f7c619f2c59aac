"""Where the cluster is not as the spec says: told as the condition Drifted, or put back where the object is ours."""

import json
from typing import Any

import pytest

from support.cluster import model_body
from support.memory_kube import Body
from support.world import World
from vicuna_contract import names as c

RWX = {"size": "10Gi", "accessMode": "ReadWriteMany"}


def deployed(**spec: Any) -> World:
    world = World(model_body(**spec))
    world.deploy()
    assert world.condition("Drifted") == {}
    return world


def is_told(world: World, reason: str, *words: str) -> None:
    """The condition tells it, an Event told it once, Ready is as before, and nothing is written again and again."""
    world.settle()
    drifted = world.condition("Drifted")
    assert (drifted["status"], drifted["reason"]) == ("True", reason)
    for word in words:
        assert word in drifted["message"]
    assert [note[:2] for note in world.new_events if note[1] == reason] == [("Warning", reason)]
    assert world.condition("Ready")["status"] == "True"
    is_idle(world)


def is_idle(world: World) -> None:
    writes = world.writes
    for _ in range(3):
        assert world.reconcile().actions == []
        world.tick(300)
    assert world.writes == writes


def is_cleared(world: World) -> None:
    world.settle()
    assert world.condition("Drifted") == {}
    is_idle(world)


# storage


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"accessMode": "ReadWriteMany"}, ["spec.storage.accessMode says ReadWriteMany", "has ReadWriteOnce"]),
        ({"storageClassName": "fast"}, ["spec.storage.storageClassName says fast", "has slow"]),
        ({"size": "1Gi"}, ["spec.storage.size says 1Gi", "has 10Gi"]),
    ],
)
def test_an_edit_of_the_storage_that_nothing_follows_is_told(edit: Body, words: list[str]) -> None:
    before = {"size": "10Gi", "storageClassName": "slow", "accessMode": "ReadWriteOnce"}
    world = deployed(storage=before)
    world.edit(storage=edit)
    is_told(world, "StorageNotFollowed", *words, "demo-weights", "claimName")
    world.edit(storage=before)
    is_cleared(world)


def test_several_fields_are_told_at_once() -> None:
    world = deployed(storage={"size": "10Gi", "storageClassName": "slow"})
    world.edit(storage={"size": "1Gi", "storageClassName": "fast"})
    is_told(world, "StorageNotFollowed", "spec.storage.size", "spec.storage.storageClassName")


def test_a_claim_made_anew_follows_the_edit() -> None:
    world = deployed(storage={"size": "10Gi"})
    world.edit(storage=RWX)
    world.settle()
    world.remove(world.find("PersistentVolumeClaim", "demo-weights"))
    world.settle()
    assert world.find("PersistentVolumeClaim", "demo-weights")["spec"]["accessModes"] == ["ReadWriteMany"]
    assert world.condition("Drifted") == {}


def test_a_class_that_is_not_stated_and_a_size_of_the_same_bytes_do_not_differ() -> None:
    world = deployed(storage={"size": "10Gi"})
    claim = world.find("PersistentVolumeClaim", "demo-weights")
    world.put({**claim, "spec": {**claim["spec"], "storageClassName": "standard"}})  # as the API server fills it in
    world.edit(storage={"size": "10240Mi"})
    is_cleared(world)


def test_a_claim_of_the_users_own_may_be_shared_and_need_not_be() -> None:
    world = World(model_body(storage={"claimName": "inputs"}))
    world.deploy()
    assert world.condition("Drifted") == {}
    world.edit(storage={"accessMode": "ReadWriteMany"})
    is_told(world, "StorageNotFollowed", "PersistentVolumeClaim inputs has ReadWriteOnce")


# what is ours is put back


def service(world: World) -> Body:
    return world.only("Service")


def assigned(world: World) -> Body:
    """Let API server and cloud fill in what they do."""
    found = service(world)
    found["metadata"]["finalizers"] = ["service.kubernetes.io/load-balancer-cleanup"]
    found["metadata"]["annotations"] |= {"cloud.example.com/load-balancer": "lb-1"}
    found["metadata"]["labels"] |= {"team": "search"}
    found["spec"] |= {
        "clusterIP": "10.0.0.7",
        "clusterIPs": ["10.0.0.7"],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "externalTrafficPolicy": "Cluster",
        "allocateLoadBalancerNodePorts": True,
    }
    found["spec"]["ports"] = [{**port, "nodePort": 30123} for port in found["spec"]["ports"]]
    found["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}
    return world.put(found)


def test_what_server_and_cloud_fill_in_is_left_alone() -> None:
    world = deployed(serving={"serviceType": "LoadBalancer"})
    assigned(world)
    is_idle(world)


PORT = {"name": "http", "port": 8000, "targetPort": "http", "protocol": "TCP"}


@pytest.mark.parametrize(
    "change",
    [
        {"selector": {"app": "evil"}},
        {"selector": {c.LABEL_NAME: c.NAME_SERVER, c.LABEL_MODEL: "demo", c.LABEL_REVISION: "x"}},
        {"ports": [{**PORT, "targetPort": 9, "nodePort": 30123}]},
        {"ports": [{**PORT, "nodePort": 30123}, {**PORT, "name": "more", "port": 9}]},
        {"ports": [{**PORT, "port": 9}]},
        {"type": "NodePort"},
    ],
)
def test_a_service_changed_by_hand_is_put_back_and_keeps_what_was_assigned(change: Body) -> None:
    world = deployed(serving={"serviceType": "LoadBalancer"})
    before = assigned(world)
    found = service(world)
    world.put({**found, "spec": {**found["spec"], **change}})
    world.settle()
    after = service(world)
    assert {key: after["spec"][key] for key in ("selector", "type", "clusterIP")} == {
        key: before["spec"][key] for key in ("selector", "type", "clusterIP")
    }
    kept = [{key: value for key, value in port.items() if key != "nodePort"} for port in after["spec"]["ports"]]
    assert kept == [PORT]
    if change.get("ports", [{}])[0].get("port") != 9:
        assert after["spec"]["ports"] == before["spec"]["ports"], "the port of the nodes stays"
    assert after["metadata"]["finalizers"]
    assert after["metadata"]["labels"]["team"] == "search"
    (drifts,) = [note[2] for note in world.new_events if note[1] == "PutBack"]
    assert f"Service demo: spec.{next(iter(change))}" in drifts
    is_cleared(world)


def test_a_label_that_was_taken_away_is_put_back() -> None:
    world = deployed()
    found = service(world)
    del found["metadata"]["labels"]["app.kubernetes.io/instance"]
    world.put(found)
    world.settle()
    assert service(world)["metadata"]["labels"]["app.kubernetes.io/instance"] == "demo"
    is_cleared(world)


def test_a_budget_changed_by_hand_is_put_back() -> None:
    shared = {"size": "40Gi", "accessMode": "ReadWriteMany"}
    world = deployed(storage=shared, serving={"replicas": 2})
    found = world.only("PodDisruptionBudget")
    found["spec"] = {"minAvailable": 2, "selector": {"matchLabels": {"app": "x"}}, "unhealthyPodEvictionPolicy": "x"}
    world.put(found)
    world.settle()
    spec = world.only("PodDisruptionBudget")["spec"]
    assert "minAvailable" not in spec, "the API server takes only one of the two"
    assert spec["maxUnavailable"] == 1
    assert spec["selector"]["matchLabels"] == service(world)["spec"]["selector"]
    is_cleared(world)


def test_a_policy_that_lets_nobody_in_is_stored_without_its_empty_rules() -> None:
    world = World(model_body())
    world.config = type(world.config)(server_image=world.config.server_image, network_peers=[])
    world.deploy()
    policy = world.only("NetworkPolicy")
    del policy["spec"]["ingress"]
    world.put(policy)
    is_idle(world)
    world.put({**policy, "spec": {**policy["spec"], "ingress": [{}]}})
    world.settle()
    assert world.only("NetworkPolicy")["spec"]["ingress"] == []
    is_cleared(world)


class Stubborn(World):
    """An admission policy writes its own type into every Service."""

    def reconcile(self) -> Any:
        made = super().reconcile()
        if self.all("Service") and getattr(self, "policy", False):
            found = self.only("Service")
            self.put({**found, "spec": {**found["spec"], "type": "NodePort"}})
        return made


def test_a_policy_that_rewrites_a_service_is_told_and_not_fought() -> None:
    world = Stubborn(model_body())
    world.deploy()
    world.policy = True  # type: ignore[attr-defined]
    for _ in range(60):
        world.reconcile()
        world.tick(1)
    patches = [call for call in world.kube.writes if (call.verb, call.kind) == ("patch", "Service")]
    assert len(patches) == 1, "once in ten minutes"
    assert world.condition("Drifted")["reason"] == "Rewritten"
    assert "Service demo: spec.type" in world.condition("Drifted")["message"]
    assert world.condition("Ready")["status"] == "True"
    world.policy = False  # type: ignore[attr-defined]
    world.tick(600)
    world.settle()
    assert service(world)["spec"]["type"] == "ClusterIP"
    is_cleared(world)


# the pods' template


OURS = {"manager": "vicuna-operator", "operation": "Update", "fieldsV1": {"f:spec": {"f:template": {}}}}
CONTROLLERS = {"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": {"f:metadata": {}}}

MARK: dict[str, Any] = {"f:annotations": {".": {}, "f:kubectl.kubernetes.io/restartedAt": {}}}
RESTARTED = {"manager": "kubectl-rollout", "fieldsV1": {"f:spec": {"f:template": {"f:metadata": MARK}}}}


def template(world: World) -> Body:
    found = world.only("Deployment")["spec"]["template"]
    assert isinstance(found, dict)
    return found


def put_template(world: World, new: Body) -> None:
    found = world.only("Deployment")
    found["spec"]["template"] = new
    found["metadata"]["generation"] += 1
    world.put(found)


def test_a_template_changed_by_hand_is_told_and_left_alone() -> None:
    world = deployed()
    before = template(world)
    after = json.loads(json.dumps(before))
    after["spec"]["containers"][0]["env"].append({"name": "EVIL", "value": "1"})
    put_template(world, after)
    name = world.only("Deployment")["metadata"]["name"]
    is_told(world, "PodTemplateChanged", name, f"kubectl delete deployment {name}")
    assert template(world) == after
    world.edit(serving={"replicas": 2})  # a change of our own does not make it ours
    world.settle()
    assert world.condition("Drifted")["reason"] == "PodTemplateChanged"
    put_template(world, before)
    is_cleared(world)


def test_a_deployment_made_anew_has_not_drifted() -> None:
    world = deployed()
    after = template(world)
    after["spec"]["containers"][0]["image"] = "nothing:1"
    put_template(world, after)
    world.settle()
    world.remove(world.only("Deployment"))
    world.settle()
    is_cleared(world)
    assert template(world)["spec"]["containers"][0]["image"] == "registry.example/server:1"


def test_what_admission_makes_of_a_new_deployment_is_not_drift() -> None:
    world = World(model_body())
    world.reconcile()
    world.end_job()
    world.reconcile()
    mutated = template(world)
    mutated["spec"]["containers"].append({"name": "istio-proxy", "image": "proxy:1"})
    mutated["spec"]["containers"][0]["image"] += "@sha256:" + "0" * 64
    found = world.only("Deployment")
    found["metadata"]["annotations"].pop(c.ANNOTATION_TEMPLATE, None)
    found["spec"]["template"] = mutated
    world.put(found)
    world.settle()
    is_cleared(world)


def test_a_restart_and_a_newer_servers_defaults_are_not_drift() -> None:
    world = deployed()
    after = template(world)
    after["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
    put_template(world, after)
    world.settle()
    assert world.condition("Drifted") == {}
    found = world.only("Deployment")
    found["spec"]["template"]["spec"]["somethingNew"] = "default"
    found["metadata"]["managedFields"] = [OURS, CONTROLLERS, RESTARTED]
    world.put(found)
    world.settle()
    is_cleared(world)


@pytest.mark.parametrize("manager", ["kubectl-set", "kubectl-edit"])
def test_what_another_manager_adds_is_drift_and_so_is_what_is_missing(manager: str) -> None:
    world = deployed()
    before = template(world)
    theirs = {"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": {"f:template": {"f:spec": {}}}}}
    for managers, change in (([OURS, theirs], {"somethingNew": "x"}), ([OURS, CONTROLLERS], {"volumes": []})):
        found = world.only("Deployment")
        found["metadata"]["managedFields"] = managers
        found["spec"]["template"] = {**before, "spec": {**before["spec"], **change}}
        world.put(found)
        world.settle()
        assert world.condition("Drifted")["reason"] == "PodTemplateChanged"


# labels


@pytest.mark.parametrize("kind", ["Job", "Deployment", "Pod"])
def test_a_policy_that_rewrites_a_label_is_told_by_the_labels_name(kind: str) -> None:
    world = deployed()
    for item in world.all(kind):
        if kind != "Pod" or c.LABEL_REVISION in item["metadata"]["labels"]:
            item["metadata"]["labels"][c.LABEL_MANAGED_BY] = "platform"
            world.put(item)
    is_told(world, "Rewritten", kind, "label app.kubernetes.io/managed-by is 'platform', not 'vicuna-operator'")


def test_a_claim_whose_label_a_policy_rewrote_is_still_ours() -> None:
    world = deployed()
    claim = world.find("PersistentVolumeClaim", "demo-weights")
    claim["metadata"]["labels"][c.LABEL_MANAGED_BY] = "platform"
    world.put(claim)
    world.settle()
    assert world.condition("Ready")["status"] == "True"
