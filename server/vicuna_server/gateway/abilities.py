"""What a model's server tells of the model in its `/v1/models`: its context and what it can be asked for.

The server may be hostile. Of its list only the entry of the model is read, and of that only fields of known names and
types within bounds; nothing of it is passed on as it came.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vicuna_server.protocol.models import Capabilities

__all__ = ["NOTHING", "Abilities", "common", "read_abilities"]

_MOST_TOKENS = 2**31 - 1
_TOOLS = ("native", "generic", None)
_FORMAT = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")


@dataclass(frozen=True, slots=True)
class Abilities:
    """What is known of a model; None: not known.

    Attributes:
        max_model_len: its context in tokens, 1 to 2^31 - 1.
        capabilities: what it can be asked for.
    """

    max_model_len: int | None = None
    capabilities: Capabilities | None = None


NOTHING = Abilities()


def read_abilities(text: bytes, served_name: str) -> Abilities:
    """Return what a server's list of models tells of one model.

    Args:
        text: any bytes; the caller bounds their number.
        served_name: the model's name in the server's API.
    """
    try:
        listed = json.loads(text.decode())
    except (ValueError, RecursionError):
        return NOTHING
    entries = listed.get("data") if isinstance(listed, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("id") == served_name:
            length = entry.get("max_model_len")
            known = type(length) is int and 0 < length <= _MOST_TOKENS
            return Abilities(length if known else None, _capabilities(entry.get("capabilities")))
    return NOTHING


def common(told: Iterable[Abilities]) -> Abilities:
    """Return what holds whichever server gets a request: the shortest context, and capabilities that all agree on."""
    each = list(told)
    lengths = [one.max_model_len for one in each if one.max_model_len is not None]
    capabilities = [one.capabilities for one in each if one.capabilities is not None]
    agreed = capabilities and all(other == capabilities[0] for other in capabilities)
    return Abilities(min(lengths, default=None), capabilities[0] if agreed else None)


def _capabilities(found: object) -> Capabilities | None:
    """Return the known fields; None where one is missing or is not what it should be."""
    fields: dict[str, Any] = defaultdict(str, found if isinstance(found, dict) else {})
    capabilities: Capabilities = {
        "chat": fields["chat"],
        "completions": fields["completions"],
        "embeddings": fields["embeddings"],
        "tools": fields["tools"],
        "tool_format": fields["tool_format"],
        "reasoning": fields["reasoning"],
    }
    flags = (fields[name] for name in ("chat", "completions", "embeddings", "reasoning"))
    form = fields["tool_format"]
    whole = all(type(flag) is bool for flag in flags) and fields["tools"] in _TOOLS
    return capabilities if whole and (form is None or _is_format(form)) else None


def _is_format(value: object) -> bool:
    return isinstance(value, str) and _FORMAT.fullmatch(value) is not None
