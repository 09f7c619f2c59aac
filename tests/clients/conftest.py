"""Where the servers are that `with_server.py` started: each test runs against the server and through a gateway."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Served(NamedTuple):
    """A model and where its API is."""

    base_url: str
    model: str


@pytest.fixture(scope="session", params=[False, True], ids=["server", "gateway"])
def through_gateway(request: pytest.FixtureRequest) -> bool:
    """Tell whether the test talks to the gateway."""
    return bool(request.param)


@pytest.fixture(scope="session")
def base_url(through_gateway: bool) -> str:
    """Return the address of the API."""
    return os.environ["VICUNA_GATEWAY_URL" if through_gateway else "VICUNA_URL"] + "/v1"


@pytest.fixture(scope="session")
def model() -> str:
    """Return the model's name."""
    return os.environ["VICUNA_MODEL"]


@pytest.fixture(scope="session")
def scripted(through_gateway: bool) -> Served:
    """Return the model that calls a tool whose name is in the user's last message, and keeps to a schema."""
    where = os.environ["VICUNA_GATEWAY_URL" if through_gateway else "VICUNA_SCRIPTED_URL"]
    return Served(where + "/v1", os.environ["VICUNA_SCRIPTED_MODEL"])


@pytest.fixture(scope="session")
def trained(through_gateway: bool) -> Served:
    """Return SmolLM2, in float32: what it says at temperature 0 is always the same."""
    if "VICUNA_TRAINED_URL" not in os.environ:
        pytest.skip("the server of SmolLM2 does not run; use make test-clients-full")
    where = os.environ["VICUNA_GATEWAY_URL" if through_gateway else "VICUNA_TRAINED_URL"]
    return Served(where + "/v1", os.environ["VICUNA_TRAINED_MODEL"])


@pytest.fixture(scope="session")
def expected() -> list[dict[str, Any]]:
    """Return what transformers says of some texts."""
    judged: list[dict[str, Any]] = json.loads(Path(os.environ["VICUNA_EXPECTED"]).read_text())
    return judged
