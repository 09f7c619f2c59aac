"""Conversations of many users with a shared system message: each turn finds its cache."""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .cluster import Namespace, model
from .door import URL, gateway_key

NAME = "talkative"
USERS, TURNS = 32, 6


@pytest.fixture(scope="module")
def key(team: Namespace, operator: Namespace) -> Iterator[str]:
    """A key for four replicas of the demo model."""
    serving = {"numGpus": 0, "device": "cpu", "replicas": 4}
    team.apply(model(NAME, "weights", serving=serving))
    with gateway_key(operator, team, NAME) as made:
        team.wait_ready(NAME, 600)
        yield made
    team.kubectl("delete", "vicunamodel", NAME, "--timeout=120s", timeout=150)


def talks(team: Namespace, key: str, *, stray: bool) -> tuple[float, float]:
    """Let all users talk; return the cached share of what could be cached, and the 95th percentile of first texts."""
    script = (Path(__file__).parent / "talks.py").read_text()
    words = ["exec", "--stdin", "toolbox", "--", "python3", "-", URL, key, f"{team.name}/{NAME}"]
    words += [str(USERS), str(TURNS), str(int(stray))]
    seen: dict[str, Any] = json.loads(team.kubectl(*words, stdin=script, timeout=900))
    assert len(seen["first"]) == USERS * TURNS
    share, late = seen["cached"] / seen["possible"], statistics.quantiles(seen["first"], n=20)[-1]
    print(f"{'at random' if stray else 'by affinity'}: {share:.1%} cached, first text p95 {late:.2f} s")
    return share, late


@pytest.mark.full
@pytest.mark.timeout(2400)
def test_conversations_find_their_cache(team: Namespace, key: str) -> None:
    """How soon texts come is told, not judged: that is a matter of the processors."""
    strayed, late = talks(team, key, stray=True)
    share, soon = talks(team, key, stray=False)
    print(f"{late / soon:.1f} times sooner")
    assert share >= 0.85
    assert strayed < share
