"""A spec whose GPUs or volume cannot hold the weights is warned of when its revision is made."""

import json
from typing import Any

import pytest

from support.cluster import model_body
from support.world import ARTIFACT, World

SIZE = 26 * 10**9  # 13B in float16


def _warnings(size: object, merge: dict[str, Any], **serving: Any) -> list[str]:
    return _notes("GpuMemoryTooSmall", size, merge=merge, serving={"numGpus": 1, **serving})


def _notes(wanted: str, size: object, **spec: Any) -> list[str]:
    world = World(model_body(**{"storage": {"size": "200Gi"}, **spec}))
    world.reconcile()
    world.end_job(message=json.dumps({"reason": "Merged", "artifactID": ARTIFACT, "bytes": size}))
    world.settle()
    return [message for _, reason, message in world.new_events if reason == wanted]


@pytest.mark.parametrize(
    ("serving", "says"),
    [
        ({"maxGpuMemory": "20Gi"}, "24.2 GiB or more, numGpus x maxGpuMemory is 20.0 GiB"),
        ({"maxGpuMemory": "10Gi", "numGpus": 2}, "is 20.0 GiB"),
        ({"maxGpuMemory": "8Gi", "quantization": "int8"}, "12.1 GiB"),
        ({"maxGpuMemory": "5Gi", "quantization": "nf4"}, "6.1 GiB"),
        ({"maxGpuMemory": "30Gi", "dtype": "float32"}, "48.4 GiB"),
    ],
)
def test_what_cannot_fit_is_said_once_with_both_numbers(serving: dict[str, Any], says: str) -> None:
    (message,) = _warnings(SIZE, {}, **serving)
    assert says in message


@pytest.mark.parametrize("merge", [{"dtype": "float32"}, {"dtype": "auto"}])
def test_auto_is_the_artifacts_own_type(merge: dict[str, Any]) -> None:
    (message,) = _warnings(2 * SIZE, merge, maxGpuMemory="30Gi")
    assert "48.4 GiB" in message
    assert _warnings(2 * SIZE, merge, maxGpuMemory="50Gi") == []


@pytest.mark.parametrize(
    ("size", "merge", "serving"),
    [
        (SIZE, {}, {"maxGpuMemory": "30Gi"}),
        (SIZE, {}, {"maxGpuMemory": "13Gi", "numGpus": 2}),
        (SIZE, {}, {}),
        (2 * SIZE, {"dtype": "float32"}, {"maxGpuMemory": "30Gi", "dtype": "float16"}),
        (
            2 * SIZE,
            {"dtype": "auto"},
            {"maxGpuMemory": "30Gi", "dtype": "float16"},
        ),  # float32, perhaps
        ("many", {}, {"maxGpuMemory": "1Gi"}),
        (None, {}, {"maxGpuMemory": "1Gi"}),
    ],
)
def test_what_fits_or_is_not_known_is_not_warned_of(
    size: object, merge: dict[str, Any], serving: dict[str, Any]
) -> None:
    assert _warnings(size, merge, **serving) == []


def test_a_later_edit_is_warned_of_when_the_merge_pod_is_gone() -> None:
    world = World(model_body(serving={"numGpus": 1, "maxGpuMemory": "30Gi"}))
    world.reconcile()
    world.end_job(message=json.dumps({"reason": "Merged", "artifactID": ARTIFACT, "bytes": SIZE}))
    world.settle()
    for job in world.all("Job"):
        world.remove(world.find("Pod", f"{job['metadata']['name']}-abcde"))
    world.edit(serving={"maxGpuMemory": "20Gi"})
    world.settle()
    assert [reason for _, reason, _ in world.new_events].count("GpuMemoryTooSmall") == 1


def test_a_volume_without_room_for_the_kept_revisions_says_how_much_it_lacks() -> None:
    (message,) = _notes("StorageTooSmall", SIZE, storage={"size": "70Gi"})
    assert "has 70.0 GiB" in message
    assert "take 72.6 GiB, 2.6 GiB more" in message
    assert _notes("StorageTooSmall", SIZE, storage={"size": "70Gi", "keepRevisions": 1}) == []
    assert _notes("StorageTooSmall", None, storage={"size": "1Gi"}) == []
