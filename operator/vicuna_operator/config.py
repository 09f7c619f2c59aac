"""The operator's own settings, from flags or environment; a wrong one names its variable."""

import json
import os
import re
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from vicuna_contract.signing import joined, public_keys
from vicuna_contract.vllm_arguments import VLLM_IMAGE
from vicuna_operator.errors import ConfigError
from vicuna_operator.planning.allowed import KINDS
from vicuna_operator.planning.config import PlanConfig

__all__ = ["FLAGS", "OperatorConfig", "load_config"]

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SERVICE_ACCOUNT_NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

# variable -> what it says; the flag is its name without VICUNA_, in lower case with dashes
FLAGS: Mapping[str, str] = {
    "VICUNA_SERVER_IMAGE": "default image of merge and serving containers (required)",
    "VICUNA_SERVER_IMAGE_PULL_POLICY": "its pull policy: Always, IfNotPresent (default) or Never",
    "VICUNA_FRONT_IMAGE": "default image of servers with vLLM as their engine; empty: the server image",
    "VICUNA_VLLM_IMAGE": f"default image of vLLM (default {VLLM_IMAGE})",
    "VICUNA_WATCH_NAMESPACES": "namespaces to serve, separated by commas; empty: all of the cluster",
    "VICUNA_LEASE_NAME": "name of the Lease that keeps one replica active (default vicuna-operator)",
    "VICUNA_MERGE_PROGRESS": "read merge progress from pod logs: true (default) or false",
    "VICUNA_NETWORK_PEERS": "NetworkPolicyPeers, as JSON, that may reach the models' servers; empty: all may",
    "VICUNA_GATEWAY_KEYS": "public keys of gateways: new servers answer only what one has signed; empty: whoever asks",
    "VICUNA_ALLOWED": "patterns of what models may name, as JSON: images, serviceAccounts, …; empty: anything",
    "VICUNA_PLATFORM_USER": "leave user and groups of the pods to the platform: true or false (default)",
    "VICUNA_HEALTH_PORT": "port of /healthz and /readyz (default 8080; 0: none)",
    "VICUNA_LOG_LEVEL": "debug, info (default), warning or error",
    "VICUNA_LOG_FORMAT": "plain (default) or json",
    "POD_NAME": "identity of this replica (default: host name and a random part)",
    "POD_NAMESPACE": "namespace of the Lease (default: the pod's own, else default)",
}

T = TypeVar("T")


@dataclass(frozen=True)
class OperatorConfig:
    """Settings of `vicuna-operator run`, checked."""

    plan: PlanConfig
    watch_namespaces: tuple[str, ...] = ()
    lease_name: str = "vicuna-operator"
    identity: str = "vicuna-operator"
    namespace: str = "default"
    health_port: int = 8080
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["plain", "json"] = "plain"


def load_config(
    flags: Mapping[str, str | None] | None = None, environ: Mapping[str, str] | None = None
) -> OperatorConfig:
    """Read the settings; `flags` is keyed by variable name and wins over the environment.

    Raises:
        ConfigError: names the variable and what it may be.
    """
    given = {**(os.environ if environ is None else environ)}
    given.update({name: value for name, value in (flags or {}).items() if value is not None})

    def read(variable: str, default: str, parse: Callable[[str, str], T]) -> T:
        return parse(variable, given.get(variable, "").strip() or default)

    return OperatorConfig(
        plan=PlanConfig(
            server_image=read("VICUNA_SERVER_IMAGE", "", _image),
            server_image_pull_policy=read("VICUNA_SERVER_IMAGE_PULL_POLICY", "IfNotPresent", _pull_policy),
            front_image=read("VICUNA_FRONT_IMAGE", "", _image_if_any),
            vllm_image=read("VICUNA_VLLM_IMAGE", VLLM_IMAGE, _image_if_any),
            merge_progress=read("VICUNA_MERGE_PROGRESS", "true", _boolean),
            allowed=read("VICUNA_ALLOWED", "", _allowed),
            platform_user=read("VICUNA_PLATFORM_USER", "false", _boolean),
            network_peers=read("VICUNA_NETWORK_PEERS", "", _peers),
            gateway_keys=read("VICUNA_GATEWAY_KEYS", "", _gateway_keys),
        ),
        watch_namespaces=read("VICUNA_WATCH_NAMESPACES", "", _namespaces),
        lease_name=read("VICUNA_LEASE_NAME", "vicuna-operator", _dns_label),
        identity=read("POD_NAME", f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}", lambda _, text: text),
        namespace=read("POD_NAMESPACE", _own_namespace(), _dns_label),
        health_port=read("VICUNA_HEALTH_PORT", "8080", _port),
        log_level=read("VICUNA_LOG_LEVEL", "info", _log_level),
        log_format=read("VICUNA_LOG_FORMAT", "plain", _log_format),
    )


