"""What strangers do to a gateway: `python -m support.floods NAME PORT ADDRESSES CONNECTIONS`, until its input ends."""

import contextlib
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from support.raw import request

__all__ = ["BAD_KEY", "FLOODS"]

BAD_KEY = "bad"
BODY = 4 * 2**20


class Strangers:
    """Connections to the gateway, from one loopback address or from eight, each doing one hostile thing."""

    def __init__(self, port: int, addresses: int) -> None:
        self._port = port
        self._addresses = addresses
        self._count = 0

    @contextmanager
    def connections(self, count: int) -> Iterator[list[socket.socket]]:
        """Open so many, and hold them until the input ends; some the gateway will not take."""
        with ExitStack() as held:
            opened = []
            for _ in range(count):
                one = held.enter_context(socket.socket())
                with contextlib.suppress(OSError):
                    one.settimeout(10)
                    self._count += 1
                    one.bind((f"127.0.0.{2 + self._count % self._addresses}", 0))
                    one.connect(("127.0.0.1", self._port))
                    opened.append(one)
            yield opened
            sys.stdin.read()

    def send(self, one: socket.socket, data: bytes) -> None:
        """Send it, as far as the gateway takes it."""
        with contextlib.suppress(OSError):
            one.sendall(data)


def nobody(strangers: Strangers, count: int) -> None:
    sys.stdin.read()


def silence(strangers: Strangers, count: int) -> None:
    with strangers.connections(count):
        pass


def half_heads(strangers: Strangers, count: int) -> None:
    with strangers.connections(count) as opened:
        for one in opened:
            strangers.send(one, b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\na: " + b"b" * 60_000)


def endless_heads(strangers: Strangers, count: int) -> None:
    """One connection sends 100 MB of lines, the others 1 MB each."""
    line = b"a: " + b"b" * 8000 + b"\r\n"
    with strangers.connections(count) as opened:
        for number, one in enumerate(opened):
            with contextlib.suppress(OSError):
                one.sendall(b"GET / HTTP/1.1\r\n")
                for _ in range(12_500 if number == 0 else 125):
                    one.sendall(line)


def half_bodies(strangers: Strangers, count: int) -> None:
    """One key's owner: each body but for a byte of it, as large as bodies may be."""
    head = request(None, f"authorization: Bearer {BAD_KEY}", length=BODY)
    body = b" " * (BODY - 1)
    with strangers.connections(max(count // 10, 40)) as opened:
        for one in opened:
            strangers.send(one, head + body)


def bodies_without_a_key(strangers: Strangers, count: int) -> None:
    with strangers.connections(count) as opened:
        for one in opened:
            strangers.send(one, request(b"x" * 250_000, length=BODY))


def slow_readers(strangers: Strangers, count: int) -> None:
    get = request(None, method="GET", path="/assets/app.js")
    with strangers.connections(count) as opened:
        for one in opened:
            strangers.send(one, get * 4)


def requests_in_a_row(strangers: Strangers, count: int) -> None:
    """More requests in one packet than are answered at once, the answers not read."""
    with strangers.connections(count) as opened:
        for one in opened:
            strangers.send(one, b"GET / HTTP/1.1\r\n\r\n" * 14_000)


def come_and_go(strangers: Strangers, count: int) -> None:
    for _ in range(3):
        with strangers.connections(count) as opened:
            for one in opened:
                strangers.send(one, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")


FLOODS = {
    each.__name__: each
    for each in (
        nobody,
        silence,
        half_heads,
        endless_heads,
        half_bodies,
        bodies_without_a_key,
        slow_readers,
        requests_in_a_row,
        come_and_go,
    )
}


def main() -> None:
    name, port, addresses, count = sys.argv[1:]
    FLOODS[name](Strangers(int(port), int(addresses)), int(count))


if __name__ == "__main__":
    main()
