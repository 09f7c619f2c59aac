"""`kubectl vicuna usage`: who used how much of what."""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from vicuna_contract.arguments import positive
from vicuna_contract.names import GROUP, LABEL_GATEWAY, USAGE_PLURAL
from vicuna_contract.printable import printable
from vicuna_operator.errors import PluginError
from vicuna_operator.plugin.gateways import gateways, namespaced, the_one, told
from vicuna_operator.plugin.history import table
from vicuna_operator.plugin.kubectl import Kubectl
from vicuna_operator.plugin.terminal import say
from vicuna_operator.plugin.usage import COLUMNS, as_csv, usage_rows

__all__ = ["add_usage_arguments", "run_usage"]

_FLAG = "--service="
_KEPT_DAYS = 32
_KIND = f"{USAGE_PLURAL}.{GROUP}"
_HEADINGS = {"promptTokens": "prompt", "completionTokens": "completion"}


def add_usage_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add = parser.add_argument
    add("--by", nargs="+", choices=COLUMNS, default=list(COLUMNS), help="columns to group by (default: all three)")
    days = f"how many days, today included, in UTC (default and most: {_KEPT_DAYS})"
    add("--days", type=positive, default=_KEPT_DAYS, metavar="N", help=days)
    add("--csv", action="store_const", const="csv", dest="output", help="the same as -o csv")
    add("-o", "--output", choices=["text", "csv", "json"], default="text", help="form of the answer")
    add("--gateway", metavar="NAMESPACE/NAME", help="the gateway, by its Service (default: the only one)")


def run_usage(kubectl: Kubectl, args: argparse.Namespace) -> int:
    """Print it."""
    by = list(dict.fromkeys(args.by))
    namespace, gateway = _gateway(kubectl, args.gateway)
    rows = usage_rows(_objects(kubectl, namespace, gateway), by, min(args.days, _KEPT_DAYS), datetime.now(UTC))
    if args.output == "csv":
        sys.stdout.write(printable(as_csv(rows, by)))
    elif args.output == "json":
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    elif rows:
        shown = [{_HEADINGS.get(name, name): str(value) for name, value in row.items()} for row in rows]
        say(table(shown, list(shown[0])))
    else:
        say(f"the gateway {namespace}/{gateway} has counted nothing in {args.days} days")
    return 0


def _gateway(kubectl: Kubectl, stated: str | None) -> tuple[str, str]:
    if stated:
        return namespaced(stated, "--gateway")
    try:
        found: Sequence[Any] = gateways(kubectl)
    except PluginError as error:
        if "Forbidden" not in str(error):
            raise
        raise PluginError(f"{error}\nname the gateway: --gateway NAMESPACE/NAME", error.exit_code) from None
    return the_one(told(found, _FLAG), "there is no gateway here; install the chart with gateway.enabled", "--gateway")


def _objects(kubectl: Kubectl, namespace: str, gateway: str) -> list[dict[str, Any]]:
    try:
        found = kubectl.read("get", _KIND, f"--namespace={namespace}", f"--selector={LABEL_GATEWAY}={gateway}")
    except PluginError as error:
        raise PluginError(_explained(str(error), namespace), error.exit_code) from None
    items: list[dict[str, Any]] = found.get("items") or []
    return items


def _explained(error: str, namespace: str) -> str:
    if "have a resource type" in error:
        return f"this cluster knows no {_KIND}, so nothing is counted; upgrade the chart"
    if "Forbidden" in error:
        return f"{error}\nit takes the role admin in {namespace}, or get and list of {_KIND}"
    return error
