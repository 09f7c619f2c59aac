"""What the tests ask for: an object, and a tool whose name is in the question, so that the scripted engine calls it."""

from typing import Any

from pydantic import BaseModel

__all__ = ["QUESTION", "SCHEMA", "TOOL", "City", "weather"]

QUESTION = "What is the weather in Paris?"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "function": {"name": "weather", "strict": True, "parameters": SCHEMA}}


class City(BaseModel):
    """Where it is, and whether that is a capital."""

    city: str
    capital: bool


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"It is sunny {city}"
