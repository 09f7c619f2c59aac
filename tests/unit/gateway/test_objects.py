"""Kubernetes objects as the API server gives them."""

import base64
from typing import Any

import pytest

from vicuna_server.gateway.catalogue import Endpoint
from vicuna_server.gateway.model import Model
from vicuna_server.gateway.objects import endpoints_of, model_of, of_pods, secret_entries, service_of
from vicuna_server.protocol.responses.ids import replica_tag

META = {"namespace": "team", "name": "vicuna", "creationTimestamp": "2026-11-25T00:00:00Z"}
MANAGED = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}


def read(body: dict[str, Any]) -> Model:
    model = model_of(body)
    assert model is not None
    return model


def test_a_model_with_its_state() -> None:
    spec = {"serving": {"servedName": "chat", "maxStreamSeconds": 90}}
    waiting = {"type": "Ready", "status": "False", "reason": "Merging", "message": "40 % done"}
    model = read({"metadata": META, "spec": spec, "status": {"conditions": [{"type": "Other"}, waiting]}})
    assert (model.id, model.key, model.max_stream_seconds) == ("team/chat", ("team", "vicuna"), 90)
    assert (model.reason, model.message, model.created) == ("Merging", "40 % done", 1795564800)
    ready = {**waiting, "status": "True", "reason": "Ready"}
    assert read({"metadata": META, "spec": spec, "status": {"conditions": [ready]}}).reason == ""


def test_after_how_long_streams_are_handed_over() -> None:
    def seconds(rollout: object) -> float | None:
        return read({"metadata": META, "spec": {"serving": {"rollout": rollout}}}).hand_over_seconds

    assert seconds({"handOverSeconds": 30}) == 30
    odds: list[object] = [
        {},
        None,
        [],
        "x",
        {"handOverSeconds": None},
        {"handOverSeconds": 0},
        {"handOverSeconds": "5"},
    ]
    for odd in odds:
        assert seconds(odd) is None
    assert read({"metadata": META}).hand_over_seconds is None
    assert read({"metadata": META}).max_stream_seconds == 600


def test_a_models_uids_of_now_and_before() -> None:
    body = {"metadata": META | {"uid": "now"}, "status": {"formerUIDs": ["a", "b"]}}
    assert (read(body).uid, read(body).former_uids) == ("now", ("a", "b"))
    assert (read({"metadata": META}).uid, read({"metadata": META}).former_uids) == ("", ())
    odds: list[object] = [None, "abc", {}, 5]
    for odd in odds:
        assert read({"metadata": META, "status": {"formerUIDs": odd}}).former_uids == ()
    many = read({"metadata": META, "status": {"formerUIDs": ["x" * 1000] * 1000}}).former_uids
    assert (len(many), len(many[0])) == (10, 64)


STALLED = {"conditions": [{"type": "Stalled", "status": "True"}]}
STALLED_ASLEEP = [*STALLED["conditions"], {"type": "Available", "status": "True"}]


@pytest.mark.parametrize(
    ("body", "may_come"),
    [
        ({}, True),
        ({"status": {"conditions": [{"type": "Stalled", "status": "False"}]}}, True),
        ({"status": STALLED}, False),
        ({"spec": {"suspend": True}}, False),
        ({"spec": {"serving": {"replicas": 0}}}, False),
        ({"spec": {"serving": {"replicas": 0, "autoscaling": {}}}}, True),
        ({"spec": {"serving": {"replicas": 0, "autoscaling": None}}}, False),
        ({"spec": {"suspend": True, "serving": {"autoscaling": {}}}}, False),
        ({"spec": {"serving": {"autoscaling": {}}}, "status": STALLED}, False),
        ({"spec": {"serving": {"autoscaling": {}}}, "status": {"conditions": STALLED_ASLEEP}}, True),
    ],
)
def test_whether_a_server_may_come_where_none_is_ready(body: dict[str, Any], may_come: bool) -> None:
    assert read({"metadata": META, **body}).may_come is may_come
    assert not read({"metadata": META | {"deletionTimestamp": "2026-11-25T00:00:00Z"}, **body}).may_come


def test_how_many_requests_a_server_is_to_have() -> None:
    scaled = {"autoscaling": {"targetRequests": 4}, "maxConcurrency": 8}
    assert read({"metadata": META, "spec": {"serving": scaled}}).at_once == 4
    assert read({"metadata": META, "spec": {"serving": {**scaled, "autoscaling": {}}}}).at_once == 8
    assert read({"metadata": META, "spec": {"serving": scaled}}).autoscaled
    for odd in ("x", True, -1, 0, 10**9):
        model = read({"metadata": META, "spec": {"serving": {"maxConcurrency": odd}}})
        assert (model.at_once, model.autoscaled) == (32, False)


