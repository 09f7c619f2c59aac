"""What metrics and the access log say of one request."""

import json
import logging
import time

from vicuna_server.asgi.access_log import ACCESS_LOG
from vicuna_server.gateway.meter import Attempt
from vicuna_server.gateway.metrics import Metrics
from vicuna_server.gateway.model import Model
from vicuna_server.gateway.upstream import Outgoing
from vicuna_server.protocol.counts import Used

__all__ = ["RequestRecord"]

_access = logging.getLogger(ACCESS_LOG)


class RequestRecord:
    """Counts and logs one request.

    Attributes:
        status: of the response to the client; 0: none yet.
        revision: of the server; empty: not known.
    """

    def __init__(self, metrics: Metrics, model: Model, outgoing: Outgoing) -> None:
        self._metrics = metrics
        self._model = model
        self._outgoing = outgoing
        self._broken = False
        self._continued = 0
        self._seconds = 0.0
        self.status = 0
        self.revision = ""

    def begin(self, status: int) -> None:
        """Count a response whose first byte is about to be sent; 499: the client has left before."""
        self.status = status
        seconds = time.monotonic() - self._outgoing.arrived
        self._metrics.answered(self._model.id, self.revision, self._outgoing.key, status, seconds)

    def end(self) -> None:
        """Note that the response is over."""
        self._seconds = time.monotonic() - self._outgoing.arrived

    def broke(self) -> None:
        """Count a response that breaks off, since its server was lost."""
        self._broken = True
        self._metrics.broke(self._model.id, self.revision, self._outgoing.key)

    def continued(self, revision: str) -> None:
        """Count a stream that another server, of this revision, goes on with."""
        self.revision = revision
        self._continued += 1
        self._metrics.continued(self._model.id, revision, self._outgoing.key)

    def handed_over(self, revision: str) -> None:
        """Count a stream that a server of this revision takes over from one that stops."""
        self.revision = revision
        self._continued += 1
        self._metrics.handed_over(self._model.id, revision, self._outgoing.key, taken=True)

    def not_handed_over(self) -> None:
        """Count a stream that another server was asked to take over, and did not."""
        self._metrics.handed_over(self._model.id, self.revision, self._outgoing.key, taken=False)

    def retried(self) -> None:
        """Count another attempt."""
        self._metrics.retried(self._model.id, self._outgoing.key)

    def count(self, attempt: Attempt) -> None:
        """Count the tokens of an attempt."""
        if attempt.used is not None:
            self._metrics.used(self._model.id, attempt.revision, self._outgoing.key, attempt.used)

    def log(self, used: Used | None) -> None:
        """Write the line of the access log; `used` are all tokens, None where no server has said."""
        outgoing = self._outgoing
        line: dict[str, object] = {
            "event": "request",
            "id": outgoing.request_id,
            "route": outgoing.path,
            "model": self._model.id,
        }
        line |= {"revision": self.revision, "key": outgoing.key, "status": self.status}
        line |= {"seconds": round(self._seconds, 3), "broken": self._broken}
        line |= {"continued": self._continued, "usage": used and _usage(used)}
        _access.info("%s", json.dumps(line))


def _usage(used: Used) -> dict[str, int]:
    prompt, completion = used
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
