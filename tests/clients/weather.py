"""What the tests ask for: an object, and tools that a question names, so that the scripted engine calls them."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

__all__ = ["BOTH", "BRIEF", "QUESTION", "ROOM", "SCHEMA", "TOOL", "City", "Place", "weather"]

QUESTION = "What is the weather in Paris?"
BOTH = "What is the weather in Paris, and what does the clock say?"
"""Names two tools: they are called in one answer."""
BRIEF: dict[str, Any] = {"max_tokens": 8, "temperature": 0}
ROOM: dict[str, Any] = {"max_tokens": 200, "temperature": 0}
"""An object or a call fits in, also where SmolLM2 writes it: clients raise where one is cut."""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 24}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "function": {"name": "weather", "strict": True, "parameters": SCHEMA}}


Place = Annotated[str, Field(max_length=24)]
"""Short: where nothing bounds a text, SmolLM2 goes on with it."""


class City(BaseModel):
    """Where it is, and whether that is a capital."""

    city: Place
    capital: bool


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"It is sunny {city}"
