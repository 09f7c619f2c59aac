"""How one family of models writes calls of tools."""

import re
from dataclasses import dataclass

from vicuna_server.constraints import CallForm

__all__ = ["NAME", "NO_MORE", "CallFormat", "json_item", "json_list"]

NAME = r"(?P<name>[a-zA-Z0-9_-]{1,64})"
"""A tool's name in a pattern."""
NO_MORE = r"(?P<more>(?!))"
"""Never found: behind a call of this format no other comes without the format's opening."""


def json_item(key: str) -> str:
    """Return the pattern of a call as JSON up to its arguments, which are the object's value for `key`."""
    return rf'\{{\s*"name"\s*:\s*"{NAME}"\s*,\s*"{key}"\s*:\s*(?=\{{)'


@dataclass(frozen=True, slots=True)
class CallFormat:
    """A family's format, as it is read and as a constraint writes it.

    A call is opening, arguments, closing. Each pattern ends with a certain letter, so that it is found at the same
    place however the text is cut.

    Attributes:
        name: For documents and `/v1/models`.
        triggers: Texts that announce a call: each opening begins with one of them.
        opening: Pattern from a trigger up to the arguments; its group `name` is the tool's.
        closing: Pattern behind the arguments; its group `more` says that another call of the same list follows.
        next_opening: Pattern of that call up to its arguments.
        written: How a constraint writes a call up to its arguments, with NAME for the tool's name.
        end: How it writes what follows the arguments.
        trigger: What `written` begins with.
        between: How it writes what is between two calls.
        several: Whether a constraint may let several calls come.
        first_only: Whether a call can only be the first that an answer says: its trigger is common text.
        id_length: Letters and digits of a call's id where the template wants so many alone; None: ids are free.
        one_per_message: Whether the template takes one call per message.
        marks: Texts of the format that may be special tokens of the model; they have to be seen.
    """

    name: str
    triggers: tuple[str, ...]
    opening: re.Pattern[str]
    closing: re.Pattern[str]
    written: str
    end: str
    trigger: str
    next_opening: re.Pattern[str] | None = None
    between: str = "\n"
    several: bool = True
    first_only: bool = False
    id_length: int | None = None
    one_per_message: bool = False
    marks: tuple[str, ...] = ()

    def form(self, tool: str, schema: str, param: str = "tools") -> CallForm:
        """Return how a constraint writes calls of a tool.

        Args:
            tool: Its name.
            schema: JSON text of the schema of its arguments.
            param: Field of the request that the schema stands in, for messages about it.
        """
        return CallForm(self.written.replace("NAME", tool, 1), schema, self.end, param)

    def ends_so_far(self, text: str) -> bool:
        """Whether a text that was cut off may be the beginning of what follows the arguments."""
        return "".join(self.end.split()).startswith("".join(text.split()))


def json_list(name: str, mark: str, space: str = "", behind: str = "", id_length: int | None = None) -> CallFormat:
    """Return the format of a list of JSON objects behind a mark.

    Args:
        name: Of the format.
        mark: What the list comes behind.
        space: How a constraint separates the two.
        behind: Pattern of further fields of an object, behind the arguments.
        id_length: Letters and digits of a call's id; None: ids are free.
    """
    return CallFormat(
        name=name,
        triggers=(mark,),
        opening=re.compile(rf"{re.escape(mark)}\s*\[\s*{json_item('arguments')}"),
        next_opening=re.compile(rf"\s*{json_item('arguments')}"),
        closing=re.compile(rf"\s*{behind}\}}\s*(?:(?P<more>,)|\])"),
        written=f'{mark}{space}[{{"name": "NAME", "arguments": ',
        end="}]",
        trigger=mark,
        several=False,
        id_length=id_length,
        marks=(mark,),
    )
