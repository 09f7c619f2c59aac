"""Kubernetes objects as the API server gives them."""

import base64
from typing import Any

import pytest

from vicuna_server.gateway.catalogue import Endpoint
from vicuna_server.gateway.objects import endpoints_of, model_of, secret_entries, service_of

META = {"namespace": "team", "name": "vicuna", "creationTimestamp": "2026-11-25T00:00:00Z"}


def test_a_model_with_its_state() -> None:
    spec = {"serving": {"servedName": "chat", "maxStreamSeconds": 90}}
    waiting = {"type": "Ready", "status": "False", "reason": "Merging", "message": "40 % done"}
    model = model_of({"metadata": META, "spec": spec, "status": {"conditions": [{"type": "Other"}, waiting]}})
    assert (model.id, model.key, model.max_stream_seconds) == ("team/chat", ("team", "vicuna"), 90)
    assert (model.reason, model.message, model.created) == ("Merging", "40 % done", 1795564800)
    ready = {**waiting, "status": "True", "reason": "Ready"}
    assert model_of({"metadata": META, "spec": spec, "status": {"conditions": [ready]}}).reason == ""


def test_a_models_uids_of_now_and_before() -> None:
    body = {"metadata": META | {"uid": "now"}, "status": {"formerUIDs": ["a", "b"]}}
    assert (model_of(body).uid, model_of(body).former_uids) == ("now", ("a", "b"))
    assert (model_of({"metadata": META}).uid, model_of({"metadata": META}).former_uids) == ("", ())
    for odd in (None, "abc", {}, 5):
        assert model_of({"metadata": META, "status": {"formerUIDs": odd}}).former_uids == ()
    many = model_of({"metadata": META, "status": {"formerUIDs": ["x" * 1000] * 1000}}).former_uids
    assert (len(many), len(many[0])) == (10, 64)


@pytest.mark.parametrize("body", [{}, {"spec": None}, {"spec": {"serving": None}, "status": {"conditions": None}}])
def test_what_is_missing_has_its_default(body: dict[str, Any]) -> None:
    assert model_of({"metadata": META, **body}).id == "team/vicuna"


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


def test_a_secret_with_an_entry_that_is_no_base64() -> None:
    data = {"good": base64.b64encode(b"{}").decode(), "bad": "%%%"}
    assert secret_entries({"data": data}) == {"good": b"{}", "bad": b""}
    assert secret_entries({}) == {}
