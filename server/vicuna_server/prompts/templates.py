"""The prompt formats that Vicuna and Alpaca were trained on, byte for byte.

Sources: FastChat's conversation.py and docs/vicuna_weights_version.md for the two Vicuna formats (that page
prints newlines between the turns of v1.1; the code, and the training data made with it, has none), Stanford
Alpaca's README and train.py for Alpaca, which has newlines where FastChat's variant of it has spaces.
"""

from collections.abc import Callable
from dataclasses import dataclass

from vicuna_server.errors import InputError
from vicuna_server.prompts.conversation import Conversation
from vicuna_server.prompts.prompt import EndOfTurn, Prompt

__all__ = ["Template", "get_template"]

Part = str | EndOfTurn


@dataclass(frozen=True, slots=True)
class Template:
    """One prompt format.

    Attributes:
        name: As in the CRD's `chatTemplate`.
        system: Text used where the conversation brings none of its own.
        stop: Strings that end an answer beside the end-of-sequence token.
        render_turns: Renders (system text, conversation) to parts.
    """

    name: str
    system: str
    stop: tuple[str, ...]
    render_turns: Callable[[str, Conversation], list[Part]]

    def render(self, conversation: Conversation) -> Prompt:
        """Return the prompt that asks for the assistant's next (or continued) turn."""
        system = self.system if conversation.system is None else conversation.system
        return Prompt(tuple(self.render_turns(system, conversation)), self.stop)


def _vicuna_v1_1(system: str, conversation: Conversation) -> list[Part]:
    parts: list[Part] = [f"{system} " if system else ""]
    for index, turn in enumerate(conversation.turns):
        if turn.role == "user":
            parts.append(f"USER: {turn.content} ")
            continue
        parts.append(f"ASSISTANT: {turn.content}")
        if index < len(conversation.turns) - 1:
            parts.append(EndOfTurn.EOS)
    if not conversation.continues:
        parts.append("ASSISTANT:")
    return _join_text(parts)


def _vicuna_v0(system: str, conversation: Conversation) -> list[Part]:
    names = {"user": "Human", "assistant": "Assistant"}
    text = system + "".join(f"\n### {names[turn.role]}: {turn.content}" for turn in conversation.turns)
    return [text if conversation.continues else f"{text}\n### Assistant:"]


def _alpaca(system: str, conversation: Conversation) -> list[Part]:
    parts: list[Part] = [f"{system}\n\n" if system else ""]
    for index, turn in enumerate(conversation.turns):
        if turn.role == "user":
            parts.append(f"### Instruction:\n{turn.content}\n\n")
            continue
        # Stanford's training text is the prompt with the answer right behind the colon, then the eos token.
        parts.append(f"### Response:{turn.content}")
        if index < len(conversation.turns) - 1:
            parts.append(EndOfTurn.EOS)
    if not conversation.continues:
        parts.append("### Response:")
    return _join_text(parts)


def _join_text(parts: list[Part]) -> list[Part]:
    """Merge neighbouring texts, so that a tokenizer sees each run of text whole."""
    joined: list[Part] = []
    for part in parts:
        if joined and isinstance(part, str) and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


_TEMPLATES = {
    template.name: template
    for template in (
        Template(
            "vicuna_v1.1",
            "A chat between a curious user and an artificial intelligence assistant. "
            "The assistant gives helpful, detailed, and polite answers to the user's questions.",
            (),
            _vicuna_v1_1,
        ),
        Template(
            "vicuna_v0",
            "A chat between a curious human and an artificial intelligence assistant. "
            "The assistant gives helpful, detailed, and polite answers to the human's questions.",
            ("###",),
            _vicuna_v0,
        ),
        Template(
            "alpaca",
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
            (),
            _alpaca,
        ),
    )
}


def get_template(name: str) -> Template:
    """Return the named format.

    Raises:
        InputError: `ChatTemplateUnknown`, also for `from-tokenizer`, which only an engine can render.
    """
    try:
        return _TEMPLATES[name]
    except KeyError:
        raise InputError(
            "ChatTemplateUnknown",
            f"chat template {name!r} is unknown; use one of {', '.join(_TEMPLATES)}",
        ) from None
