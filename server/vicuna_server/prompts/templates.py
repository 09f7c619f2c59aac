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
    for turn in conversation.turns:
        parts += [f"USER: {turn.content} "] if turn.role == "user" else [f"ASSISTANT: {turn.content}", EndOfTurn.EOS]
    return _opened(parts, "ASSISTANT:", conversation)


def _vicuna_v0(system: str, conversation: Conversation) -> list[Part]:
    names = {"user": "Human", "assistant": "Assistant"}
    text = system + "".join(f"\n### {names[turn.role]}: {turn.content}" for turn in conversation.turns)
    return [text if conversation.continues else f"{text}\n### Assistant:"]


def _alpaca(system: str, conversation: Conversation) -> list[Part]:
    parts: list[Part] = [f"{system}\n\n" if system else ""]
    for turn in conversation.turns:
        # Stanford's training text is the prompt with the answer right behind the colon, then the eos token.
        said: list[Part] = [f"### Response:{turn.content}", EndOfTurn.EOS]
        parts += [f"### Instruction:\n{turn.content}\n\n"] if turn.role == "user" else said
    return _opened(parts, "### Response:", conversation)


def _opened(parts: list[Part], opening: str, conversation: Conversation) -> list[Part]:
    """Open the answer, or leave the last one open; neighbouring texts become one, which a tokenizer sees whole."""
    joined: list[Part] = []
    for part in parts[:-1] if conversation.continues else [*parts, opening]:
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
