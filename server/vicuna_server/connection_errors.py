"""The exceptions of a connection to a server that is lost, or was never made."""

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

__all__ = ["CONNECTION_LOST", "NOT_SENT"]

CONNECTION_LOST = (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError)
"""The connection is lost, or the response is not HTTP."""
NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""Those of them that say that nothing was sent."""
