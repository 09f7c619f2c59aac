"""`vicuna-server gateway`: flags, and exit codes."""

import argparse
import json
import logging
import re
import sys
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from vicuna_contract.arguments import count, positive, split_origins
from vicuna_server.errors import UsageError, VicunaError
from vicuna_server.gateway.keys import KeyRing
from vicuna_server.gateway.options import NamespacedName, Options
from vicuna_server.gateway.settings import GatewaySettings

__all__ = ["add_arguments", "namespaced_name", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add = parser.add_argument
    name = "NAMESPACE/NAME"
    add("--namespace", action="append", default=[], metavar="NAME", help="only models of this namespace (repeatable)")
    add("--keys-secret", type=namespaced_name, metavar=name, help="the Secret that holds the API keys")
    add("--keys-file", type=_keys, metavar="PATH", help="without a cluster: a JSON file of API keys, {NAME: ENTRY}")
    add("--no-keys", action="store_true", help="serve requests without an API key")
    add(
        "--service",
        type=namespaced_name,
        metavar=name,
        help="the gateway's own Service: its replicas share the limits of each key",
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
        help="Ed25519 private key (PEM) that signs requests to servers",
    )
    add("--max-requests", default=2000, type=positive, help="requests under way at most (default: 2000)")
    add("--max-connections", default=3000, type=positive, help="of clients at once (default: 3000)")
    add(
        "--max-body-memory",
        type=positive,
        metavar="BYTES",
        help="of all request bodies under way (default: a quarter of memory)",
    )
    add(
        "--trusted-proxy",
        action="append",
        default=[],
        type=_network,
        metavar="CIDR",
        help="network of proxies whose X-Forwarded-For is trusted (repeatable)",
    )
    add(
        "--max-per-address",
        default=0,
        type=count,
        help="connections, or requests behind a proxy, of one address",
    )
    origins = "pages of other origins that may use the API; *: all (default: none)"
    add("--allowed-origins", default="", metavar="ORIGIN[,ORIGIN…]", help=origins)
    add("--idle-seconds", default=60, type=positive, help="a stream silent for longer is lost (default: 60)")
    held = "a request waits so long until a server of its model is ready; 0: it is refused at once (default: 50)"
    add("--hold-seconds", default=50, type=count, help=held)
    add("--max-held", default=50, type=positive, help="requests of one model and key that wait at once (default: 50)")
    session = "header that names a client's session, whose requests go to one server (default: x-session-id; '': none)"
    add("--session-header", type=_header, default="x-session-id", metavar="NAME", help=session)
    add("--drain-seconds", default=5, type=count, help="how long new requests are served after SIGTERM (default: 5)")
    add("--access-log", default="on", choices=("on", "off"), help="one line of JSON per request, without its text")
    add("--host", default="0.0.0.0", help="address to listen on (default: all)")  # noqa: S104  # a container's port
    add("--port", default=8000, type=count, help="port to listen on (default: 8000; 0: any free one)")
    add("--metrics-port", default=9090, type=count, help="port of /metrics, which needs no key (default: 9090)")


def run(args: argparse.Namespace) -> int:
    """Serve until stopped; return 0, or the exit code of the failure."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    for noisy in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        options = _options(args)
        # Imported here so that `--help` and errors in flags take no time.
        from vicuna_server.asgi.access_log import set_up_access_log
        from vicuna_server.gateway.service import serve_forever

        set_up_access_log(on=args.access_log == "on")
        serve_forever(options)
    except VicunaError as error:
        print(f"vicuna-server gateway: {error.reason}: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse options that contradict each other."""
    if args.port == args.metrics_port != 0:
        raise UsageError(f"--port and --metrics-port are both {args.port}; give two ports")
    if args.upstream:
        _check_upstream(args)
    sources = [bool(args.no_keys), bool(args.keys_secret), args.keys_file is not None]
    if not any(sources):
        raise UsageError("there are no API keys; give --keys-secret or --keys-file, or serve without keys (--no-keys)")
    if sum(sources) > 1:
        raise UsageError("--keys-secret, --keys-file and --no-keys contradict each other; give one of them")


def _check_upstream(args: argparse.Namespace) -> None:
    if args.namespace or args.keys_secret or args.service:
        raise UsageError("--upstream names models without a cluster; leave out --namespace, --keys-secret, --service")
    if not args.no_keys and args.keys_file is None:
        raise UsageError("--upstream works without a cluster, so also without a Secret; give --keys-file or --no-keys")


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
        ring=args.keys_file,
        settings=_settings(args),
    )


def _settings(args: argparse.Namespace) -> GatewaySettings:
    memory = {} if args.max_body_memory is None else {"max_body_memory": args.max_body_memory}
    return GatewaySettings(
        max_requests=args.max_requests,
        max_connections=args.max_connections,
        max_per_address=args.max_per_address,
        trusted_proxies=tuple(args.trusted_proxy),
        allowed_origins=split_origins(args.allowed_origins),
        idle_seconds=args.idle_seconds,
        hold_seconds=args.hold_seconds,
        max_held=args.max_held,
        session_header=args.session_header,
        **memory,
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
        raise argparse.ArgumentTypeError(f"{text!r} is not MODEL=URL with http:// or https://")
    return name, url.rstrip("/")


def _header(text: str) -> str:
    if text and not re.fullmatch(r"[A-Za-z0-9-]{1,64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a header; write one such as x-session-id")
    return text.lower()


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a network; write CIDR such as 10.0.0.0/8") from None


def _keys(path: str) -> KeyRing:
    wanted = "give a JSON object of API keys, {NAME: ENTRY}"
    try:
        entries = json.loads(Path(path).read_bytes())
        if not isinstance(entries, dict):
            raise argparse.ArgumentTypeError(f"{path} has another JSON value than an object; {wanted}")
        ring = KeyRing.parse({name: json.dumps(entry).encode() for name, entry in entries.items()})
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be read: {error.strerror}; {wanted}") from None
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{path} is not JSON ({error}); {wanted}") from None
    if ring.broken:
        raise argparse.ArgumentTypeError(f"{path}: {next(iter(ring.broken))}: {next(iter(ring.broken.values()))}")
    return ring
