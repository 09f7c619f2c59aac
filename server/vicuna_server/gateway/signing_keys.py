"""`vicuna-server signing-keys`: makes the gateway's key pairs in a cluster, once; run by a hook of the chart."""

import argparse
import asyncio
import logging
import sys

from vicuna_server.errors import VicunaError
from vicuna_server.gateway.cli import namespaced_name

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add, name = parser.add_argument, "NAMESPACE/NAME"
    add(
        "--secret",
        required=True,
        type=namespaced_name,
        metavar=name,
        help="Secret of the private keys, made where it does not exist",
    )
    add("--config-map", required=True, type=namespaced_name, metavar=name, help="ConfigMap of the public keys")
    add("--rotation", default="", metavar="WORD", help="name of a rotation; a new one lets the next key take over")


def run(args: argparse.Namespace) -> int:
    """Make what is missing; return 0, or the exit code of the failure."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    # Imported here so that `--help` and errors in flags take no time.
    from vicuna_server.gateway.key_provisioning import provision

    try:
        asyncio.run(provision(args.secret, args.config_map, args.rotation))
    except VicunaError as error:
        print(f"vicuna-server signing-keys: {error.reason}: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0
