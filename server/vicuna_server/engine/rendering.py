"""Chat templates in Jinja, rendered in a process of their own: they are untrusted programs, and may never end."""

from collections.abc import Callable, Iterable, Mapping

import jinja2  # noqa: F401  # a missing package shows here as an error that names it, not in the process

from vicuna_server.engine.child import Child
from vicuna_server.engine.child_process import MOST_BYTES
from vicuna_server.engine.template_process import MOST_SECONDS
from vicuna_server.errors import RequestError
from vicuna_server.prompts import Message, Tool
from vicuna_server.prompts.template_data import mapped, message_data, tool_data

__all__ = ["Renderer"]

_LIMITS = {"memory": f"more than {MOST_BYTES // 2**20} MiB of memory", "depth": "too many macros within each other"}


class Renderer:
    """Renders one template. One call at a time.

    Args:
        template: Jinja, as transformers knows it.
        tokens: Special tokens by the names that templates call them by, such as bos_token.
        seconds: Of processor time for one conversation, until one has used them up.
    """

    def __init__(self, template: str, tokens: Mapping[str, str], seconds: float = MOST_SECONDS) -> None:
        first = {"template": template, "tokens": dict(tokens)}
        self._child = Child("vicuna_server.engine.template_process", "the chat template", seconds, first)

    def render(
        self,
        messages: Iterable[Message],
        *,
        continues: bool,
        tools: Iterable[Tool] = (),
        variables: Mapping[str, object] | None = None,
        change: Callable[[str], str] = str,
    ) -> str:
        """Return the prompt.

        Args:
            messages: The conversation, which the template sees as `template_data` makes it.
            continues: Whether the last message, an assistant's, is to be continued.
            tools: Functions that may be called.
            variables: Further names that the template may use, with JSON values.
            change: Applied to each text of the conversation before the template sees it.

        Raises:
            RequestError: The template refuses the conversation, or `template_failed`: it takes too much for it.
            OverloadedError: The process cannot be started.
        """
        asked = {
            "messages": [message_data(one, change) for one in messages],
            "tools": [tool_data(one, change) for one in tools] or None,
            "variables": mapped(dict(variables or {}), change),
            "continues": continues,
        }
        seconds = self._child.seconds
        answer = self._child.ask(asked)
        if answer is None:
            raise _too_much(f"more than {seconds:g} s of processor time, or of memory than there is")
        if "limit" in answer:
            raise _too_much(_LIMITS[answer["limit"]])
        if "fault" in answer:
            raise RequestError(
                f"messages: the model's chat template refuses this conversation: {answer['fault']}", param="messages"
            )
        return str(answer["text"])

    def close(self) -> None:
        """End the process; the next call starts another."""
        self._child.close()


def _too_much(what: str) -> RequestError:
    return RequestError(
        f"messages: the model's chat template takes {what} for this conversation; send another conversation, or serve "
        "the model with another chatTemplate",
        param="messages",
        code="template_failed",
    )
