"""The gateways of a cluster, and what their Deployments tell them."""

from collections.abc import Mapping, Sequence
from typing import Any

from vicuna_contract.exits import ExitCode
from vicuna_operator.errors import PluginError
from vicuna_operator.plugin.kubectl import Kubectl

__all__ = ["gateways", "namespaced", "the_one", "told"]

_GATEWAYS = "app.kubernetes.io/component=gateway,app.kubernetes.io/part-of=vicuna-operator"


def gateways(kubectl: Kubectl) -> Sequence[Mapping[str, Any]]:
    """Return the Deployments of all gateways."""
    listed = kubectl.read("get", "deployments", "--all-namespaces", f"--selector={_GATEWAYS}")
    return listed.get("items") or []


def told(deployments: Sequence[Mapping[str, Any]], flag: str) -> list[str]:
    """Return what is said with a flag, each thing once."""
    found = {
        argument.removeprefix(flag)
        for deployment in deployments
        for container in deployment["spec"]["template"]["spec"]["containers"]
        for argument in container.get("args") or ()
        if argument.startswith(flag)
    }
    return sorted(found)


def the_one(found: Sequence[str], otherwise: str, option: str) -> tuple[str, str]:
    """Return namespace and name of the only thing that was found.

    Args:
        found: each as NAMESPACE/NAME.
        otherwise: what to say where there is none.
        option: which names one of several.

    Raises:
        PluginError: there is none, or there are several.
    """
    if len(found) == 1:
        return namespaced(found[0], option)
    if found:
        raise PluginError(f"there are several gateways; name one: {option} {' or '.join(found)}")
    raise PluginError(otherwise)


def namespaced(text: str, option: str) -> tuple[str, str]:
    """Read NAMESPACE/NAME.

    Raises:
        PluginError: it is something else.
    """
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name):
        raise PluginError(f"{option} {text}: give NAMESPACE/NAME", ExitCode.USAGE)
    return namespace, name
