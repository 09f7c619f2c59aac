"""Where the servers are that `with_server.py` started: each test runs against the server and through a gateway."""

import json
import os
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session", params=["VICUNA_URL", "VICUNA_GATEWAY_URL"], ids=["server", "gateway"])
def base_url(request: pytest.FixtureRequest) -> str:
    """Return the address of the API."""
    return os.environ[request.param] + "/v1"


@pytest.fixture(scope="session")
def model() -> str:
    """Return the model's name."""
    return os.environ["VICUNA_MODEL"]


@pytest.fixture(scope="session")
def expected() -> list[dict[str, Any]]:
    """Return what transformers says of some texts."""
    judged: list[dict[str, Any]] = json.loads(Path(os.environ["VICUNA_EXPECTED"]).read_text())
    return judged
