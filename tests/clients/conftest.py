"""Where the server is that `with_server.py` started."""

import json
import os
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def base_url() -> str:
    """Return the address of the API."""
    return os.environ["VICUNA_URL"] + "/v1"


@pytest.fixture(scope="session")
def model() -> str:
    """Return the model's name."""
    return os.environ["VICUNA_MODEL"]


@pytest.fixture(scope="session")
def expected() -> list[dict[str, Any]]:
    """Return what transformers says of some texts."""
    judged: list[dict[str, Any]] = json.loads(Path(os.environ["VICUNA_EXPECTED"]).read_text())
    return judged
