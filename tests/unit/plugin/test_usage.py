"""`kubectl vicuna usage`, on objects as gateways write them."""

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from vicuna_operator.errors import PluginError
from vicuna_operator.plugin.cli import main
from vicuna_operator.plugin.usage import as_csv, usage_rows
from vicuna_server.gateway.slot import Slot

Capture = pytest.CaptureFixture[str]
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def _object(day: str, number: int, *rows: tuple[str, str, int, int, int]) -> dict[str, Any]:
    usage: Counter[tuple[str, str, str]] = Counter()
    for key, model, *counts in rows:
        usage.update({(key, model, name): n for name, n in zip(_COUNTS, counts, strict=True)})
    fresh = Slot.fresh("sys", "gw", day)
    return replace(fresh, metadata={**fresh.metadata, "name": f"gw-{day}-{number}"}, usage=usage).body()


_COUNTS = ("requests", "promptTokens", "completionTokens")
TWO_DAYS = [
    _object("2026-11-30", 0, ("alice", "team/x", 1, 10, 5), ("bob", "team/x", 1, 20, 0)),
    _object("2026-11-30", 1, ("alice", "team/x", 2, 30, 5)),
    _object("2026-11-29", 0, ("alice", "team/y", 1, 1, 1)),
]


DEMAND = {
    "metadata": {"name": "gw-demand-1", "labels": {"vicuna.dev/gateway": "gw", "vicuna.dev/demand": "true"}},
    "demand": [{"namespace": "team", "name": "x", "underWay": 3}],
    "usage": [{"key": "alice", "model": "team/x", "requests": 100}],
}


class UsageKubectl:
    """kubectl on gateways' Deployments and VicunaUsages."""

    def __init__(self, items: Sequence[dict[str, Any]], *gateways: str, fault: str = "", list_fault: str = "") -> None:
        self.items = items
        self.gateways = gateways
        self.fault = fault
        self.list_fault = list_fault

    def __call__(self, flags: Sequence[str]) -> "UsageKubectl":
        return self

    def read(self, *words: str) -> dict[str, Any]:
        if words[1] == "deployments":
            if self.list_fault:
                raise PluginError(self.list_fault)
            containers = [{"args": ["gateway", f"--service={each}"]} for each in self.gateways]
            return {"items": [{"spec": {"template": {"spec": {"containers": [each]}}}} for each in containers]}
        assert words == ("get", "vicunausages.vicuna.dev", "--namespace=sys", "--selector=vicuna.dev/gateway=gw")
        if self.fault:
            raise PluginError(self.fault)
        return {"items": self.items}

    def write(self, *words: str) -> None:
        raise AssertionError(words)

    def show(self, *words: str) -> int:
        raise AssertionError(words)

    def forward(self, target: str, port: int) -> AbstractContextManager[str]:
        raise AssertionError(target)


def _today(*rows: tuple[str, str, int, int, int]) -> dict[str, Any]:
    return _object(datetime.now(UTC).strftime("%Y-%m-%d"), 0, *rows)


def test_objects_of_all_replicas_are_summed_up() -> None:
    assert usage_rows(TWO_DAYS, ["key", "model"], 2, NOW) == [
        {"key": "alice", "model": "team/x", "requests": 3, "promptTokens": 40, "completionTokens": 10},
        {"key": "alice", "model": "team/y", "requests": 1, "promptTokens": 1, "completionTokens": 1},
        {"key": "bob", "model": "team/x", "requests": 1, "promptTokens": 20, "completionTokens": 0},
    ]
    assert [row["requests"] for row in usage_rows(TWO_DAYS, ["day"], 2, NOW)] == [1, 4]
    assert [row["day"] for row in usage_rows(TWO_DAYS, ["day"], 1, NOW)] == ["2026-11-30"]


def test_objects_that_somebody_else_wrote_do_no_harm() -> None:
    odd: list[dict[str, Any]] = [{}, {"metadata": {}}, {"metadata": {"labels": None}, "usage": 3}]
    odd += [{"metadata": {"labels": {"vicuna.dev/day": "2026-11-30"}}, "usage": [None, {"key": "a"}]}]
    assert usage_rows(odd, ["key"], 5, NOW) == []