def _own_namespace() -> str:
    try:
        with open(_SERVICE_ACCOUNT_NAMESPACE) as file:
            return file.read().strip() or "default"
    except OSError:
        return "default"


def _image(variable: str, text: str) -> str:
    if not text or any(character.isspace() for character in text):
        raise ConfigError(f"{variable} must name the image of the merge and serving containers, is {text!r}")
    return text


def _image_if_any(variable: str, text: str) -> str:
    if any(character.isspace() for character in text):
        raise ConfigError(f"{variable} must name an image, is {text!r}; an image's name has no blanks")
    return text


def _peers(variable: str, text: str) -> Sequence[Mapping[str, Any]] | None:
    if not text:
        return None
    try:
        peers = json.loads(text)
    except ValueError:
        peers = None
    if not isinstance(peers, list) or not all(isinstance(peer, dict) for peer in peers):
        raise ConfigError(f"{variable} must be a JSON list of NetworkPolicyPeers, is {text[:200]!r}")
    return peers


def _gateway_keys(variable: str, text: str) -> str:
    try:
        return joined(public_keys(text)) if text else ""
    except ValueError as error:
        raise ConfigError(f"{variable}: {error}") from None


def _allowed(variable: str, text: str) -> Mapping[str, Sequence[str]]:
    if not text:
        return {}
    try:
        allowed = json.loads(text)
    except ValueError:
        allowed = None
    if not isinstance(allowed, dict) or not all(isinstance(part, list) for part in allowed.values()):
        raise ConfigError(f"{variable} must be a JSON object of lists of patterns, is {text[:200]!r}")
    if unknown := sorted(set(allowed) - set(KINDS)):
        raise ConfigError(f"{variable}: {', '.join(unknown)} is unknown; there are {', '.join(KINDS)}")
    return {kind: [str(pattern) for pattern in patterns] for kind, patterns in allowed.items()}


def _pull_policy(variable: str, text: str) -> str:
    return _one_of(variable, text, ("Always", "IfNotPresent", "Never"))


def _log_level(variable: str, text: str) -> Literal["DEBUG", "INFO", "WARNING", "ERROR"]:
    levels: tuple[Literal["DEBUG", "INFO", "WARNING", "ERROR"], ...] = ("DEBUG", "INFO", "WARNING", "ERROR")
    return levels[levels.index(_one_of(variable, text.upper(), levels))]


def _log_format(variable: str, text: str) -> Literal["plain", "json"]:
    return "json" if _one_of(variable, text, ("plain", "json")) == "json" else "plain"


def _boolean(variable: str, text: str) -> bool:
    return _one_of(variable, text.lower(), ("true", "false")) == "true"


def _one_of(variable: str, text: str, allowed: tuple[str, ...]) -> str:
    if text not in allowed:
        raise ConfigError(f"{variable} is {text!r} and must be one of {', '.join(allowed)}")
    return text


def _port(variable: str, text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise ConfigError(f"{variable} is {text!r} and must be a port number, 0 to 65535")
    return int(text)


def _dns_label(variable: str, text: str) -> str:
    if not _DNS_LABEL.fullmatch(text):
        raise ConfigError(f"{variable} is {text!r} and must be lower-case letters, digits and dashes")
    return text


def _namespaces(variable: str, text: str) -> tuple[str, ...]:
    names = (name.strip() for name in text.split(","))
    return tuple(dict.fromkeys(_dns_label(variable, name) for name in names if name))
