"""`status` and `why` say so when nobody works on a model any more: its status is of then."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from support.world import World
from support.world_kubectl import WorldKubectl
from vicuna_operator.errors import PluginError
from vicuna_operator.plugin import commands

Capture = pytest.CaptureFixture[str]
Answer = Callable[[World], dict[str, Any]]


def renewed(seconds: int) -> Answer:
    def answer(world: World) -> dict[str, Any]:
        moment = world.now - timedelta(seconds=seconds)
        return {"spec": {"holderIdentity": "a", "renewTime": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}}

    return answer


def failing(words: str) -> Answer:
    def answer(_: World) -> dict[str, Any]:
        raise PluginError(words)

    return answer


class WithLeases(WorldKubectl):
    def __init__(self, world: World, answer: Answer) -> None:
        super().__init__(world)
        self.answer = answer

    def read(self, *words: str) -> dict[str, Any]:
        if words[1] != "leases.coordination.k8s.io":
            return super().read(*words)
        assert words[2:] == ("vicuna", "--namespace=vicuna-system")
        return self.answer(self.world)


def ready(**status: Any) -> World:
    world = World()
    world.deploy()
    world.put({**world.body, "status": {**world.status, **status}})
    return world


@pytest.mark.parametrize("command", [commands.status, commands.why])
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (renewed(3), ""),
        (renewed(90), ""),
        (renewed(-600), ""),
        (renewed(660), "no operator has renewed the Lease vicuna-system/vicuna for 11 min"),
        (failing('Error from server (NotFound): leases "vicuna" not found'), "does not exist"),
        (failing("Error from server (Forbidden): leases is forbidden"), ""),
        (lambda _: {"spec": {"renewTime": "soon"}}, "does not exist"),
    ],
)
def test_an_operator_that_is_away_is_told(command: Any, answer: Answer, told: str, capsys: Capture) -> None:
    world = ready(managedBy="vicuna-system/vicuna")
    assert command(WithLeases(world, answer), "demo", as_json=False, now=lambda: world.now) == 0
    captured = capsys.readouterr()
    assert told in captured.err
    assert bool(captured.err) is bool(told)
    assert "demo" in captured.out


@pytest.mark.parametrize("holder", ["", "nonsense", "/", "a/"])
def test_nobody_is_looked_for_where_nobody_is_named(holder: str, capsys: Capture) -> None:
    world = ready(managedBy=holder)
    assert commands.status(WithLeases(world, failing("NotFound")), "demo", as_json=False) == 0
    assert capsys.readouterr().err == ""
