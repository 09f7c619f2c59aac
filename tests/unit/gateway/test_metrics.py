"""Series are limited, whatever servers state, and are removed with what they name."""

import re

import pytest

from vicuna_server.gateway.metrics import Metrics
from vicuna_server.gateway.series import Bounds
from vicuna_server.protocol.counts import Used

SMALL = Bounds(each=200, all=1000, revisions=8)


def _series(metrics: Metrics) -> list[str]:
    return [line for line in metrics.render().decode().splitlines() if not line.startswith("#")]


def _labels(metrics: Metrics, name: str) -> set[str]:
    return {value for line in _series(metrics) for value in re.findall(rf'\b{name}="([^"]*)"', line)}


def _total(metrics: Metrics, name: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in _series(metrics) if line.startswith(name + "{"))


def _answer(metrics: Metrics, model: str = "m", revision: str = "r", key: str = "k", status: int = 200) -> None:
    with metrics.in_flight(model, key).track_inprogress():
        metrics.answered(model, revision, key, status, 0.1)
        metrics.used(model, revision, key, Used(2, 3))
        metrics.retried(model, key)
        metrics.broke(model, revision, key)


def test_a_server_with_1500_revisions_is_counted_under_some_tens() -> None:
    metrics = Metrics()
    for number in range(1500):
        _answer(metrics, revision=f"r{number}")
    assert len(_labels(metrics, "revision")) == 32 + 1  # and other
    assert _total(metrics, "vicuna_gateway_requests_total") == 1500
    assert _total(metrics, "vicuna_gateway_tokens_total") == 1500 * 5
    before = len(_series(metrics))
    for number in range(1500):
        _answer(metrics, revision=f"s{number}")
    assert len(_series(metrics)) == before


def test_statuses_that_a_server_invents_are_counted_by_their_first_digit() -> None:
    metrics = Metrics()
    for status in range(200, 600):
        _answer(metrics, status=status)
    assert {"200", "404", "429", "503", "2xx", "4xx", "5xx"} <= _labels(metrics, "status")
    assert len(_labels(metrics, "status")) < 30


def test_models_that_come_and_go_leave_nothing() -> None:
    metrics = Metrics(SMALL)
    present: list[str] = []
    metrics.present = lambda: (present, ["k"])
    metrics.render()
    empty = len(_series(metrics))
    for number in range(20):
        present[:] = [f"m{number}"]
        for revision in range(20):
            _answer(metrics, f"m{number}", f"r{revision}")
        assert f'model="m{number}"' in metrics.render().decode()
    present.clear()
    assert 'model="m19"' in metrics.render().decode()  # once more, so that its last numbers are seen
    assert len(_series(metrics)) == empty


def test_a_key_that_is_revoked_takes_its_series_along() -> None:
    metrics = Metrics()
    metrics.present = lambda: (["m"], ["stays"])
    for key in ("goes", "stays", ""):
        _answer(metrics, key=key)
        metrics.refused(key, 429)
    assert _labels(metrics, "key") == {"goes", "stays", ""}
    assert _labels(metrics, "key") == {"stays", ""}


def test_models_that_go_unseen_make_room_for_new_ones() -> None:
    metrics = Metrics(SMALL)
    present = [f"m{number}" for number in range(100)]
    metrics.present = lambda: (present, ["k"])
    for model in present:
        _answer(metrics, model)
    present[:] = ["new"]
    metrics._series._made_room = float("-inf")  # a minute later
    _answer(metrics, "new", "abc", "k")
    lines = _series(metrics)
    assert 'vicuna_gateway_requests_total{key="k",model="new",revision="abc",status="200"} 1.0' in lines


def test_too_many_keys_and_models_are_counted_together() -> None:
    metrics = Metrics(SMALL)
    for model in range(40):
        for key in range(40):
            _answer(metrics, f"m{model}", key=f"k{key}")
    counted = [line for line in _series(metrics) if "m" in line]
    assert len(counted) < SMALL.all + 40 * 30
    assert _total(metrics, "vicuna_gateway_requests_total") == 1600
    assert "(other)" in _labels(metrics, "key")
    assert _total(metrics, "vicuna_gateway_requests_in_flight") == 0


def test_one_model_cannot_use_up_the_room_of_all() -> None:
    metrics = Metrics(SMALL)
    for number in range(1000):
        _answer(metrics, "evil", f"r{number % 8}", f"k{number}")
    _answer(metrics, "good", "abc", "alice")
    lines = _series(metrics)
    assert 'vicuna_gateway_requests_total{key="alice",model="good",revision="abc",status="200"} 1.0' in lines


def test_a_revision_that_has_long_been_idle_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics, now = Metrics(SMALL), [0.0]
    monkeypatch.setattr(metrics._series._revisions, "_clock", lambda: now[0])
    for day in range(30):  # a rollout a day
        now[0] = day * 86_401.0
        _answer(metrics, revision=f"r{day}")
        assert f"r{day}" in _labels(metrics, "revision")
    assert "other" not in _labels(metrics, "revision")
    assert len(_labels(metrics, "revision")) <= 1 + SMALL.revisions
