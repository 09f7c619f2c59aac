"""Specs that cannot be followed name the field and the next step."""

from typing import Any

import pytest

from vicuna_operator.api.model import parse_model
from vicuna_operator.api.validation import parse_spec
from vicuna_operator.errors import SpecError


def raw(**changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"weights": {"base": {"source": "hf://org/base"}}, "storage": {"size": "10Gi"}}
    return spec | changes


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (raw(weights={}), "spec.weights.base"),
        (raw(weights={"base": {"source": "s3://bucket"}}), "spec.weights.base.source"),
        (raw(weights={"base": {"source": "hf://only-name"}}), "spec.weights.base.source"),
        (raw(weights={"base": {"source": "file:///weights"}}), "spec.weights.base.source"),
        (raw(weights={"base": {"source": "pvc://claim/../etc"}}), "spec.weights.base.source"),
        (raw(weights={"base": {"source": "pvc://claim"}}), "spec.weights.base.source"),
        (raw(weights={"base": {"source": "pvc://claim/x", "revision": "main"}}), "spec.weights.base.revision"),
        (raw(weights={"base": {"source": "hf://a/b", "digest": "12"}}), "spec.weights.base.digest"),
        (
            raw(weights={"base": {"source": "hf://a/b"}, "adapters": [{"source": "nothing"}]}),
            "spec.weights.adapters[0].source",
        ),
        (raw(serving={"device": "cuda", "numGpus": 0}), "spec.serving.numGpus"),
        (raw(serving={"maxGpuMemory": "lots"}), "spec.serving.maxGpuMemory"),
        (raw(serving={"maxGpuMemory": "1Gi", "numGpus": 0}), "spec.serving.maxGpuMemory"),
        (raw(serving={"replicas": -1}), "spec.serving.replicas"),
        (raw(serving={"dtype": "int4"}), "spec.serving.dtype"),
        (raw(storage={"claimName": "x", "size": "1Gi"}), "spec.storage.size"),
        (raw(storage={}), "spec.storage.size"),
        (raw(storage={"size": "0"}), "spec.storage.size"),
        (None, "spec"),
    ],
)
def test_wrong_specs_name_the_field(spec: dict[str, Any] | None, field: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(spec, name="demo")
    (fault,) = caught.value.faults
    assert fault.field == field
    assert fault.message


@pytest.mark.parametrize("name", ["7b", "Demo", "a.b", "x" * 41, "a_b", "a-"])
def test_names_that_no_service_can_have_are_refused(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(raw(), name=name)
    assert [fault.field for fault in caught.value.faults] == ["metadata.name"]


def test_all_faults_of_a_spec_are_named_with_what_was_found() -> None:
    weights = {"base": {"source": "pvc://claim"}, "delta": {"source": "s3://bucket", "digest": "12"}}
    with pytest.raises(SpecError) as caught:
        parse_spec(raw(weights=weights, serving={"replicas": "many"}, storage={"size": []}), name="7b")
    assert sorted(fault.field for fault in caught.value.faults) == [
        "metadata.name",
        "spec.serving.replicas",
        "spec.storage.size",
        "spec.weights.base.source",
        "spec.weights.delta.digest",
        "spec.weights.delta.source",
    ]
    assert "spec.serving.replicas: found 'many'; input should be a valid integer" in str(caught.value)


def test_an_unknown_field_is_ignored() -> None:
    assert parse_spec(raw(serving={"newInTheNextVersion": 1}), name="demo").serving.replicas == 1


def test_local_runs_may_use_files_and_need_no_size() -> None:
    spec = parse_spec({"weights": {"base": {"source": "file:///weights"}}}, name="demo", local=True)
    assert spec.storage.size is None


def test_a_wrong_spec_is_part_of_the_model_not_an_exception() -> None:
    model = parse_model({"metadata": {"name": "demo", "namespace": "n", "uid": "u"}, "spec": {}})
    assert model.spec is None
    assert model.spec_error is not None