def test_what_replicas_state_of_demand_is_no_usage() -> None:
    assert usage_rows([*TWO_DAYS, DEMAND], ["key"], 2, NOW) == usage_rows(TWO_DAYS, ["key"], 2, NOW)


def test_names_in_csv_are_not_formulas() -> None:
    names = ["=1+1", "+a", "-a", "@SUM(A1)", 'a,"b"', "alice"]
    rows = usage_rows([_object("2026-11-30", 0, *((name, "m", 1, 2, 3) for name in names))], ["key"], 1, NOW)
    header, *told = csv.reader(io.StringIO(as_csv(rows, ["key"])))
    assert header == ["key", *_COUNTS]
    assert {line[0] for line in told} == {"'=1+1", "'+a", "'-a", "'@SUM(A1)", 'a,"b"', "alice"}
    assert all(line[1:] == ["1", "2", "3"] for line in told)


def test_it_is_told_as_a_table_csv_or_json(capsys: Capture) -> None:
    kubectl = UsageKubectl([_today(("alice", "team/x", 1, 10, 0), ("", "team/\x1b[31mx", 1, 2, 3))], "sys/gw")
    assert main(["usage", "--by", "key", "model"], connect=kubectl) == 0
    header, nobody, alice = capsys.readouterr().out.splitlines()
    assert header.split() == ["KEY", "MODEL", "REQUESTS", "PROMPT", "COMPLETION"]
    assert nobody.split() == ["-", "team/x", "1", "2", "3"]
    assert alice.split() == ["alice", "team/x", "1", "10", "0"]
    assert main(["usage", "--csv", "--by", "model"], connect=kubectl) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "team/x,1,10,0"
    assert main(["usage", "-o", "json", "--days", "2"], connect=kubectl) == 0
    assert {row["key"] for row in json.loads(capsys.readouterr().out)} == {"", "alice"}


def test_it_says_when_nothing_was_counted(capsys: Capture) -> None:
    long_ago = _object((datetime.now(UTC) - timedelta(days=9)).strftime("%Y-%m-%d"), 0, ("alice", "m", 1, 1, 1))
    assert main(["usage", "--days", "7"], connect=UsageKubectl([long_ago], "sys/gw")) == 0
    assert "the gateway sys/gw has counted nothing in 7 days" in capsys.readouterr().out
    assert main(["usage", "--days", "9" * 20], connect=UsageKubectl([long_ago], "sys/gw")) == 0
    assert "alice" in capsys.readouterr().out
    assert main(["usage", "--days", "7", "--csv"], connect=UsageKubectl([], "sys/gw")) == 0
    assert capsys.readouterr().out == "day,key,model,requests,promptTokens,completionTokens\n"


@pytest.mark.parametrize(
    ("kubectl", "said"),
    [
        (UsageKubectl([]), "there is no gateway here"),
        (UsageKubectl([], "sys/gw", "other/gw"), "--gateway other/gw or sys/gw"),
        (UsageKubectl([], list_fault="Error from server (Forbidden): deployments"), "name the gateway: --gateway"),
        (UsageKubectl([], "sys/gw", fault="error: the server doesn't have a resource type"), "upgrade the chart"),
        (UsageKubectl([], "sys/gw", fault="Error from server (Forbidden): no"), "the role admin in sys"),
        (UsageKubectl([], "sys/gw", fault="Unable to connect to the server"), "Unable to connect"),
    ],
)
def test_what_is_in_its_way_is_said(kubectl: UsageKubectl, said: str, capsys: Capture) -> None:
    assert main(["usage"], connect=kubectl) != 0
    assert said in capsys.readouterr().err


def test_a_gateway_can_be_named(capsys: Capture) -> None:
    kubectl = UsageKubectl([_today(("alice", "m", 1, 1, 1))], list_fault="Error from server (Forbidden): deployments")
    assert main(["usage", "--gateway", "sys/gw"], connect=kubectl) == 0
    assert main(["usage", "--gateway", "gw"], connect=kubectl) != 0
    capsys.readouterr()
