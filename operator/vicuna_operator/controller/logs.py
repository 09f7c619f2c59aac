"""Log lines for people or, as JSON, for machines."""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from vicuna_contract.printable import printable

__all__ = ["DecisionLine", "JsonFormatter", "PlainFormatter", "configure_logging"]


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, and exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": printable(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class PlainFormatter(logging.Formatter):
    """A line for people, in which nothing that somebody said steers their terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record."""
        return printable(super().format(record))


def configure_logging(level: str, style: Literal["plain", "json"]) -> None:
    """Send all log lines to standard error; kopf and its HTTP client only speak up when something is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    lines = PlainFormatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")
    handler.setFormatter(JsonFormatter() if style == "json" else lines)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("kopf", "aiohttp", "asyncio"):
        logging.getLogger(name).setLevel("DEBUG" if level == "DEBUG" else "WARNING")


class DecisionLine:
    """The fields of a decision as one line, rendered only if it is printed."""

    def __init__(self, decision: Mapping[str, object]) -> None:
        self._decision = decision

    def __str__(self) -> str:
        return " ".join(f"{name}={json.dumps(value)}" for name, value in self._decision.items()) or "nothing decided"
