"""A chat completion over HTTP, streamed, with nothing but the standard library."""

import http.client
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from vicuna_contract.names import REVISION_HEADER
from vicuna_contract.sse import read_events
from vicuna_operator.errors import PluginError

__all__ = ["ChatCompletion", "served_name"]

_SECONDS = 300.0


@dataclass
class ChatCompletion:
    """One request and its streamed response.

    Attributes:
        revision: of the server that answers; empty before.
        first: seconds from sending to the first text; None before.
        tokens: chunks of text that came.
    """

    url: str
    body: Mapping[str, Any]
    revision: str = ""
    first: float | None = None
    tokens: int = 0

    def chunks(self) -> Iterator[str]:
        """Send the request and yield the completion's text as it comes; closing the iterator closes the connection.

        Raises:
            PluginError: the server refuses, or is lost.
        """
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_SECONDS)
        started = time.monotonic()
        try:
            connection.request(
                "POST",
                "/v1/chat/completions",
                json.dumps({**self.body, "stream": True}),
                {"Content-Type": "application/json"},
            )
            with connection.getresponse() as answer:
                self.revision = answer.headers.get(REVISION_HEADER, "")
                if answer.status != 200:
                    raise PluginError(f"HTTP {answer.status}: {_message(answer.read())}")
                for text in _texts(answer):
                    if self.first is None:
                        self.first = time.monotonic() - started
                    self.tokens += 1
                    yield text
        except (OSError, http.client.HTTPException) as error:
            raise PluginError(f"the connection to the server was lost: {error or type(error).__name__}") from error
        finally:
            connection.close()


def served_name(body: Mapping[str, Any]) -> str:
    """Return the name of a VicunaModel in its server's API."""
    serving = (body.get("spec") or {}).get("serving") or {}
    return str(serving.get("servedName") or body["metadata"]["name"])


def _texts(answer: Iterable[bytes]) -> Iterator[str]:
    try:
        for event in read_events(line.decode(errors="replace") for line in answer):
            if "error" in event:
                raise PluginError(f"the response broke off: {event['error'].get('message')}")
            choices: Sequence[Mapping[str, Any]] = event.get("choices") or ()
            for choice in choices:
                if text := (choice.get("delta") or {}).get("content"):
                    yield str(text)
    except ValueError as error:
        raise PluginError(f"the response broke off: an event is {error}") from error
    except EOFError as error:
        raise PluginError("the response broke off: the connection to the server was lost; try again") from error


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode(errors="replace")[:200]
