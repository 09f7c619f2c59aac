"""Claims that models name, whoever made them: a change wakes the models that name them, and no others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from support.memory_kube import MemoryKube
from vicuna_operator.api.model import Model, parse_model
from vicuna_operator.controller.claims import Claims
from vicuna_operator.controller.following import follow
from vicuna_operator.errors import UnavailableError
from vicuna_operator.kube.watch import ExpiredError, ObjectIdentity, Page
from vicuna_operator.planning.plan import claims_to_read

CLAIM = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "mine"}}
KEY = ("team", "m")
Step = Page[ObjectIdentity] | Exception | asyncio.Event | Callable[[], object]


def model(name: str = "m", claim: str | None = "mine", base: str = "pvc://mine/base") -> Model:
    storage = {"claimName": claim} if claim else {"size": "1Gi"}
    body = {
        "apiVersion": "vicuna.dev/v1alpha1",
        "kind": "VicunaModel",
        "metadata": {"name": name, "namespace": "team", "uid": name, "generation": 1},
        "spec": {"weights": {"base": {"source": base}}, "storage": storage},
    }
    return parse_model(body)


def mark(name: str = "mine", uid: str = "1", *, deleting: bool = False, namespace: str = "team") -> ObjectIdentity:
    return ObjectIdentity(namespace, name, uid, deleting)


class Source:
    """A watch by a script: lists, then what each watch tells until its answer ends."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.lists = 0
        self.asked: list[str] = []
        self.listed: Sequence[Page[ObjectIdentity]] = (Page("1", [mark()]),)
        self.done = asyncio.Event()

    async def pages(self, namespace: str | None) -> AsyncIterator[Page[ObjectIdentity]]:
        self.lists += 1
        for page in self.listed:
            yield page

    async def changes(self, namespace: str | None, version: str) -> AsyncIterator[Page[ObjectIdentity]]:
        self.asked.append(version)
        while self.steps:
            step = self.steps.pop(0)
            if isinstance(step, Exception):
                raise step
            if isinstance(step, Page):
                yield step
            elif callable(step):
                step()
        self.done.set()
        await asyncio.Event().wait()


class World:
    def __init__(self) -> None:
        self.woken: list[tuple[str, str]] = []
        self.kube = MemoryKube()
        self.kube.put(CLAIM, "team")
        self.claims = Claims(self.kube, claims_to_read, self.woken.append)

    async def watch(self, source: Source) -> list[tuple[str, str]]:
        """Run a script; return who was woken by what was watched, not by the first list."""
        watching = asyncio.create_task(follow(source, self.claims, what="claims", sleep=self._sleep))
        async with asyncio.timeout(10):
            await source.done.wait()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        return self.woken

    async def _sleep(self, _: float) -> None:
        await asyncio.sleep(0)


@pytest.fixture
async def world() -> World:
    world = World()
    await world.claims.read(model())
    return world


async def test_a_claim_that_is_being_deleted_gone_or_made_anew_wakes_its_model_each_time(world: World) -> None:
    told: list[int] = []
    steps: list[Step] = []
    for page in (
        Page("2", [mark(deleting=True)]),
        Page("3", gone=[mark().place]),
        Page("4", [mark(uid="2")]),
    ):
        steps += [page, lambda: told.append(len(world.woken))]
    woken = await world.watch(Source(lambda: told.append(len(world.woken)), *steps))
    assert told == [1, 2, 3, 4]
    assert set(woken) == {KEY}


async def test_what_else_changes_in_a_claim_and_other_claims_wake_nobody(world: World) -> None:
    before = Source()
    await world.watch(before)
    count = len(world.woken)
    same = Page("2", [mark()])
    others = Page("3", [mark("other"), mark(namespace="elsewhere")], [mark("third").place])
    assert len(await world.watch(Source(same, others, same))) == count


async def test_only_what_is_named_is_remembered_among_ten_thousand(world: World) -> None:
    source = Source()
    many = [mark(f"claim-{number}", str(number)) for number in range(10_000)]
    source.listed = [Page("1", many[:5000]), Page("1", [*many[5000:], mark()])]
    await world.watch(source)
    assert len(world.claims) == 1
    world.claims.forget(KEY)
    assert len(world.claims) == 0
    count = len(world.woken)
    world.claims.apply_page(Page("2", gone=[mark().place]))
    assert len(world.woken) == count


async def test_a_deletion_that_no_watch_has_told_is_found_by_the_next_list(world: World) -> None:
    source = Source(ExpiredError("too old"))

    def emptied() -> None:
        source.listed = [Page("9")]

    source.steps.insert(0, emptied)
    await world.watch(source)
    assert source.lists == 2
    assert source.asked == ["1", "9"]
    assert world.woken == [KEY, KEY]  # by the first list, which is later than the first look, and by the loss


async def test_a_watch_that_ends_goes_on_where_it_was_and_one_that_fails_begins_anew(world: World) -> None:
    source = Source(Page("5"), UnavailableError("away"), Page("6"))
    await world.watch(source)
    assert source.asked == ["1", "1"]
    assert source.lists == 2


async def test_a_model_that_names_another_claim_hears_of_that_one_only(world: World) -> None:
    await world.claims.read(model(claim="other", base="pvc://other/base"))
    world.claims.apply_page(Page("2", gone=[mark().place]))
    assert not world.woken
    world.claims.apply_page(Page("3", gone=[mark("other").place]))
    assert world.woken == [KEY]


async def test_the_models_own_claim_wakes_it_by_its_label_not_twice(world: World) -> None:
    await world.claims.read(model("n", claim=None, base="pvc://other/base"))
    world.claims.apply_page(Page("2", [mark("n-weights")]))
    assert not world.woken
    world.claims.apply_page(Page("3", [mark("other")]))
    assert world.woken == [("team", "n")]


async def test_the_look_after_a_change_is_not_answered_from_before_it(world: World) -> None:
    world.kube.remove("PersistentVolumeClaim", "mine", "team")
    world.claims.apply_page(Page("2", gone=[mark().place]))
    assert await world.claims.read(model()) == {"mine": None}


async def test_models_that_look_at_the_same_moment_share_the_answer() -> None:
    world = World()
    models: list[Any] = [model(f"m{number}") for number in range(5)]
    await asyncio.gather(*(world.claims.read(each) for each in models))
    assert len(world.kube.calls) == 1
    world.claims.apply_page(Page("2", gone=[mark().place]))
    assert len(world.woken) == 5
