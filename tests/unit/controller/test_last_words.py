"""What vLLM printed before it ended is read from its container's log, once for each end."""

import asyncio
from typing import Any

import pytest

from support.memory_kube import MemoryKube
from vicuna_contract import names as c
from vicuna_operator.controller.last_words import with_last_words
from vicuna_operator.controller.model_state import ModelState
from vicuna_operator.planning.failures import server_failure
from vicuna_operator.planning.pods import PodView

ENDED = {"exitCode": 0, "finishedAt": "2026-01-01T00:00:00Z"}
RUNS: dict[str, Any] = {"running": {}}


def pod(*, ready: bool = False, deleting: bool = False, name: str = c.ENGINE_CONTAINER, **state: Any) -> PodView:
    metadata: dict[str, Any] = {"name": "p", "uid": "u", "labels": {c.LABEL_NAME: c.NAME_SERVER}}
    metadata |= {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {}
    front = {"name": c.SERVER_CONTAINER, "state": RUNS}
    containers = [front, {"name": name, **state}] if name != c.SERVER_CONTAINER else [{"name": name, **state}]
    conditions = [{"type": "Ready", "status": str(ready)}]
    return PodView.of({"metadata": metadata, "status": {"containerStatuses": containers, "conditions": conditions}})


class Reader:
    def __init__(self, text: str | None = "one\nCUDA out of memory\nlast") -> None:
        self.kube, self.state = MemoryKube(), ModelState("uid")
        if text is not None:
            self.kube.pod_logs["ns", "p", c.ENGINE_CONTAINER] = text

    def told(self, *pods: PodView) -> tuple[PodView, ...]:
        return asyncio.run(with_last_words(self.kube, "ns", pods, self.state))

    @property
    def reads(self) -> list[str]:
        return [call.name for call in self.kube.calls if call.verb == "logs"]


def test_the_cause_stands_above_the_last_lines() -> None:
    reader = Reader("CUDA out of memory\n" + "a later line\n" * 100)
    (found,) = reader.told(pod(state={"terminated": ENDED}))
    failure = server_failure(found)
    assert failure is not None
    assert failure.reason == "OutOfMemory"
    assert failure.log.splitlines() == ["a later line"] * 12


@pytest.mark.parametrize(
    ("state", "read"),
    [
        ({"state": {"terminated": ENDED}}, "p"),
        ({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ENDED}}, "p --previous"),
        ({"state": RUNS, "lastState": {"terminated": ENDED}, "restartCount": 1}, "p --previous"),
    ],
)
def test_it_is_the_log_of_the_try_that_ended(state: dict[str, Any], read: str) -> None:
    reader = Reader()
    (found,) = reader.told(pod(**state))
    ended = found.terminated or found.last_terminated
    assert ended is not None
    assert ended.message.endswith("last")
    assert reader.reads == [read]


@pytest.mark.parametrize(
    "seen",
    [
        pod(state=RUNS),
        pod(ready=True, state=RUNS, lastState={"terminated": ENDED}, restartCount=1),
        pod(deleting=True, state={"terminated": ENDED}),
        pod(name=c.SERVER_CONTAINER, state={"terminated": ENDED}),
        pod(name="istio-proxy", state={"terminated": ENDED}),
    ],
    ids=["it runs", "it serves again", "it was told to end", "a server", "a sidecar"],
)
def test_otherwise_nothing_is_read(seen: PodView) -> None:
    reader = Reader()
    assert reader.told(seen) == (seen,)
    assert reader.reads == []


def test_each_end_is_read_once_and_forgotten_with_its_pod() -> None:
    reader = Reader()
    first = reader.told(pod(state={"terminated": ENDED}))
    assert reader.told(pod(state={"terminated": ENDED})) == first
    assert len(reader.reads) == 1
    reader.told(pod(state={"terminated": {**ENDED, "finishedAt": "2026-01-01T00:01:00Z"}}, restartCount=1))
    assert len(reader.reads) == 2
    reader.told()
    assert reader.state.last_words == {}


def test_where_the_log_is_not_to_be_had_the_termination_message_remains() -> None:
    reader = Reader(None)
    (found,) = reader.told(pod(state={"terminated": {**ENDED, "exitCode": 1, "message": "of the kubelet"}}))
    assert found.terminated is not None
    assert found.terminated.message == "of the kubelet"
