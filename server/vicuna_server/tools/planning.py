"""What a request's tools mean for its prompt, for the engine and for reading the answer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Literal

from vicuna_server.constraints import AnyJsonObject, Constraint, JsonSchema, ToolCalls
from vicuna_server.errors import RequestError
from vicuna_server.prompts import Tool
from vicuna_server.tools.chat_format import ChatFormat
from vicuna_server.tools.formats import CallFormat
from vicuna_server.tools.identifiers import call_id
from vicuna_server.tools.parsing import THINK, THINK_END, OutputParser

__all__ = ["AnswerPlan", "ToolChoice", "combined", "plan_answer"]


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tools an answer may or must call.

    Attributes:
        mode: none: it is text alone; auto: text, calls or both; required: calls alone, one at least.
        names: The only tools that may be called; None: all.
        parallel: Whether more than one call may come.
    """

    mode: Literal["none", "auto", "required"] = "auto"
    names: tuple[str, ...] | None = None
    parallel: bool = True

    def allows(self, tool: Tool) -> bool:
        """Whether a tool may be called."""
        return self.names is None or tool.name in self.names


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """How one request's answers are made and read.

    Attributes:
        tools: Those that the prompt describes.
        constraint: What the text of an answer may be; None: anything.
        form: How calls are written; None: none are looked for.
        names: Tools that may be called.
        parallel: Whether more than one call may come.
        thinks: Whether an answer may begin with reasoning.
    """

    tools: tuple[Tool, ...] = ()
    constraint: Constraint | None = None
    form: CallFormat | None = None
    names: frozenset[str] = frozenset()
    parallel: bool = True
    thinks: bool = False

    @property
    def shown(self) -> tuple[str, ...]:
        """Special tokens that the text has to show, so that the answer can be read."""
        marks = () if self.form is None else self.form.marks
        return (*marks, THINK, THINK_END) if self.thinks else marks

    def parser(self, answer: str, *, thinking: bool = False) -> OutputParser | None:
        """Return what reads one answer; None: it is text, as it is.

        Args:
            answer: The answer's own id.
            thinking: Whether the prompt has opened the reasoning.
        """
        if self.form is None and not self.thinks:
            return None
        return OutputParser(
            self.form,
            self.names,
            str if self.form is None else map(partial(call_id, self.form, answer), count()).__next__,
            thinks=self.thinks,
            thinking=self.thinks and thinking,
            parallel=self.parallel,
            streams=isinstance(self.constraint, ToolCalls),
        )


def plan_answer(
    model: ChatFormat,
    tools: Sequence[Tool],
    choice: ToolChoice,
    constraint: Constraint | None = None,
    schema_param: str = "tools.{}.function.parameters",
) -> AnswerPlan:
    """Return the plan for a request.

    Args:
        model: How the model writes calls and reasoning.
        tools: The request's.
        choice: Which of them may be called; all names are tools' names.
        constraint: What the request says about the answer's text (`response_format` and others).
        schema_param: Field that has the schema of the tool at a place, for messages about it.

    Raises:
        RequestError: The two cannot be had together.
    """
    if not tools or choice.mode == "none":
        return AnswerPlan(constraint=constraint, thinks=model.thinks and constraint is None)
    names = frozenset(tool.name for tool in tools if choice.allows(tool))
    free = choice.mode == "auto" and constraint is None
    # The trigger of some is common text, which must not become a call wherever it stands.
    unconstrained = free and model.calls.first_only
    both = None if unconstrained else combined(_calls(model.calls, tools, choice, schema_param), constraint)
    return AnswerPlan(tuple(tools), both, model.calls, names, choice.parallel, thinks=model.thinks and free)


def _calls(form: CallFormat, tools: Sequence[Tool], choice: ToolChoice, schema_param: str) -> ToolCalls:
    called = [(place, tool) for place, tool in enumerate(tools) if choice.allows(tool)]
    return ToolCalls(
        form.trigger,
        tuple(form.form(tool.name, _schema(tool), schema_param.format(place)) for place, tool in called),
        required=choice.mode == "required",
        parallel=choice.parallel and form.several,
        between=form.between,
    )


def combined(calls: ToolCalls, constraint: Constraint | None) -> ToolCalls:
    """Return one constraint for calls and for what an answer without a call has to be.

    Raises:
        RequestError: It is one that has no meaning beside tools.
    """
    if constraint is None or calls.required:
        return calls
    if isinstance(constraint, AnyJsonObject | JsonSchema):
        return replace(calls, otherwise=constraint)
    param = getattr(constraint, "param", "structured_outputs")
    raise RequestError(
        f"{param}: only a JSON schema or json_object can be asked for beside tools; leave it out, or set tool_choice "
        "to none",
        param=param,
    )


def _schema(tool: Tool) -> str:
    """Return the schema of the arguments, which are an object in any case."""
    parameters: Mapping[str, object] = {"type": "object", **tool.parameters}
    return json.dumps(parameters, ensure_ascii=False)
