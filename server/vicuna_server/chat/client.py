"""A small client of OpenAI-compatible servers: wait for one, ask which model it has, stream an answer."""

import json
import os
import time
from collections.abc import Generator, Iterable
from typing import Self

import httpx

from vicuna_server.errors import InputError, UnreachableError, UsageError

__all__ = ["ChatClient"]

RETRY_SECONDS = 0.3
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 120.0
"""Servers of this project send a comment every 15 s; a first token on a slow machine may take longer elsewhere."""


class ChatClient:
    """Talks to one server. An API key is taken from `VICUNA_API_KEY`.

    Args:
        url: The server's address, with or without `/v1`.

    Raises:
        UsageError: The address is no http(s) URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        key = os.environ.get("VICUNA_API_KEY")
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise UsageError(f"--url {url!r} is no address: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise UsageError(f"--url {url!r} is no address; write for example http://127.0.0.1:8000")
        self._http = httpx.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def wait_until_ready(self, seconds: float) -> None:
        """Return once `/readyz` answers; a server without that route counts as ready.

        Raises:
            UnreachableError: Not within the time.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                response = self._http.get("/readyz", timeout=5.0)
                if response.status_code in (200, 404):
                    return
                state = f"says {response.status_code} ({response.text.strip()[:100]})"
            except httpx.HTTPError as error:
                state = f"cannot be reached ({_reason(error)})"
            if time.monotonic() >= deadline:
                raise UnreachableError(
                    "ServerNotReady", f"{self.url} {state} after {seconds:g} s of waiting; see its log, or wait longer"
                )
            time.sleep(RETRY_SECONDS)

    def first_model(self) -> str:
        """Return the name of the first model that the server lists.

        Raises:
            UnreachableError: The server cannot be reached.
            InputError: What answers is no OpenAI-compatible server, or has no model.
        """
        try:
            response = self._http.get("/v1/models")
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.status_code != 200:
            raise _refused(response)
        try:
            return str(response.json()["data"][0]["id"])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise InputError("NoModel", f"{self.url} lists no model; name one with --model") from error

    def stream(
        self, model: str, messages: list[dict[str, str]], temperature: float | None
    ) -> Generator[str, None, None]:
        """Yield the pieces of the assistant's next message; closing the iterator stops the server's work.

        Raises:
            UnreachableError: The server cannot be reached or breaks off.
            InputError: The server refuses the request.
        """
        body: dict[str, object] = {"model": model, "messages": messages, "stream": True}
        if temperature is not None:
            body["temperature"] = temperature
        try:
            with self._http.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.status_code != 200:
                    response.read()
                    raise _refused(response)
                yield from _pieces(response.iter_lines())
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.HTTPError) -> UnreachableError:
        return UnreachableError(
            "ServerUnreachable",
            f"{self.url} cannot be reached ({_reason(error)}); check the address and that the server runs",
        )


def _pieces(lines: Iterable[str]) -> Generator[str, None, None]:
    """Read server-sent events up to `[DONE]`."""
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        try:
            event = json.loads(data)
        except ValueError as error:
            raise InputError("AnswerUnreadable", f"the server sent what is not JSON: {data[:80]}") from error
        if "error" in event:
            raise UnreachableError("AnswerFailed", f"the server broke off: {event['error'].get('message')}")
        for choice in event.get("choices", ())[:1]:
            if text := choice.get("delta", {}).get("content"):
                yield text
    raise UnreachableError("AnswerCutOff", "the connection ended before the answer was complete")


def _refused(response: httpx.Response) -> InputError:
    try:
        message = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {response.status_code} from {response.url}, which is no OpenAI-compatible answer"
    return InputError("RequestRefused", f"the server refuses: {message}")


def _reason(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
