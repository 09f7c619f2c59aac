"""Properties are tried on the same examples in every run; HYPOTHESIS_PROFILE=random looks for new ones."""

import gc
import logging
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# Whoever started the tests may have ignored Ctrl-C (nohup in a script does), and programs inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A slow machine is not a failure: hypothesis judges neither a test's time nor that of making its examples.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("any speed"), derandomize=True, max_examples=50)
settings.register_profile("few", settings.get_profile("same"), max_examples=20)  # make unit
settings.register_profile("random", settings.get_profile("any speed"))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

_LONGEST_NAME = 80


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a test by the beginning of a long value: the whole one would go from process to process with each report."""
    return str(val)[:_LONGEST_NAME] if isinstance(val, str | bytes) and len(val) > _LONGEST_NAME else None


@pytest.fixture(scope="module")
def forked_children() -> Iterator[None]:
    """Fork the processes for chat templates and grammars, in place of starting each anew."""
    from support import forked
    from vicuna_server.engine import child

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child, "_start", forked.start)
        yield


def pytest_sessionstart() -> None:
    """Look for no garbage while modules are imported and tests are made: nearly all of that stays to the end."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave to itself what stays to the end, unsearched: modules and tests. Look for other garbage less often."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    gc.enable()
    # pytest listens to each logger that keeps its records to itself, six times a test: torch has forty of them.
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("torch") and isinstance(logger, logging.Logger):
            logger.propagate = True


def pytest_itemcollected(item: pytest.Item) -> None:
    """Keep in one process what shares something costly: a file's fixtures, the real weights, an import of seconds.

    That import makes a test a long one.
    """
    marked = [name for name in ("model", "transformers") if item.get_closest_marker(name)]
    if "transformers" in marked:
        item.add_marker(pytest.mark.long)
    group = marked[0] if marked else item.nodeid.partition("::")[0]
    item.add_marker(pytest.mark.xdist_group(group))
