"""`kubectl vicuna key`, against Secrets in memory; what it writes is read by the gateway's own code."""

import base64
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from vicuna_operator.errors import PluginError
from vicuna_operator.plugin.cli import main
from vicuna_operator.plugin.keys import expiry
from vicuna_server.gateway.keys import KeyRing

Capture = pytest.CaptureFixture[str]
NOW = datetime(2026, 11, 25, tzinfo=UTC)


class SecretKubectl:
    """kubectl on one namespace's Secrets and the gateway's Deployments."""

    def __init__(self, *gateways: str) -> None:
        self.secrets: dict[str, dict[str, str]] = {}
        self.gateways = gateways

    def __call__(self, flags: Sequence[str]) -> "SecretKubectl":
        return self

    def read(self, *words: str) -> dict[str, Any]:
        if words[1] == "deployments":
            args = [{"args": ["gateway", *([f"--keys-secret={secret}"] if secret else [])]} for secret in self.gateways]
            return {"items": [{"spec": {"template": {"spec": {"containers": [one]}}}} for one in args]}
        name = words[-1].rpartition("=")[2]
        assert words[2] == "--namespace=sys"
        return {"items": [{"data": self.secrets[name]}] if name in self.secrets else []}

    def write(self, *words: str) -> None:
        if words[0] == "create":
            self.secrets[words[3]] = {}
            return
        assert words[:2] == ("patch", "secret")
        (patch,) = [json.loads(word.removeprefix("--patch=")) for word in words if word.startswith("--patch=")]
        for name, value in patch["data"].items():
            self.secrets[words[2]].pop(name, None)
            if value is not None:
                self.secrets[words[2]][name] = value

    def show(self, *words: str) -> int:
        raise AssertionError(words)

    def forward(self, target: str, port: int) -> AbstractContextManager[str]:
        raise AssertionError(target, port)

    def ring(self) -> KeyRing:
        return KeyRing.parse({name: base64.b64decode(value) for name, value in self.secrets["keys"].items()})


def test_a_new_key_is_printed_once_and_opens_the_gateway(capsys: Capture) -> None:
    kubectl = SecretKubectl("sys/keys")
    words = ["key", "create", "alice", "--models", "a/*", "b/*", "--rpm", "60", "--tpm", "5000", "--tpd", "100000"]
    words += ["--expires", "30d"]
    assert main(words, connect=kubectl) == 0
    out, err = capsys.readouterr()
    key = kubectl.ring().find(out.strip())
    assert key is not None
    assert (key.name, key.models, key.requests_per_minute) == ("alice", ("a/*", "b/*"), 60)
    assert (key.tokens_per_minute, key.tokens_per_day) == (5000, 100_000)
    assert not key.expired(datetime.now(UTC) + timedelta(days=29))
    assert key.expired(datetime.now(UTC) + timedelta(days=31))
    assert out.strip() not in err + json.dumps(kubectl.secrets)
    assert main(["key", "create", "bob"], connect=kubectl) == 0
    bob = kubectl.ring().find(capsys.readouterr().out.strip())
    assert bob is not None
    assert (bob.models, bob.requests_per_minute, bob.expires) == (("*",), None, None)


def test_keys_are_listed_and_revoked(capsys: Capture) -> None:
    kubectl = SecretKubectl("sys/keys")
    assert main(["key", "list"], connect=kubectl) == 0
    assert "no keys yet" in capsys.readouterr().out
    main(["key", "create", "alice", "--rpm", "5"], connect=kubectl)
    kubectl.secrets["keys"]["broken"] = "e30x"
    capsys.readouterr()
    assert main(["key", "list"], connect=kubectl) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["NAME", "MODELS", "RPM", "EXPIRES"]
    assert lines[1] == ["alice", "*", "5", "never"]
    assert lines[2][:2] == ["broken", "(broken:"]
    main(["key", "create", "carol", "--tpd", "900"], connect=kubectl)
    capsys.readouterr()
    main(["key", "list"], connect=kubectl)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["NAME", "MODELS", "RPM", "TPD", "EXPIRES"]
    assert lines[-1] == ["carol", "*", "no", "limit", "900", "never"]
    assert main(["key", "revoke", "alice"], connect=kubectl) == 0
    assert kubectl.ring().names == {"carol"}


def test_a_key_with_a_default_namespace(capsys: Capture) -> None:
    kubectl = SecretKubectl("sys/keys")
    assert main(["key", "create", "carol", "--models", "*", "--default-namespace", "team-a"], connect=kubectl) == 0
    key = kubectl.ring().find(capsys.readouterr().out.strip())
    assert key is not None
    assert (key.default_namespace, key.models) == ("team-a", ("*",))
    kubectl.secrets["keys"]["deep"] = base64.b64encode(b"[" * 5000).decode()
    assert main(["key", "list"], connect=kubectl) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["NAME", "MODELS", "RPM", "EXPIRES", "NAMESPACE"]
    assert [lines[1][0], lines[1][-1]] == ["carol", "team-a"]
    assert lines[2][:2] == ["deep", "(broken:"]


@pytest.mark.parametrize(
    ("gateways", "words", "says"),
    [
        (["sys/keys"], ["create", "a b"], "not a name"),
        (["sys/keys"], ["create", "a", "--expires", "soon"], "30d"),
        (["sys/keys"], ["create", "a", "--default-namespace", "team-a/*"], "one namespace"),
        (["sys/keys"], ["revoke", "nobody"], "no key nobody"),
        ([], ["list"], "no gateway"),
        ([""], ["list"], "uses no keys"),
        (["sys/keys", "other/keys"], ["list"], "other/keys or sys/keys"),
        (["sys/keys"], ["list", "--secret", "keys"], "NAMESPACE/NAME"),
    ],
)
def test_what_cannot_be_done_is_said(capsys: Capture, gateways: list[str], words: list[str], says: str) -> None:
    assert main(["key", *words], connect=SecretKubectl(*gateways)) != 0
    assert says in capsys.readouterr().err


def test_a_key_is_not_overwritten(capsys: Capture) -> None:
    kubectl = SecretKubectl()
    assert main(["key", "create", "alice", "--secret", "sys/keys"], connect=kubectl) == 0
    before = dict(kubectl.secrets["keys"])
    assert main(["key", "create", "alice", "--secret", "sys/keys"], connect=kubectl) != 0
    assert "already" in capsys.readouterr().err
    assert kubectl.secrets["keys"] == before


def test_an_expiry_is_a_span_or_a_date() -> None:
    assert expiry("90m", NOW) == NOW + timedelta(minutes=90)
    assert expiry("2027-01-31", NOW) == datetime(2027, 1, 31, tzinfo=UTC)
    with pytest.raises(PluginError, match="in the past"):
        expiry("2026-11-24", NOW)
