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
    add("--secret", required=True, type=namespaced_name, metavar=name, help="gets the private keys, if it is not there")
    add("--config-map", required=True, type=namespaced_name, metavar=name, help="gets the public keys")
    add("--rotation", default="", metavar="WORD", help="one that was never said before: the next key takes over")


def run(args: argparse.Namespace) -> int:
    """Make what is missing; return 0, or the exit code of what went wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    # Imported here so that `--help` and wrong flags answer at once.
    from vicuna_server.gateway.key_keeper import keep

    try:
        asyncio.run(keep(args.secret, args.config_map, args.rotation))
    except VicunaError as error:
        print(f"vicuna-server signing-keys: {error.reason}: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0
