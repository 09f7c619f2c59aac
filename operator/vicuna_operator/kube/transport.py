"""One HTTP request to the API server: credentials, one retry with fresh ones, and errors as the operator has them."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import aiohttp
from kubernetes.aio import client as aio_client
from kubernetes.aio import config as untyped_config

from vicuna_contract.cluster import configure
from vicuna_operator.errors import UnavailableError
from vicuna_operator.kube.errors import error_from_answer
from vicuna_operator.kube.port import Body

__all__ = ["OnRequest", "Transport", "load_configuration"]

_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=10)
_OK, _UNAUTHORIZED = 200, 401

Query = Sequence[tuple[str, str]]
OnRequest = Callable[[str, int | None, float], None]  # method, status (None: no answer), seconds
aio_config: Any = untyped_config


class Transport:
    """Sends requests; `on_request` is called after each of them."""

    def __init__(self, configuration: Any, on_request: OnRequest) -> None:
        self._api: Any = aio_client.ApiClient(configuration)
        self._api.user_agent = "vicuna-operator"
        self._on_request = on_request

    @property
    def configuration(self) -> Any:
        """The API server's address and the credentials, as last read."""
        return self._api.configuration

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    async def reload(self) -> None:
        """Read the credentials again: a token may have been rotated."""
        self._api.configuration = await load_configuration()

    async def json(
        self,
        method: str,
        path: str,
        query: Query = (),
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Body:
        """Send a request; return the JSON object of the answer.

        Raises:
            KubeError: the server refused or could not be reached, or the answer is not a JSON object.
        """
        raw, _ = await self.request(method, path, query, body, content_type)
        try:
            parsed = json.loads(raw)
        except (RecursionError, ValueError):
            parsed = None
        if not isinstance(parsed, dict):
            raise UnavailableError(f"{method} {path}: the answer is not a JSON object; is this an API server?")
        return parsed

    async def request(
        self,
        method: str,
        path: str,
        query: Query = (),
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> tuple[bytes, Mapping[str, str]]:
        """Send a request; return the answer's body and headers.

        Raises:
            KubeError: the server refused or could not be reached.
        """
        status, data, headers = await self._send(method, path, query, body, content_type)
        if status == _UNAUTHORIZED:  # the token may have been rotated: read its file again
            await self.reload()
            status, data, headers = await self._send(method, path, query, body, content_type)
        if not 200 <= status <= 299:
            raise error_from_answer(status, data, headers)
        return data, headers

    async def stream(
        self, path: str, query: Query, accept: str, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """Send a GET; return the answer, its body not read yet.

        Raises:
            KubeError: the server refused or could not be reached.
        """
        answer = await self._open("GET", path, query, None, {"Accept": accept}, limits)
        if answer.status == _UNAUTHORIZED:
            answer.release()
            await self.reload()
            answer = await self._open("GET", path, query, None, {"Accept": accept}, limits)
        if answer.status == _OK:
            return answer
        async with answer:
            raise error_from_answer(int(answer.status), await answer.read(), answer.headers)

    async def _send(
        self, method: str, path: str, query: Query, body: Mapping[str, Any] | None, content_type: str
    ) -> tuple[int, bytes, Mapping[str, str]]:
        headers = {"Accept": "application/json, */*", "Content-Type": content_type}
        answer = await self._open(method, path, query, body, headers, _TIMEOUT)
        try:
            return int(answer.status), await answer.read(), answer.headers
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"{self._api.configuration.host}: {_describe(error)}") from error

    async def _open(
        self,
        method: str,
        path: str,
        query: Query,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        begun, status = time.monotonic(), None
        try:
            # The body is left out: this function would copy it member by member, and it is plain JSON data already.
            method, url, sent, *_ = await self._api.param_serialize(
                method, path, query_params=list(query), header_params=dict(headers), auth_settings=["BearerToken"]
            )
            payload = dict(body) if body is not None else None
            wrapped = await self._api.call_api(method, url, sent, payload, _request_timeout=limits)
            answer: aiohttp.ClientResponse = wrapped.response
            status = int(answer.status)
            return answer
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"{self._api.configuration.host}: {_describe(error)}") from error
        except aio_config.ConfigException as error:
            raise UnavailableError(f"no usable credentials: {error}") from error
        finally:
            self._on_request(method, status, time.monotonic() - begun)


async def load_configuration() -> Any:
    """Read address and credentials of the API server.

    Raises:
        UnavailableError: there are none, or they cannot be read.
    """
    configuration = aio_client.Configuration()
    try:
        await configure(configuration, aio_config, os.environ)
    except ValueError as error:
        raise UnavailableError(str(error)) from error
    return configuration


def _describe(error: BaseException) -> str:
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
