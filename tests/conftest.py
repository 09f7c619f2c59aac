"""Properties are tried on the same examples in every run; HYPOTHESIS_PROFILE=random looks for new ones."""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# Whoever started the tests may have ignored Ctrl-C (nohup in a script does), and programs inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A slow machine is not a failure: hypothesis judges neither a test's time nor that of making its examples.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("any speed"), derandomize=True)
settings.register_profile("random", settings.get_profile("any speed"))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Keep in one process what shares fixtures: the tests of a file, and all that need the real weights."""
    group = "model" if item.get_closest_marker("model") else item.nodeid.partition("::")[0]
    item.add_marker(pytest.mark.xdist_group(group))
