"""Where the servers are that `with_server.py` started: each test runs against the server and through a gateway.

A test asks a `speaker` or an `actor`. Either is a small stand-in in `make test-clients` and SmolLM2 in
`make test-clients-full`, so that the same calls are judged on both. `RANDOM` and `SCRIPTED` mark what only the stand-in
can be asked.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

TRAINED = pytest.param("trained", marks=pytest.mark.full)
"""SmolLM2, in float32: what it says at temperature 0 is always the same."""
RANDOM = pytest.mark.parametrize("speaker", ["tiny"], indirect=True)
SCRIPTED = pytest.mark.parametrize("actor", ["scripted"], indirect=True)


class Served(NamedTuple):
    """A model and where its API is."""

    base_url: str
    model: str
    first: dict[str, Any]
    """By which it calls the tool that a question names once: the scripted engine does so of itself."""
    dimensions: int = 576
    """Of its vectors."""


_TRAITS: dict[str, dict[str, Any]] = {
    "tiny": {"first": {}, "dimensions": 32},
    "scripted": {"first": {"tool_choice": "auto"}},
    # where it may call again, it repeats the call until it is cut
    "trained": {"first": {"tool_choice": "required", "parallel_tool_calls": False}},
}


def _served(name: str, through_gateway: bool) -> Served:
    own = f"VICUNA_{name.upper()}_URL"
    if own not in os.environ:
        pytest.skip("the server of SmolLM2 does not run; use make test-clients-full")
    return Served(os.environ["VICUNA_GATEWAY_URL" if through_gateway else own] + "/v1", name, **_TRAITS[name])


@pytest.fixture(scope="session", params=[False, True], ids=["server", "gateway"])
def through_gateway(request: pytest.FixtureRequest) -> bool:
    """Tell whether the test talks to the gateway."""
    return bool(request.param)


@pytest.fixture(scope="session", params=["tiny", TRAINED])
def speaker(request: pytest.FixtureRequest, through_gateway: bool) -> Served:
    """Return a model that is asked for text: a random one, which never ends an answer by itself, or SmolLM2."""
    return _served(request.param, through_gateway)


@pytest.fixture(scope="session")
def base_url(speaker: Served) -> str:
    """Return the address of the speaker's API."""
    return speaker.base_url


@pytest.fixture(scope="session")
def model(speaker: Served) -> str:
    """Return the speaker's name."""
    return speaker.model


@pytest.fixture(scope="session", params=["scripted", TRAINED])
def actor(request: pytest.FixtureRequest, through_gateway: bool) -> Served:
    """Return a model that is asked for calls of tools and for objects: the scripted engine, or SmolLM2."""
    return _served(request.param, through_gateway)


@pytest.fixture(scope="session")
def expected() -> list[dict[str, Any]]:
    """Return what transformers says of some texts."""
    judged: list[dict[str, Any]] = json.loads(Path(os.environ["VICUNA_EXPECTED"]).read_text())
    return judged
