"""Watched namespaces that are gone, forbidden, and there again."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from vicuna_operator.controller.app import _exit_code
from vicuna_operator.controller.namespaces import Reach, find_reach, until_changed
from vicuna_operator.errors import ForbiddenError, KubeError, NotFoundError, UnavailableError


class Kube:
    """Answers lists; `no` says what comes of them in a namespace (None: in all)."""

    def __init__(self, **no: KubeError) -> None:
        self.no: dict[str, KubeError] = no
        self.asked: list[tuple[str | None, str]] = []
        self.more = asyncio.Condition()

    async def list(self, api_version: str, kind: str, namespace: str | None, **_: Any) -> Sequence[object]:
        async with self.more:
            self.asked.append((namespace, kind))
            self.more.notify_all()
        if (error := self.no.get(namespace or "all")) is not None:
            raise error
        return []


def _reach(kube: Kube, *names: str) -> Reach:
    return asyncio.run(find_reach(kube, names))  # type: ignore[arg-type]


async def _changed(kube: Kube, reach: Reach) -> str:
    return await until_changed(kube, reach, every=0.001)  # type: ignore[arg-type]


def test_everything_that_is_watched_is_tried_in_every_namespace() -> None:
    kube = Kube()
    assert _reach(kube, "one", "two") == Reach(("one", "two"), {})
    assert {name for name, _ in kube.asked} == {"one", "two"}
    assert len({kind for _, kind in kube.asked}) == 6


def test_the_whole_cluster_is_one_place() -> None:
    assert _reach(Kube()) == Reach()
    with pytest.raises(ForbiddenError):
        _reach(Kube(all=ForbiddenError("no", 403)))


@pytest.mark.parametrize("error", [ForbiddenError("no", 403), NotFoundError("gone", 404)])
def test_one_that_may_not_be_read_is_left_out(error: ForbiddenError | NotFoundError) -> None:
    assert _reach(Kube(two=error), "one", "two", "three") == Reach(("one", "three"), {"two": error})


def test_where_none_may_be_read_that_is_an_error() -> None:
    error = ForbiddenError("no", 403)
    with pytest.raises(ForbiddenError):
        _reach(Kube(one=error, two=error), "one", "two")


def test_an_api_server_that_is_away_says_nothing_of_namespaces() -> None:
    with pytest.raises(UnavailableError):
        _reach(Kube(two=UnavailableError("away", 503)), "one", "two")


async def test_a_change_is_told_in_either_direction() -> None:
    kube, error = Kube(), ForbiddenError("no", 403)
    waiting = asyncio.create_task(_changed(kube, Reach(("one", "two"))))
    kube.no = {"one": UnavailableError("away", 503)}
    await _asked_again(kube)
    kube.no = {"one": error, "two": error}  # as while an API server starts
    await _asked_again(kube)
    assert not waiting.done()
    kube.no = {"two": error}
    assert await asyncio.wait_for(waiting, 10) == "two"
    assert await asyncio.wait_for(_changed(Kube(), Reach(("one",), {"two": error})), 10) == "two"


async def _asked_again(kube: Kube) -> None:
    """Wait until two more looks are over."""
    before = len(kube.asked)
    async with asyncio.timeout(10):
        async with kube.more:
            await kube.more.wait_for(lambda: len(kube.asked) >= before + 4)


@pytest.mark.parametrize(("error", "code"), [(None, 0), (RuntimeError("odd"), 1)])
async def test_the_process_starts_again_for_a_change_and_ends_in_order_for_a_fault(
    error: Exception | None, code: int
) -> None:
    async def look() -> str:
        if error is not None:
            raise error
        return "two"

    async def last() -> Any:
        await asyncio.Event().wait()

    holding, stopping, watching, leading = (asyncio.create_task(last()) for _ in range(4))
    changing = asyncio.create_task(look())
    await asyncio.wait({changing})
    assert _exit_code(holding, stopping, changing, watching, leading) == code
    for task in (holding, stopping, watching, leading):
        task.cancel()
    await asyncio.gather(holding, stopping, watching, leading, return_exceptions=True)
