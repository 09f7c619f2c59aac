"""Properties are tried on the same examples in every run; HYPOTHESIS_PROFILE=random looks for new ones."""

import gc
import logging
import os
import signal
from pathlib import Path

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
_LONG = Path(__file__).parent / "component"


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a test by the beginning of a long value: the whole one would go from process to process with each report."""
    return str(val)[:_LONGEST_NAME] if isinstance(val, str | bytes) and len(val) > _LONGEST_NAME else None


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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files of tests/component, which wait and which are long, evenly over the others, which compute.

    Side by side they use the processors best. A long file at the end would leave all processors but one idle.
    """
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(_group(item), []).append(item)
    long = {group for group, (first, *_) in files.items() if first.path.is_relative_to(_LONG)}
    places = {group: place / len(long) for place, group in enumerate(group for group in files if group in long)}
    others = [group for group in files if group not in long]
    # The last long file begins when three quarters of the others are done.
    places |= {group: place / len(others) * 4 / 3 for place, group in enumerate(others)}
    items[:] = [item for group in sorted(files, key=places.__getitem__) for item in files[group]]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Keep in one process what shares something costly: a file's fixtures, the real weights, an import of seconds.

    That import makes a test a long one.
    """
    if item.get_closest_marker("transformers"):
        item.add_marker(pytest.mark.long)
    item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    marked = (name for name in ("model", "transformers") if item.get_closest_marker(name))
    return next(marked, item.nodeid.partition("::")[0])
