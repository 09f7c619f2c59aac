"""A server's pod is killed, or stops, while it streams: another one goes on, and no client notices."""

import json
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import Any

import pytest

from .cluster import Namespace, in_toolbox, model, scripted
from .door import SELECTOR, URL, gateway_key

STREAMS, TOKENS, RATE = 20, 120, 10
LONGEST_GAP = 2.0
KILL = ("--grace-period=0", "--force")
LONG = 600
SCRIPT = [
    {"name": "VICUNA_ENGINE", "value": "scripted"},
    {"name": "VICUNA_SCRIPTED_TOKENS", "value": str(TOKENS)},
    {"name": "VICUNA_SCRIPTED_TOKENS_PER_SECOND", "value": str(RATE)},
]


@pytest.fixture(scope="module")
def key(team: Namespace, operator: Namespace) -> Iterator[str]:
    with gateway_key(operator, team, "survivor") as key:
        yield key


def streamed(
    team: Namespace, key: str, name: str, tokens: int, delete: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Let clients stream from inside the cluster; delete a pod once all have some text; return what each saw.

    `delete`: flags of `kubectl delete pod`, which ends before the streams do; None: no pod is deleted.
    """
    with in_toolbox(team, "survivors.py", URL, key, f"{team.name}/{name}", tokens, STREAMS) as process:
        assert process.stdout is not None
        begun = process.stdout.readline()
        assert begun, process.communicate()[1]
        if delete is not None:
            assert json.loads(begun) == {"streaming": STREAMS}
            (lost, *_) = team.pods(name)
            team.kubectl("delete", "pod", lost["metadata"]["name"], *delete)
            assert process.poll() is None, "the streams have ended before the pod"
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    found: list[dict[str, Any]] = json.loads(out.strip().splitlines()[-1])
    return found


def said(operator: Namespace, words: str) -> int:
    """Return how often the gateways have said this."""
    return operator.kubectl("logs", f"--selector={SELECTOR}", "--tail=-1").count(words)


def continued(operator: Namespace) -> int:
    """Return how many streams the gateways say that another server went on with."""
    return said(operator, "goes on with a stream")


def check(seen: list[dict[str, Any]]) -> float:
    """Require whole streams; return the longest time that one of them was silent."""
    assert [one["error"] for one in seen] == [""] * STREAMS
    assert {one["last"] for one in seen} == {"data: [DONE]"}
    longest: float = max(one["gap"] for one in seen)
    print(f"longest gap {longest:.2f} s")
    return longest


def check_texts(seen: list[dict[str, Any]], tokens: int) -> None:
    """Require what the scripted engine says, without a gap or a repetition."""
    for number, one in enumerate(seen):
        words = [f"{number}-{place}" for place in range(number % 7 + 2)]
        assert one["text"] == "".join(f"{word} " for word in islice(cycle(words), tokens))


def test_twenty_streams_survive_a_killed_pod(team: Namespace, operator: Namespace, key: str, fresh: str) -> None:
    team.apply(model(fresh, "weights", serving=scripted(replicas=2) | {"env": SCRIPT}))
    team.wait_ready(fresh)
    before = continued(operator)
    seen = streamed(team, key, fresh, TOKENS, KILL)
    assert check(seen) < LONGEST_GAP
    check_texts(seen, TOKENS)
    went_on = continued(operator) - before
    print(f"{went_on} of {STREAMS} streams went on")
    assert 0 < went_on < STREAMS


@pytest.mark.full
def test_a_pod_that_stops_does_not_wait_for_its_streams(
    team: Namespace, operator: Namespace, key: str, fresh: str
) -> None:
    """It is gone while they still have most of a minute to go."""
    env = [one | {"value": str(LONG)} if one["name"] == "VICUNA_SCRIPTED_TOKENS" else one for one in SCRIPT]
    serving = scripted(replicas=2) | {"env": env, "rollout": {"handOverSeconds": 2}}
    team.apply(model(fresh, "weights", serving=serving))
    team.wait_ready(fresh)
    before = said(operator, "takes a stream of")
    seen = streamed(team, key, fresh, LONG, ("--timeout=45s",))
    assert check(seen) < LONGEST_GAP
    check_texts(seen, LONG)
    moved = said(operator, "takes a stream of") - before
    print(f"{moved} of {STREAMS} streams moved")
    assert 0 < moved < STREAMS


@pytest.mark.full
def test_what_a_real_model_says_is_the_same(team: Namespace, operator: Namespace, key: str, fresh: str) -> None:
    serving = {"numGpus": 0, "device": "cpu", "dtype": "float32", "replicas": 2}
    team.apply(model(fresh, "weights", serving=serving))
    team.wait_ready(fresh, 600)
    undisturbed = streamed(team, key, fresh, 48)
    check(undisturbed)
    before = continued(operator)
    seen = streamed(team, key, fresh, 48, KILL)
    check(seen)  # how long it takes to compute twenty prompts again is a matter of the processors
    assert [one["text"] for one in seen] == [one["text"] for one in undisturbed]
    assert continued(operator) > before
