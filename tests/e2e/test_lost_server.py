"""A server's pod is killed while it streams: another one goes on, and no client notices."""

import json
import subprocess
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from .cluster import Namespace, model, run, scripted
from .conftest import TEAM
from .test_gateway import GATEWAY, SELECTOR, URL

STREAMS, TOKENS, RATE = 20, 120, 10
LONGEST_GAP = 2.0
SCRIPT = [
    {"name": "VICUNA_ENGINE", "value": "scripted"},
    {"name": "VICUNA_SCRIPTED_TOKENS", "value": str(TOKENS)},
    {"name": "VICUNA_SCRIPTED_TOKENS_PER_SECOND", "value": str(RATE)},
]


@pytest.fixture(scope="module")
def key(team: Namespace, operator: Namespace) -> Iterator[str]:
    operator.kubectl("rollout", "status", f"deployment/{GATEWAY}", "--timeout=120s")
    yield run("kubectl", "vicuna", "key", "create", "survivor", "--models", f"{TEAM}/*").strip()
    run("kubectl", "vicuna", "key", "revoke", "survivor")


def streamed(team: Namespace, key: str, name: str, tokens: int, *, kill: bool) -> list[dict[str, Any]]:
    """Let clients stream from inside the cluster; kill a pod once all have some text; return what each saw."""
    script = (Path(__file__).parent / "survivors.py").read_text()
    words = ["kubectl", "--namespace", team.name, "exec", "--stdin", "toolbox", "--"]
    words += ["python3", "-", URL, key, f"{team.name}/{name}", str(tokens), str(STREAMS)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(script)
            process.stdin.close()
            process.stdin = None
            begun = process.stdout.readline()
            assert begun, process.communicate()[1]
            if kill:
                assert json.loads(begun) == {"streaming": STREAMS}
                (lost, *_) = team.pods(name)
                team.kubectl("delete", "pod", lost["metadata"]["name"], "--grace-period=0", "--force")
            out, err = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == 0, err
    found: list[dict[str, Any]] = json.loads(out.strip().splitlines()[-1])
    return found


def continued(operator: Namespace) -> int:
    """Return how many streams the gateways say that another server went on with."""
    logs = operator.kubectl("logs", f"--selector={SELECTOR}", "--tail=-1")
    return logs.count("goes on with a stream")


def check(seen: list[dict[str, Any]]) -> float:
    """Require whole streams; return the longest time that one of them was silent."""
    assert [one["error"] for one in seen] == [""] * STREAMS
    assert {one["last"] for one in seen} == {"data: [DONE]"}
    longest: float = max(one["gap"] for one in seen)
    print(f"longest gap {longest:.2f} s")
    return longest


def test_twenty_streams_survive_a_killed_pod(team: Namespace, operator: Namespace, key: str, fresh: str) -> None:
    team.apply(model(fresh, "weights", serving=scripted(replicas=2) | {"env": SCRIPT}))
    team.wait_ready(fresh)
    before = continued(operator)
    seen = streamed(team, key, fresh, TOKENS, kill=True)
    assert check(seen) < LONGEST_GAP
    for number, one in enumerate(seen):
        words = [f"{number}-{place}" for place in range(number % 7 + 2)]
        assert one["text"] == "".join(f"{word} " for word in islice(cycle(words), TOKENS))
    went_on = continued(operator) - before
    print(f"{went_on} of {STREAMS} streams went on")
    assert 0 < went_on < STREAMS


@pytest.mark.full
def test_what_a_real_model_says_is_the_same(team: Namespace, operator: Namespace, key: str, fresh: str) -> None:
    serving = {"numGpus": 0, "device": "cpu", "dtype": "float32", "replicas": 2}
    team.apply(model(fresh, "weights", serving=serving))
    team.wait_ready(fresh, 600)
    undisturbed = streamed(team, key, fresh, 48, kill=False)
    check(undisturbed)
    before = continued(operator)
    seen = streamed(team, key, fresh, 48, kill=True)
    check(seen)  # how long it takes to compute twenty prompts again is a matter of the processors
    assert [one["text"] for one in seen] == [one["text"] for one in undisturbed]
    assert continued(operator) > before
