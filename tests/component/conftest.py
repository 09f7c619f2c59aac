"""Every artifact that a component test leaves is whole for plain transformers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.whole import Judge


@pytest.fixture(scope="session")
def judge() -> Judge:
    """The one who has seen the artifacts so far."""
    return Judge()


@pytest.fixture(scope="module")
def module_folders(tmp_path_factory: pytest.TempPathFactory) -> set[Path]:
    """The folders that were there before the module, and those of tests that damage what they make."""
    return set(tmp_path_factory.getbasetemp().iterdir())


@pytest.fixture(autouse=True)
def whole_artifacts(
    request: pytest.FixtureRequest,
    judge: Judge,
    module_folders: set[Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """Judge what the test and the module's fixtures have left, unless the test says that it damages artifacts."""
    yield
    new = set(tmp_path_factory.getbasetemp().iterdir()) - module_folders
    if request.node.get_closest_marker("damaged") is not None:
        module_folders |= new
        return
    for folder in new:
        if folder.is_dir() and not folder.is_symlink():
            judge.judge(folder)
