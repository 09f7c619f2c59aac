"""An answer's text to its parts, as it comes: reasoning, text, calls of tools.

The parts do not depend on how the text is cut. What may become a mark is held back until it is clear whether it is one.
Text that only resembles a call stays text, so nothing is lost but white space next to a mark.
"""

from collections.abc import Callable, Collection
from typing import Self

from vicuna_server.tools.formats import CallFormat
from vicuna_server.tools.marks import MOST_WHITE, open_end, white_before
from vicuna_server.tools.output import CallArguments, CallBegin, CallEnd, OutputPart, ReasoningText, Text, joined
from vicuna_server.tools.pending_call import PendingCall

__all__ = ["THINK", "THINK_END", "OutputParser"]

THINK, THINK_END = "<think>", "</think>"
MOST_OPENING = 256
"""Letters from a trigger to the arguments; a name has 64."""
MOST_CLOSING = 128
"""Letters behind the arguments."""
AT_ONCE = 4096
"""Letters that are read at once: what is held is copied with each mark in it."""


class OutputParser:
    """Reads one answer.

    Args:
        form: How the model writes calls; None: all is text.
        names: Of the tools that may be called. What names another is text.
        thinks: Whether the answer may begin with what the model thinks.
        thinking: Whether the prompt has opened that already.
        parallel: Whether more than one call may come.
        streams: Whether arguments are told as they come, which needs an engine that keeps them valid. Otherwise a call
            is told once it is complete and its arguments are valid JSON; it is text if they are not.
        new_id: Gives the next call's id.
    """

    def __init__(
        self,
        form: CallFormat | None,
        names: Collection[str],
        new_id: Callable[[], str],
        *,
        thinks: bool = False,
        thinking: bool = False,
        parallel: bool = True,
        streams: bool = True,
    ) -> None:
        self._form = form
        self._names = names
        self._new_id = new_id
        self._parallel = parallel
        self._streams = streams
        self._held = ""
        self._before = ""  # what is shown before the held text, should that be text
        self._parts: list[OutputPart] = []
        self._call = PendingCall()
        self._spoken = False
        self._trims = thinking  # whether white space is left out, since a mark was before it
        self._in_list = False
        self.calls = 0
        """Complete calls so far."""
        self.broken = False
        """Whether the answer ended within a call that had been told."""
        start = self._thinking if thinking else self._beginning if thinks else self._text
        self._state: Callable[[bool], bool] = start

    @classmethod
    def of_reasoning(cls) -> Self:
        """Return one that tells reasoning from text, and looks for no calls."""
        return cls(None, (), str, thinks=True)

    def push(self, text: str) -> list[OutputPart]:
        """Take the next piece and return what is clear now."""
        parts: list[OutputPart] = []
        for start in range(0, len(text), AT_ONCE):
            self._held += text[start : start + AT_ONCE]
            parts += self._read(last=False)
        return joined(parts)

    def end(self) -> list[OutputPart]:
        """Return what was held back: no more text comes."""
        return joined(self._read(last=True))

    def _read(self, *, last: bool) -> list[OutputPart]:
        while self._state(last):  # each says whether another has to go on
            pass
        parts, self._parts = self._parts, []
        return parts

    # The states. Each takes what it can from the held text.

    def _beginning(self, last: bool) -> bool:
        said = self._held.lstrip()
        white = len(self._held) - len(said)
        if white <= MOST_WHITE and said.startswith(THINK):
            self._held, self._trims, self._state = said[len(THINK) :], True, self._thinking
            return True
        if not last and white <= MOST_WHITE and THINK.startswith(said):
            return False
        self._state = self._text
        return True

    def _thinking(self, last: bool) -> bool:
        self._trim()
        found = self._held.find(THINK_END)
        if found < 0:
            self._show(ReasoningText, 0 if last else open_end(self._held, (THINK_END,)))
            return False
        white = white_before(self._held, found)
        self._show(ReasoningText, len(self._held) - found + white)
        self._held = self._held[white + len(THINK_END) :]
        self._trims, self._state = True, self._text
        return True

    def _text(self, last: bool) -> bool:
        self._trim()
        form = self._form
        if form is None or (self.calls and not self._parallel) or (form.first_only and self._spoken):
            self._show(Text, 0)
            return False
        found = self._trigger(form)
        if found < 0:
            self._show(Text, 0 if last else self._unclear(form))
            return False
        white = white_before(self._held, found)
        self._show(Text, len(self._held) - found + white)
        self._before, self._held = self._held[:white], self._held[white:]
        self._state = self._opening
        return True

    def _opening(self, last: bool) -> bool:
        form = self._required_form
        pattern = form.next_opening if self._in_list and form.next_opening else form.opening
        found = pattern.match(self._held[:MOST_OPENING])
        if found is None and not last and len(self._held) < MOST_OPENING:
            return False
        if found is None or found["name"] not in self._names:
            self._spoken, self._in_list, self._trims, self._state = True, False, False, self._text
            self._tell(Text(self._before + self._held[:1]))
            self._before, self._held = "", self._held[1:]
            return bool(self._held)
        self._call = PendingCall(self._before + found[0])
        self._tell(CallBegin(self.calls, self._new_id(), found["name"]))
        self._before, self._held, self._state = "", self._held[found.end() :], self._arguments
        return True

    def _arguments(self, last: bool) -> bool:
        end = self._call.end.push(self._held)
        more, self._held = self._held[:end], "" if end is None else self._held[end:]
        if more:
            self._tell(CallArguments(self.calls, more))
        if end is not None:
            self._state = self._closing
            return True
        if last:
            self._break_off()
        return False

    def _closing(self, last: bool) -> bool:
        found = self._required_form.closing.match(self._held[:MOST_CLOSING])
        if found is None and not last and len(self._held) < MOST_CLOSING:
            return False
        end = self._cut_closing(last) if found is None else found.end()
        if not self._streams and (end is None or not self._call.is_valid):
            self._break_off()
        else:
            self._held = self._held[end or 0 :]
            self._complete(more=found is not None and found["more"] is not None)
        return True

    # What they have in common.

    def _cut_closing(self, last: bool) -> int | None:
        """Return the letters of a closing that the answer's end has cut off; None: it is none."""
        return len(self._held) if last and self._required_form.ends_so_far(self._held) else None

    def _complete(self, *, more: bool) -> None:
        """Tell the end of a call; `more`: another of the same list follows."""
        self._tell(CallEnd(self.calls))
        self._parts += self._call.parts
        self._call = PendingCall()
        self.calls += 1
        self._in_list = more and self._parallel
        self._before = "," if self._in_list else ""
        self._trims, self._state = True, self._opening if self._in_list else self._text

    @property
    def _required_form(self) -> CallFormat:
        if self._form is None:
            raise RuntimeError("there are no calls without a format")
        return self._form

    def _trim(self) -> None:
        if self._trims:
            self._held = self._held.lstrip()
            self._trims = not self._held

    def _show(self, kind: Callable[[str], Text | ReasoningText], kept: int) -> None:
        """Tell the held text but for its last letters."""
        cut = len(self._held) - kept
        if cut > 0:
            self._parts.append(kind(self._held[:cut]))
            self._spoken = self._spoken or kind is Text
            self._held = self._held[cut:]

    def _trigger(self, form: CallFormat) -> int:
        """Return where the held text has a trigger; -1: nowhere."""
        if form.first_only:
            start = len(self._held) - len(self._held.lstrip())
            return start if start <= MOST_WHITE and self._held.startswith(form.triggers, start) else -1
        return min((place for one in form.triggers if (place := self._held.find(one)) >= 0), default=-1)

    def _unclear(self, form: CallFormat) -> int:
        """Return how many letters at the end may still belong to a trigger."""
        if not form.first_only:
            return open_end(self._held, form.triggers)
        said = self._held.lstrip()
        may_come = any(one.startswith(said) for one in form.triggers) and len(self._held) - len(said) <= MOST_WHITE
        return len(self._held) if may_come else 0

    def _tell(self, part: OutputPart) -> None:
        if self._streams or isinstance(part, Text):
            self._parts.append(part)
        else:
            self._call.parts.append(part)

    def _break_off(self) -> None:
        """The call does not go on as one: what was not told of it is text."""
        self._state = self._text
        if self._streams:
            self.broken = True
        else:
            self._spoken = True
            self._parts.append(Text(self._call.text))
        self._call = PendingCall()
