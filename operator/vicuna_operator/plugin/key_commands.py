"""`kubectl vicuna key`: who may use the gateway."""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from vicuna_contract.arguments import positive
from vicuna_operator.errors import PluginError
from vicuna_operator.plugin.gateways import gateways, namespaced
from vicuna_operator.plugin.history import table
from vicuna_operator.plugin.keys import (
    LIMITS,
    check_name,
    check_namespace,
    entry_of,
    expiry,
    key_rows,
    new_key,
    secret_of_gateway,
)
from vicuna_operator.plugin.kubectl import Kubectl
from vicuna_operator.plugin.terminal import say

__all__ = ["add_key_arguments", "run_key"]

_COLUMNS = ("name", "models", "rpm", "tpm", "tpd", "expires", "namespace")
_RARE = ("tpm", "tpd", "namespace")
_MANAGER = "--field-manager=kubectl-vicuna"


def add_key_arguments(parser: argparse.ArgumentParser, *parents: argparse.ArgumentParser) -> None:
    """Declare `create`, `list` and `revoke`."""
    words = parser.add_subparsers(dest="word", required=True, parser_class=type(parser))

    def add(name: str, text: str, run: Callable[[Kubectl, argparse.Namespace], int]) -> argparse.ArgumentParser:
        word = words.add_parser(name, help=text, description=text, parents=list(parents))
        word.add_argument("--secret", metavar="NAMESPACE/NAME", help="the Secret (default: the gateway's)")
        word.set_defaults(run_word=run)
        return word

    create = add("create", "make a key and print it, once", _create)
    create.add_argument("key", metavar="NAME", help="what the key is called in lists and metrics")
    create.add_argument("--models", nargs="+", default=[], metavar="PATTERN", help="such as team-a/* (default: all)")
    for short, what in {"rpm": "requests a minute", "tpm": "tokens a minute", "tpd": "tokens a day, in UTC"}.items():
        create.add_argument(f"--{short}", type=positive, metavar="N", help=f"{what} (default: no limit)")
    create.add_argument("--expires", metavar="WHEN", help="a span such as 30d, or a date (default: never)")
    home = "where a model's short name is looked for first; allows nothing"
    create.add_argument("--default-namespace", metavar="NAMESPACE", help=home)
    listing = add("list", "the keys there are", _list)
    listing.add_argument("-o", "--output", choices=["text", "json"], default="text", help="form of the answer")
    add("revoke", "end a key", _revoke).add_argument("key", metavar="NAME", help="the key's name")


def run_key(kubectl: Kubectl, args: argparse.Namespace) -> int:
    """Run the subcommand."""
    return int(args.run_word(kubectl, args))


def _create(kubectl: Kubectl, args: argparse.Namespace) -> int:
    name = check_name(args.key)
    limits = {field: getattr(args, short) for short, field in LIMITS.items()}
    expires = None if args.expires is None else expiry(args.expires, datetime.now(UTC))
    home = None if args.default_namespace is None else check_namespace(args.default_namespace)
    namespace, secret = _place(kubectl, args)
    found = _read(kubectl, namespace, secret)
    if found is not None and name in (found.get("data") or {}):
        raise PluginError(f"there is a key {name} already; revoke it first, or choose another name")
    key = new_key()
    entry = entry_of(key, models=args.models, limits=limits, expires=expires, default_namespace=home)
    if found is None:
        kubectl.write("create", "secret", "generic", secret, f"--namespace={namespace}", _MANAGER)
    # The patch has this entry alone, so that a key that is added at the same time is not lost.
    _patch(kubectl, namespace, secret, {name: entry})
    sys.stderr.write(f"key {name} is in Secret {namespace}/{secret}; it works within seconds and is shown only now:\n")
    sys.stdout.write(f"{key}\n")
    return 0


def _list(kubectl: Kubectl, args: argparse.Namespace) -> int:
    namespace, secret = _place(kubectl, args)
    rows = key_rows(_read(kubectl, namespace, secret) or {})
    if args.output == "json":
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        columns = [column for column in _COLUMNS if column not in _RARE or any(_is_said(row[column]) for row in rows)]
        say(table(rows, columns) if rows else "there are no keys yet")
    return 0


def _is_said(value: object) -> bool:
    return value not in ("", "no limit")


def _revoke(kubectl: Kubectl, args: argparse.Namespace) -> int:
    namespace, secret = _place(kubectl, args)
    found = _read(kubectl, namespace, secret) or {}
    if args.key not in (found.get("data") or {}):
        raise PluginError(f"there is no key {args.key} in Secret {namespace}/{secret}")
    _patch(kubectl, namespace, secret, {args.key: None})
    sys.stdout.write(f"key {args.key} ends within seconds\n")
    return 0


def _place(kubectl: Kubectl, args: argparse.Namespace) -> tuple[str, str]:
    return namespaced(args.secret, "--secret") if args.secret else secret_of_gateway(gateways(kubectl))


def _read(kubectl: Kubectl, namespace: str, name: str) -> dict[str, Any] | None:
    found = kubectl.read("get", "secrets", f"--namespace={namespace}", f"--field-selector=metadata.name={name}")
    return next(iter(found.get("items") or []), None)


def _patch(kubectl: Kubectl, namespace: str, name: str, data: dict[str, str | None]) -> None:
    patch = json.dumps({"data": data})
    kubectl.write("patch", "secret", name, f"--namespace={namespace}", "--type=merge", f"--patch={patch}", _MANAGER)
