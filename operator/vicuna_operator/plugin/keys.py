"""API keys of the gateway as its Secret holds them: one entry per key, a JSON object (docs/gateway.md)."""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from vicuna_contract.exits import ExitCode
from vicuna_contract.names import NAMESPACE
from vicuna_operator.errors import PluginError
from vicuna_operator.plugin.gateways import the_one, told

__all__ = ["LIMITS", "check_name", "check_namespace", "entry_of", "expiry", "key_rows", "new_key", "secret_of_gateway"]

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_SPAN = re.compile(r"([1-9][0-9]{0,5})([dhm])")
_SECONDS = {"d": 86400, "h": 3600, "m": 60}
_FLAG = "--keys-secret="
LIMITS = {"rpm": "requestsPerMinute", "tpm": "tokensPerMinute", "tpd": "tokensPerDay"}
"""Limits of a key as the command line calls them, and as its entry does."""


def new_key() -> str:
    """Return a new key: `vk-` and 32 random bytes in base64url."""
    return f"vk-{secrets.token_urlsafe(32)}"


def entry_of(
    key: str,
    *,
    models: Sequence[str],
    limits: Mapping[str, int | None],
    expires: datetime | None,
    default_namespace: str | None = None,
) -> str:
    """Return a key's entry, base64 as a Secret's `data` has it; the key itself is not in it.

    Args:
        key: what was made by `new_key`.
        models: patterns of model ids; none: every model.
        limits: by their names in the entry (`LIMITS`); None: no limit.
        expires: when it ends; None: never.
        default_namespace: where a served name alone is looked for first; None: where `models` say.
    """
    fields: dict[str, object] = {"sha256": hashlib.sha256(key.encode()).hexdigest()}
    if models:
        fields["models"] = list(models)
    fields |= {name: limit for name, limit in limits.items() if limit is not None}
    if expires is not None:
        fields["expires"] = expires.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if default_namespace is not None:
        fields["defaultNamespace"] = default_namespace
    return base64.b64encode(json.dumps(fields).encode()).decode()


def expiry(text: str, now: datetime) -> datetime:
    """Read when a key ends: a span such as 30d, 12h or 90m, or a date.

    Raises:
        PluginError: it is neither, or in the past.
    """
    if match := _SPAN.fullmatch(text):
        return now + timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"--expires {text}: give a span such as 30d or 12h, or a date such as 2027-01-31"
        raise PluginError(message, ExitCode.USAGE) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment <= now:
        raise PluginError(f"--expires {text}: this time is in the past; give a later one", ExitCode.USAGE)
    return moment


def check_name(name: str) -> str:
    """Return a key's name.

    Raises:
        PluginError: it cannot be the name of an entry in a Secret.
    """
    if not _NAME.fullmatch(name):
        message = f"{name!r} is not a name for a key; use letters, digits, '.', '_' and '-'"
        raise PluginError(message, ExitCode.USAGE)
    return name


def check_namespace(name: str) -> str:
    """Return a namespace's name.

    Raises:
        PluginError: no namespace can be called that.
    """
    if not NAMESPACE.fullmatch(name):
        raise PluginError(f"--default-namespace {name!r}: give the name of one namespace", ExitCode.USAGE)
    return name


def key_rows(secret: Mapping[str, Any]) -> list[dict[str, object]]:
    """Return one row per key: name, models, limits, expiry, default namespace; what is broken says so."""
    rows: list[dict[str, object]] = []
    for name, value in sorted((secret.get("data") or {}).items()):
        try:
            fields = json.loads(base64.b64decode(value))
            models = ", ".join(fields.get("models", ["*"]))
        except (ValueError, AttributeError, TypeError, RecursionError):
            fields, models = {"expires": "", **dict.fromkeys(LIMITS.values(), "")}, "(broken: opens nothing)"
        limits = {short: fields.get(field, "no limit") for short, field in LIMITS.items()}
        expires, namespace = fields.get("expires", "never"), fields.get("defaultNamespace", "")
        rows.append({"name": name, "models": models, **limits, "expires": expires, "namespace": namespace})
    return rows


def secret_of_gateway(deployments: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return namespace and name of the Secret that the gateway was told to read.

    Raises:
        PluginError: there is no gateway, it uses no keys, or there are several.
    """
    what = "the gateway uses no keys" if deployments else "there is no gateway here that you can see"
    otherwise = f"{what}; install the chart with gateway.enabled and gateway.keys.enabled, or give --secret"
    return the_one(told(deployments, _FLAG), otherwise, "--secret")
