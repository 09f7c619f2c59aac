"""A hub in this process and what a test holds against it; a conftest imports them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hub import Hub, Hurry, running_hub
from vicuna_server.run.control import Control
from vicuna_server.run.reporter import Silent


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the empty repository me/model in tmp_path/model."""
    (tmp_path / "model").mkdir()
    with running_hub(monkeypatch) as server:
        server.repositories["me/model"] = tmp_path / "model"
        yield server


@pytest.fixture
def stop() -> Hurry:
    return Hurry()


@pytest.fixture
def control(stop: Hurry) -> Control:
    return Control(Silent(), stop)
