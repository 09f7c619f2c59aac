"""What makes another merge, another revision, another series, and what does not."""

from typing import Any

import pytest

from vicuna_operator.api.types import VicunaModelSpec
from vicuna_operator.api.validation import parse_spec
from vicuna_operator.resources.identity import merge_key, merge_series, revision


def spec(**changes: Any) -> VicunaModelSpec:
    raw: dict[str, Any] = {
        "weights": {"base": {"source": "pvc://inputs/base"}, "delta": {"source": "pvc://inputs/delta"}},
        "storage": {"size": "1Gi"},
    }
    for key, value in changes.items():
        raw[key] = {**raw.get(key, {}), **value} if isinstance(value, dict) else value
    return parse_spec(raw, name="demo")


def of(subject: VicunaModelSpec) -> str:
    return revision(subject, artifact_id="0" * 16, image="server:1")


def test_the_identities_are_pinned() -> None:
    # A change here renames every Job and Deployment of every cluster: it must be meant.
    assert merge_key(spec()) == "9517d7ff7d"
    assert of(spec()) == "ed21edcd"


@pytest.mark.parametrize(
    "change",
    [
        {"weights": {"base": {"source": "pvc://inputs/other"}}},
        {"weights": {"base": {"source": "pvc://inputs/base", "digest": "a" * 64}}},
        {"weights": {"delta": None}},
        {"weights": {"delta": {"source": "pvc://inputs/delta", "kind": "alpaca"}}},
        {"merge": {"dtype": "bfloat16"}},
    ],
)
def test_what_is_merged_makes_the_key(change: dict[str, Any]) -> None:
    assert merge_key(spec(**change)) != merge_key(spec())


@pytest.mark.parametrize(
    "change",
    [
        {"weights": {"credentialsSecret": "token"}},
        {"merge": {"retries": 7, "resources": {"limits": {"memory": "3Gi"}}}},
        {"serving": {"replicas": 5, "numGpus": 2}},
        {"storage": {"size": "9Gi"}},
        {"weights": {"delta": {"source": "pvc://inputs/delta", "kind": "auto"}}},
    ],
)
def test_how_it_is_merged_does_not(change: dict[str, Any]) -> None:
    assert merge_key(spec(**change)) == merge_key(spec())


@pytest.mark.parametrize(
    "serving",
    [{"numGpus": 2}, {"maxConcurrency": 8}, {"env": [{"name": "A", "value": "b"}]}, {"chatTemplate": "alpaca"}],
)
def test_what_changes_the_pods_makes_the_revision(serving: dict[str, Any]) -> None:
    assert of(spec(serving=serving)) != of(spec())


@pytest.mark.parametrize(
    "serving",
    [
        {"replicas": 7},
        {"rollout": {"strategy": "Drain"}},
        {"serviceType": "NodePort"},
        {"maxConcurrency": 32, "device": "auto", "env": []},
    ],
)
def test_size_rollout_and_stated_defaults_do_not(serving: dict[str, Any]) -> None:
    assert of(spec(serving=serving)) == of(spec())


def test_artifact_image_and_claim_make_the_revision() -> None:
    assert revision(spec(), artifact_id="1" * 16, image="server:1") != of(spec())
    assert revision(spec(), artifact_id="0" * 16, image="server:2") != of(spec())
    assert of(spec(storage={"size": None, "claimName": "other"})) != of(spec())


def test_a_series_ends_with_what_could_cure_the_failure() -> None:
    def series(subject: VicunaModelSpec, retry: str = "") -> str:
        return merge_series(subject, claim="demo-weights", retry=retry)

    assert series(spec(merge={"retries": 9})) == series(spec())
    assert series(spec(serving={"replicas": 3, "maxConcurrency": 1})) == series(spec())
    for cured in (
        spec(merge={"resources": {"limits": {"memory": "3Gi"}}}),
        spec(weights={"credentialsSecret": "token"}),
        spec(serving={"chatTemplate": "alpaca"}),
        spec(storage={"size": "9Gi"}),
    ):
        assert series(cured) != series(spec())
    assert series(spec(), retry="1") != series(spec())
