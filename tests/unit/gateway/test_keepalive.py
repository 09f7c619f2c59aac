"""A machine that does not answer any more: nothing else would end a connection to it."""

import shutil
import socket
import subprocess
import sys

import pytest

from support.unsharing import unshared
from vicuna_server.gateway.keepalive import UNANSWERED_SECONDS, open_socket

CUT = """
import asyncio
import aiohttp
from vicuna_server.gateway import keepalive
from vicuna_server.gateway.catalogue import Catalogue
from vicuna_server.gateway.metrics import Metrics
from vicuna_server.gateway.settings import GatewaySettings
from vicuna_server.gateway.upstream import Upstream

async def set_network(state):
    process = await asyncio.create_subprocess_exec("ip", "link", "set", "lo", state)
    assert await process.wait() == 0

async def main():
    await set_network("up")
    asked = asyncio.Event()
    class Silent(asyncio.Protocol):
        def data_received(self, data):
            asked.set()
    server = await asyncio.get_running_loop().create_server(Silent, "127.0.0.1", 8000)
    upstream = Upstream(GatewaySettings(), Metrics(), Catalogue(several=False))
    await upstream.open()
    request = asyncio.create_task(upstream.session.post("http://127.0.0.1:8000/", data=b"x"))
    await asked.wait()
    await set_network("down")
    try:
        await request
    except aiohttp.ClientOSError as error:
        print(error.errno)
    await upstream.close()
    server.close()

keepalive._IDLE_SECONDS, keepalive._INTERVAL_SECONDS, keepalive.UNANSWERED_SECONDS = 1, 1, 2
asyncio.run(main())
"""
"""Cuts the network, which is this process's alone, while a whole response is awaited."""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other options")
def test_connections_are_probed_for_half_a_minute() -> None:
    with open_socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 80))) as made:
        idle, interval, count, limit = (
            made.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        )
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert (idle + interval * count, limit) == (UNANSWERED_SECONDS, UNANSWERED_SECONDS * 1000)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("ip") is None, reason="needs ip, of iproute2")
def test_a_response_that_cannot_come_any_more_is_not_awaited() -> None:
    words = [*unshared("--net"), sys.executable, "-c", CUT]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stderr, done.stdout) == ("", "110\n")  # ETIMEDOUT
