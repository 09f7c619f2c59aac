"""What it looks like when a connection to a server is lost, and when there was none."""

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

__all__ = ["LOST", "UNSENT"]

LOST = (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError)
"""What is lost, or answers speaks no HTTP."""
UNSENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""Of these: nothing was sent."""
