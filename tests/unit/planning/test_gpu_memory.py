"""A spec whose GPUs cannot hold the weights is warned of when its revision is made."""

import json
from typing import Any

import pytest

from support.world import ARTIFACT, World, model_body

SIZE = 26 * 10**9  # 13B in float16


def _warnings(size: object, merge: dict[str, Any], **serving: Any) -> list[str]:
    world = World(model_body(merge=merge, serving={"numGpus": 1, **serving}))
    world.reconcile()
    world.end_job(message=json.dumps({"reason": "Merged", "artifactID": ARTIFACT, "bytes": size}))
    world.settle()
    return [message for _, reason, message in world.notes if reason == "GpuMemoryTooSmall"]


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


@pytest.mark.parametrize(
    ("size", "merge", "serving"),
    [
        (SIZE, {}, {"maxGpuMemory": "30Gi"}),
        (SIZE, {}, {"maxGpuMemory": "13Gi", "numGpus": 2}),
        (SIZE, {}, {}),
        (2 * SIZE, {"dtype": "float32"}, {"maxGpuMemory": "30Gi"}),
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
    for pod in [pod for pod in world.all("Pod") if pod["owner"][0] == "Job"]:
        world.remove(pod)
    world.edit(serving={"maxGpuMemory": "20Gi"})
    world.settle()
    assert [reason for _, reason, _ in world.notes].count("GpuMemoryTooSmall") == 1
