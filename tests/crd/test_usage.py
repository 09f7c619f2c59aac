"""VicunaUsages on a current API server: the definition, and several gateways that count in it at the same time."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from support.crd_server import Server, kubeconfig
from support.usage_scenarios import DAY, SCENARIOS, Stores
from vicuna_contract.names import USAGE_PLURAL
from vicuna_server.gateway.options import NamespacedName
from vicuna_server.gateway.slot import Slot
from vicuna_server.gateway.usage_store import ClusterStore

pytestmark = pytest.mark.crd


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[Server]:
    with Server(USAGE_PLURAL) as server:
        server.wait_until_served(Slot.fresh("team", "gw", DAY).body())
        yield server


@pytest.fixture
async def stores(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stores]:
    """Return the store of a gateway that nobody has had."""
    monkeypatch.setenv("KUBECONFIG", kubeconfig())
    made: list[ClusterStore] = []
    service = NamespacedName("team", f"gw-{secrets.token_hex(4)}")

    def make() -> ClusterStore:
        made.append(ClusterStore(service))
        return made[-1]

    yield make
    await asyncio.gather(*(store.close() for store in made))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_it_keeps_what_replicas_count(scenario: Callable[[Stores], Awaitable[None]], stores: Stores) -> None:
    await scenario(stores)


def test_the_definition_refuses_what_no_gateway_writes(server: Server) -> None:
    body = Slot.fresh("team", "gw", DAY).body()
    for field, wrong in (
        ("usage", [{"key": "alice", "model": "m", "requests": -1}]),
        ("usage", [{"key": "alice"}]),
        ("claims", [{"tokens": 5}]),
        ("claims", [{"key": "alice", "tokens": 1.5}]),
        ("renewedAt", "soon"),
    ):
        assert server.ask({**body, field: wrong})[1], (field, wrong)
