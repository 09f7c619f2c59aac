"""What stands beside the revisions: the Service, the PodDisruptionBudget and the NetworkPolicy."""

from dataclasses import replace
from typing import Any

from support.cluster import model_body
from support.world import World
from vicuna_operator.api.model import parse_model
from vicuna_operator.resources.prune_job import prune_job

SHARED = {"size": "40Gi", "accessMode": "ReadWriteMany"}


def budgets(world: World) -> int:
    return len(world.all("PodDisruptionBudget"))


def test_two_replicas_have_a_budget_and_one_has_none() -> None:
    world = World(model_body(storage=SHARED, serving={"replicas": 2}))
    world.deploy()
    budget = world.only("PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    labels = {pod["metadata"]["name"]: pod["metadata"]["labels"] for pod in world.server_pods()}
    for found in labels.values():
        assert budget["spec"]["selector"]["matchLabels"].items() <= found.items()
    world.edit(serving={"replicas": 1})
    world.settle()
    assert budgets(world) == 0
    world.edit(serving={"replicas": 3})
    world.settle()
    assert budgets(world) == 1


def test_a_volume_of_one_node_has_none_as_pods_could_never_leave_it_one_at_a_time() -> None:
    world = World(model_body(serving={"replicas": 2}))
    world.deploy()
    assert budgets(world) == 0


def test_pods_that_are_not_ready_hold_up_no_drain_and_an_api_server_that_does_not_know_that_is_not_fought() -> None:
    world = World(model_body(storage=SHARED, serving={"replicas": 2}))
    world.deploy()
    budget = world.only("PodDisruptionBudget")
    assert budget["spec"].pop("unhealthyPodEvictionPolicy") == "AlwaysAllow"
    world.remove(budget)
    world.put(budget)
    assert world.reconcile().actions == []


def test_a_cluster_without_policy_v1_gets_none() -> None:
    world = World(model_body(storage=SHARED, serving={"replicas": 2}))
    world.budgets_offered = False
    world.deploy()
    assert budgets(world) == 0
    assert world.condition("Ready")["status"] == "True"


def test_what_somebody_changed_in_a_budget_of_ours_without_its_hash_is_put_back() -> None:
    world = World(model_body(storage=SHARED, serving={"replicas": 2}))
    world.deploy()
    budget = world.only("PodDisruptionBudget")
    wanted = budget["metadata"]["annotations"].pop("vicuna.dev/applied-hash")
    budget["spec"]["maxUnavailable"] = 2
    world.put(budget)
    world.settle()
    assert world.only("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert world.only("PodDisruptionBudget")["metadata"]["annotations"]["vicuna.dev/applied-hash"] == wanted


def test_a_foreign_budget_is_left_alone() -> None:
    world = World(model_body(storage=SHARED, serving={"replicas": 1}))
    foreign = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "demo"}}
    world.put({**foreign, "spec": {"minAvailable": 1}})
    world.deploy()
    world.edit(serving={"replicas": 2})
    world.settle()
    assert world.only("PodDisruptionBudget")["spec"] == {"minAvailable": 1}


PEER: dict[str, Any] = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "vicuna-operator-gateway"}}}


def policies(world: World) -> list[list[dict[str, object]]]:
    return [item["spec"]["ingress"] for item in world.all("NetworkPolicy")]


def test_a_policy_comes_changes_and_goes_with_the_operators_setting() -> None:
    world = World(model_body())
    world.deploy()
    assert policies(world) == []
    for peers in ([PEER], [PEER, {"ipBlock": {"cidr": "10.0.0.0/8"}}]):
        world.config = replace(world.config, network_peers=peers)
        world.settle()
        assert policies(world) == [[{"from": peers, "ports": [{"port": "http", "protocol": "TCP"}]}]]
    (pod,) = world.server_pods()
    assert selected(world.only("NetworkPolicy"), pod["metadata"]["labels"])
    world.config = replace(world.config, network_peers=[])
    world.settle()
    assert policies(world) == [[]]  # nobody is let in
    world.config = replace(world.config, network_peers=None)
    world.settle()
    assert policies(world) == []


def selected(policy: dict[str, Any], labels: dict[str, str]) -> bool:
    selector = policy["spec"]["podSelector"]
    terms = selector["matchExpressions"]
    assert {term["operator"] for term in terms} == {"In"}
    exact = selector["matchLabels"].items() <= labels.items()
    return exact and all(labels.get(term["key"]) in term["values"] for term in terms)


def test_merges_and_clean_ups_are_shielded_from_the_first_on_and_let_nobody_in() -> None:
    world = World(model_body())
    world.config = replace(world.config, network_peers=[PEER])
    world.reconcile()
    policy, merge = world.only("NetworkPolicy"), world.only("Job")
    subject = parse_model(world.body)
    clean_up = prune_job(subject, keep={"a" * 16}, image="i", pull_policy="Always", shared_volume=False)
    (rule,) = policy["spec"]["ingress"]
    for job in (merge, clean_up):
        template = job["spec"]["template"]
        assert selected(policy, template["metadata"]["labels"])
        (container,) = template["spec"]["containers"]
        assert "ports" not in container, "a rule for a port by its name lets nobody in where there is none"
    assert rule["ports"] == [{"port": "http", "protocol": "TCP"}]
    others = {"vicuna.dev/model": "demo"}, {"vicuna.dev/model": "other", "app.kubernetes.io/name": "vicuna-merge"}
    assert not any(selected(policy, labels) for labels in others)
    world.settle()
    world.deploy()
    assert all(selected(policy, pod["metadata"]["labels"]) for pod in world.server_pods())


def test_a_policy_of_an_earlier_version_is_taken_over() -> None:
    world = World(model_body())
    world.config = replace(world.config, network_peers=[PEER])
    world.deploy()
    policy = world.only("NetworkPolicy")
    wanted = policy["spec"]["podSelector"]
    policy["spec"]["podSelector"] = {
        "matchLabels": {"app.kubernetes.io/name": "vicuna-server", "vicuna.dev/model": "demo"}
    }
    policy["metadata"]["annotations"]["vicuna.dev/applied-hash"] = "former"
    world.put(policy)
    made = world.reconcile()
    assert [type(action).__name__ for action in made.actions] == ["Apply"]
    world.settle()  # API servers before 1.21 keep the former label when another selector is applied
    assert world.only("NetworkPolicy")["spec"]["podSelector"] == wanted


def test_a_foreign_policy_is_left_alone() -> None:
    world = World(model_body())
    foreign = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "demo"}}
    world.put({**foreign, "spec": {"ingress": []}})
    world.deploy()
    world.config = replace(world.config, network_peers=[PEER])
    world.settle()
    assert world.only("NetworkPolicy")["spec"] == {"ingress": []}
