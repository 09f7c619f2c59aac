"""A model behind an OpenAI-compatible server: wait for the server, list its models, stream an answer."""

import os
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from typing import Any

import httpx

from vicuna_contract.names import REVISION_HEADER, TRIMMED_HEADER
from vicuna_contract.sse import read_events
from vicuna_server.chat.backend import ChatMessage, Options, Report
from vicuna_server.chat.deltas import Deltas
from vicuna_server.errors import InputError, UnreachableError, UsageError
from vicuna_server.loopback import is_loopback
from vicuna_server.tools.output import OutputPart

__all__ = ["RemoteModel"]

CHAT = "/v1/chat/completions"
RETRY_SECONDS = 0.3
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 120.0
"""Servers of this project send a comment every 15 s; other servers may be silent until a slow first token."""


class RemoteModel:
    """Talks to one server. An API key is taken from `VICUNA_API_KEY`.

    Args:
        url: The server's address, with or without `/v1`.
        model: The model's name there; None: the first one listed, looked up with the first answer.
        usage: Whether to ask for token counts, which some servers do not support.

    Raises:
        UsageError: The address is not an http(s) URL.
    """

    def __init__(self, url: str, model: str | None = None, *, usage: bool = False) -> None:
        self.report = Report()
        self._model = model
        self._usage = usage
        self.url = url.rstrip("/").removesuffix("/v1")
        key = _api_key()
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise UsageError(f"--url {url!r} is not a URL: {error}; write for example http://127.0.0.1:8000") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise UsageError(f"--url {url!r} is not an http(s) URL; write for example http://127.0.0.1:8000")
        try:
            self._http = httpx.Client(
                base_url=self.url,
                headers={"authorization": f"Bearer {key}"} if key else {},
                timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
                trust_env=not is_loopback(parsed.host),  # no proxy leads to this machine
            )
        except (ImportError, ValueError) as error:
            raise UsageError(
                f"the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names cannot be used ({error}); name another, or "
                f"state NO_PROXY={parsed.host}"
            ) from error

    @property
    def title(self) -> str:
        """The model's name and its server."""
        return f"{self.model} at {self.url}"

    @property
    def model(self) -> str:
        """The model's name.

        Raises:
            UnreachableError: The server cannot be reached.
            InputError: The response is not that of an OpenAI-compatible server, or lists no model.
        """
        if self._model is None:
            self._model = self._models()[0]
        return self._model

    def use(self, model: str | None) -> None:
        """Use another model of the server's list; see `Backend.use`."""
        names = self._models()
        if model is not None and model not in names:
            raise InputError("NoModel", f"{self.url} has no model {model!r}; choose one of {', '.join(names)}")
        self._model = model or names[0]

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def wait_until_ready(self, seconds: float) -> None:
        """Return once `/readyz` says 200; a server without that route counts as ready.

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
                    "ServerNotReady",
                    f"{self.url} {state} after {seconds:g} s; see the server's log, or give a longer --wait",
                )
            time.sleep(RETRY_SECONDS)

    def _models(self) -> list[str]:
        """Return the names that the server lists, at least one."""
        try:
            response = self._http.get("/v1/models")
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.status_code != 200:
            raise _refused(response)
        try:
            names = [str(one["id"]) for one in response.json()["data"]]
        except (ValueError, KeyError, TypeError):
            names = []
        if not names:
            raise InputError("NoModel", f"{self.url} lists no model; name one with --model")
        return names

    def stream(self, messages: Sequence[ChatMessage], options: Options) -> Generator[OutputPart, None, None]:
        """Yield the answer's parts; see `Backend.stream`.

        Raises:
            UnreachableError: The server cannot be reached or breaks off.
            InputError: The server refuses the request.
        """
        body: dict[str, object] = {"model": self.model, "messages": list(messages), "stream": True}
        body |= options.stated()
        if self._usage:
            body["stream_options"] = {"include_usage": True}
        self.report = Report()
        try:
            with self._http.stream("POST", CHAT, json=body) as response:
                if response.status_code == 200:
                    yield from self._parts(response.iter_lines())
                    return
                response.read()
                if not _can_trim(response):
                    raise _refused(response)
            with self._http.stream("POST", CHAT, json={**body, "truncation": "auto"}) as response:
                if response.status_code != 200:
                    response.read()
                    raise _refused(response)
                self.report = Report(left_out=int(response.headers.get(TRIMMED_HEADER, "0")))
                yield from self._parts(response.iter_lines())
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _parts(self, lines: Iterable[str]) -> Generator[OutputPart, None, None]:
        deltas = Deltas()
        try:
            for event in read_events(lines):
                if "error" in event:
                    raise UnreachableError(
                        "AnswerFailed", f"the server ended the answer with an error: {event['error'].get('message')}"
                    )
                self._note(event)
                yield from deltas.read(event)
            yield from deltas.end()
        except ValueError as error:
            raise InputError(
                "AnswerUnreadable", f"the server sent an event that is {error}; check that it has OpenAI's API"
            ) from error
        except EOFError as error:
            raise UnreachableError(
                "AnswerCutOff",
                "the connection ended before the answer was complete; ask again, or see the server's log",
            ) from error

    def _note(self, event: dict[str, Any]) -> None:
        for choice in event.get("choices", ())[:1]:
            if reason := choice.get("finish_reason"):
                self.report = replace(self.report, finish_reason=reason)
        if counts := event.get("usage"):
            self.report = replace(
                self.report,
                prompt_tokens=counts.get("prompt_tokens"),
                cached_tokens=(counts.get("prompt_tokens_details") or {}).get("cached_tokens"),
                tokens=counts.get("completion_tokens"),
            )

    def _unreachable(self, error: httpx.HTTPError) -> UnreachableError:
        return UnreachableError(
            "ServerUnreachable",
            f"{self.url} cannot be reached ({_reason(error)}); check the address and that the server runs",
        )


def _api_key() -> str:
    key = os.environ.get("VICUNA_API_KEY", "")
    if not (key.isascii() and key.isprintable()):
        raise UsageError("VICUNA_API_KEY has letters that no API key has, such as a line's end; copy the key again")
    return key


def _can_trim(response: httpx.Response) -> bool:
    """Return whether a server of this project refused the conversation for its length."""
    try:
        code = response.json()["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return False
    return code == "context_length_exceeded" and REVISION_HEADER in response.headers


def _refused(response: httpx.Response) -> InputError:
    try:
        message = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {response.status_code} from {response.url} without OpenAI's error object; check --url"
    return InputError("RequestRefused", f"the server refused the request: {message}")


def _reason(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
