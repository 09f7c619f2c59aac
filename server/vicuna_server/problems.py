"""Collects all problems of the inputs, so that one run reports them all."""

from collections.abc import Iterator
from contextlib import contextmanager

from vicuna_server.errors import InputError, OutOfSpaceError, VicunaError

__all__ = ["Problems"]

# causes first: later ones are often only consequences
_ORDER = (
    "SourceNotFound", "SourceForbidden", "NotACheckpoint", "ConfigBroken", "IsAnAdapter", "NotAnAdapter",
    "UnsafePickle", "LegacyPickle", "TruncatedShard",
    "DuplicateTensor", "EmptyTensors", "NotAPlainModel", "QuantizedSource", "SameCheckpoint", "NotABase", "NotADelta",
    "AlreadyMerged", "RemoteCode", "ModelUnsupported", "UnsupportedAdapter", "ConfigMismatch",
    "KindMismatch", "AmbiguousDelta", "VocabularyMismatch", "TensorMissing", "ShapeMismatch",
    "UnexpectedTensors", "UnsupportedDtype", "NonFinite", "TokenizerBroken", "ChatTemplateBroken",
    "ChatTemplateUnknown", "OutOfSpace",
)  # fmt: skip
_MOST_OF_A_KIND = 3


class Problems:
    """A list of (reason, sentence) that is raised as one error, and a list of warnings."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []
        self._warnings: list[tuple[str, str]] = []

    @property
    def found(self) -> list[tuple[str, str]]:
        """All problems as (reason, sentence), the most important first."""
        rank = {reason: place for place, reason in enumerate(_ORDER)}
        return sorted(self._found, key=lambda problem: rank.get(problem[0], len(_ORDER)))

    @property
    def warnings(self) -> list[tuple[str, str]]:
        """Problems that do not stop a merge, as (reason, sentence)."""
        return list(self._warnings)

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, reason: str, message: str) -> None:
        """Add one problem; the same one twice counts once."""
        if (reason, message) not in self._found:
            self._found.append((reason, message))

    def warn(self, reason: str, message: str) -> None:
        """Add a problem that does not stop the merge."""
        if (reason, message) not in self._warnings:
            self._warnings.append((reason, message))

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Add an `InputError` that is raised inside as a problem."""
        try:
            yield
        except InputError as error:
            self.add(error.reason, error.message)

    def raise_if_any(self) -> None:
        """Raise all problems as one error, with the most important reason; the message lists up to 3 of each reason."""
        if not self._found:
            return
        ordered = self.found
        shown: list[str] = []
        for reason in dict.fromkeys(reason for reason, _ in ordered):
            messages = [message for kind, message in ordered if kind == reason]
            rest = len(messages) - _MOST_OF_A_KIND
            shown += [
                message if not shown and place == 0 else f"{reason}: {message}"
                for place, message in enumerate(messages[:_MOST_OF_A_KIND])
            ]
            if rest > 0:
                shown[-1] += f" (and {rest} more of this kind)"
        raise _error(ordered[0][0], "; ".join(shown))


def _error(reason: str, message: str) -> VicunaError:
    return OutOfSpaceError(reason, message) if reason == "OutOfSpace" else InputError(reason, message)
