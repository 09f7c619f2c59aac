"""`vicuna-server gateway`: flags, and the way out on failure."""

import argparse
import logging
import sys
from pathlib import Path

from vicuna_contract.arguments import count, positive
from vicuna_server.errors import UsageError, VicunaError
from vicuna_server.gateway.options import NamespacedName, Options
from vicuna_server.gateway.settings import GatewaySettings

__all__ = ["add_arguments", "namespaced_name", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add = parser.add_argument
    name = "NAMESPACE/NAME"
    add("--namespace", action="append", default=[], metavar="NAME", help="only models of this namespace (repeatable)")
    add("--keys-secret", type=namespaced_name, metavar=name, help="the Secret that holds the API keys")
    add("--no-keys", action="store_true", help="let everybody in who reaches this address")
    add(
        "--service",
        type=namespaced_name,
        metavar=name,
        help="the gateway's own Service: its replicas share each key's rate",
    )
    add(
        "--upstream",
        action="append",
        default=[],
        type=_upstream,
        metavar="MODEL=URL",
        help="without a cluster: a model's name and its server's address (repeatable, also for one model)",
    )
    add(
        "--signing-key",
        type=Path,
        metavar="FILE",
        help="Ed25519 private key (PEM) by which requests to servers are signed",
    )
    add("--max-requests", default=2000, type=positive, help="requests under way at most (default: 2000)")
    add("--idle-seconds", default=60, type=positive, help="a stream silent for longer is lost (default: 60)")
    add("--drain-seconds", default=5, type=count, help="on SIGTERM, go on taking requests so long (default: 5)")
    add("--access-log", default="on", choices=("on", "off"), help="one line of JSON per request, without its text")
    add("--host", default="0.0.0.0", help="address to listen on (default: all)")  # noqa: S104  # a container's port
    add("--port", default=8000, type=count, help="port to listen on (default: 8000; 0: any free one)")
    add("--metrics-port", default=9090, type=count, help="port of /metrics, which needs no key (default: 9090)")


def run(args: argparse.Namespace) -> int:
    """Serve until stopped; return 0, or the exit code of what went wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    for noisy in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        options = _options(args)
        # Imported here so that `--help` and wrong flags answer at once.
        from vicuna_server.gateway.service import serve_forever
        from vicuna_server.http.access_log import set_up_access_log

        set_up_access_log(on=args.access_log == "on")
        serve_forever(options)
    except VicunaError as error:
        print(f"vicuna-server gateway: {error.reason}: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse options that contradict each other."""
    if args.upstream:
        _check_upstream(args)
    if not args.no_keys and not args.keys_secret:
        raise UsageError("say which Secret holds the API keys (--keys-secret), or let everybody in (--no-keys)")
    if args.no_keys and args.keys_secret:
        raise UsageError("--keys-secret and --no-keys contradict each other")


def _check_upstream(args: argparse.Namespace) -> None:
    if args.namespace or args.keys_secret or args.service:
        raise UsageError("--upstream names models without a cluster; leave out --namespace, --keys-secret, --service")
    if not args.no_keys:
        raise UsageError("keys live in a cluster's Secret; with --upstream say --no-keys")


def _options(args: argparse.Namespace) -> Options:
    _check(args)
    return Options(
        host=args.host,
        port=args.port,
        metrics_port=args.metrics_port,
        drain_seconds=args.drain_seconds,
        namespaces=tuple(args.namespace),
        keys_secret=args.keys_secret,
        service=args.service,
        signing_key=args.signing_key,
        upstreams=tuple(args.upstream),
        settings=GatewaySettings(max_requests=args.max_requests, idle_seconds=args.idle_seconds),
    )


def namespaced_name(text: str) -> NamespacedName:
    """Read NAMESPACE/NAME."""
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAMESPACE/NAME")
    return NamespacedName(namespace, name)


def _upstream(text: str) -> tuple[str, str]:
    name, _, url = text.partition("=")
    if not name or not url.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} is not MODEL=URL")
    return name, url.rstrip("/")