@pytest.mark.parametrize("body", [{}, {"spec": None}, {"spec": {"serving": None}, "status": {"conditions": None}}])
def test_what_is_missing_has_its_default(body: dict[str, Any]) -> None:
    assert read({"metadata": META, **body}).id == "team/vicuna"


def test_only_ready_endpoints_that_do_not_terminate_count() -> None:
    def endpoint(address: str, **conditions: object) -> dict[str, object]:
        return {"addresses": [address], "conditions": conditions}

    body = {
        "metadata": {"namespace": "team", "name": "vicuna-1", "labels": {"kubernetes.io/service-name": "vicuna"}},
        "ports": [{"name": "other", "port": 1}, {"name": "http", "port": 8000}],
        "endpoints": [
            endpoint("10.0.0.1", ready=True),
            endpoint("10.0.0.2", ready=False),
            endpoint("10.0.0.3", ready=True, serving=True, terminating=True),
            endpoint("fd00::1"),
            {"addresses": ["10.0.0.4"]},
            {"addresses": []},
        ],
    }
    found = [Endpoint("http://10.0.0.1:8000"), Endpoint("http://[fd00::1]:8000"), Endpoint("http://10.0.0.4:8000")]
    assert list(endpoints_of(body)) == found
    assert service_of(body) == ("team", "vicuna")
    assert list(endpoints_of({**body, "ports": None})) == []


def _slice(**changes: Any) -> dict[str, Any]:
    target = {"kind": "Pod", "namespace": "team", "name": "vicuna-0123abcd-5b6f7-x2x9z", "uid": "u"}
    endpoint = {"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "targetRef": target}
    labels = {"kubernetes.io/service-name": "vicuna", **MANAGED}
    body = {
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"namespace": "team", "name": "vicuna-1", "labels": {**labels, **changes.pop("labels", {})}},
        "ports": [{"name": "http", "port": 8000}],
        "endpoints": [endpoint | {key: value for key, value in changes.items() if key != "target"}],
    }
    target |= changes.get("target", {})
    return body


def test_the_pods_of_a_model_count_and_as_kubernetes_1_20_lists_them_too() -> None:
    assert list(of_pods(_slice())) == [Endpoint("http://10.0.0.1:8000", "0123abcd")]
    assert [found.replica for found in of_pods(_slice())] == [replica_tag("vicuna-0123abcd-5b6f7-x2x9z")]
    old = _slice(topology={"kubernetes.io/hostname": "node"})
    assert list(of_pods({**old, "apiVersion": "discovery.k8s.io/v1beta1", "addressType": "IPv4"}))


@pytest.mark.parametrize(
    ("pod", "revision"),
    [
        ("vicuna-0123abcd-5b6f7dd886-x2x9z", "0123abcd"),
        ("vicuna-0123abcd", "0123abcd"),
        ("vicuna-0123abc-5b6f7-x2x9z", ""),
        ("vicuna-0123abcde-x2x9z", ""),
        ("vicuna-0123ABCD-x2x9z", ""),
        ("vicuna--0123abcd", ""),
        ("vicuna-٣٣٣٣٣٣٣٣-x", ""),
        ("vicuna-0123abcd\n-x", ""),
    ],
)
def test_the_revision_is_that_of_the_deployment_that_named_the_pod(pod: str, revision: str) -> None:
    assert [each.revision for each in of_pods(_slice(target={"name": pod}))] == [revision]


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"endpointslice.kubernetes.io/managed-by": "me"}},
        {"labels": {"endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io"}},
        {"labels": {"endpointslice.kubernetes.io/managed-by": None}},
        {"labels": {"kubernetes.io/service-name": "other"}},
        {"labels": {"kubernetes.io/service-name": ""}},
        {"targetRef": None},
        {"targetRef": "vicuna-0123abcd-5b6f7-x2x9z"},
        {"target": {"kind": "Node"}},
        {"target": {"namespace": "team-b"}},
        {"target": {"namespace": None}},
        {"target": {"name": "victim-0123abcd-5b6f7-x2x9z"}},
        {"target": {"name": "vicunas-0123abcd-5b6f7-x2x9z"}},
        {"target": {"name": "vicuna"}},
        {"target": {"name": None}},
        {"addresses": ["victim.team-b.svc"]},
        {"addresses": ["10.0.0.1@evil.example"]},
        {"addresses": ["10.0.0.1/x?"]},
        {"addresses": ["fe80::1%eth0"]},
    ],
)
def test_what_points_elsewhere_than_at_the_models_pods_does_not_count(change: dict[str, Any]) -> None:
    assert list(of_pods(_slice(**change))) == []


def test_a_secret_with_an_entry_that_is_no_base64() -> None:
    data = {"good": base64.b64encode(b"{}").decode(), "bad": "%%%"}
    assert secret_entries({"data": data}) == {"good": b"{}", "bad": b""}
    assert secret_entries({}) == {}
