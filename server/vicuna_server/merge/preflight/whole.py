"""Whether a model is whole: what its config promises against the tensors that are there, before a byte is written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from vicuna_server.merge.preflight.architectures import BadFieldError, shown, skeleton_of
from vicuna_server.merge.preflight.built import NotComparedError, UnfitError, compare_built
from vicuna_server.merge.preflight.comparison import Comparison, Tensors, compare
from vicuna_server.merge.preflight.configs import quantised_tensor
from vicuna_server.merge.preflight.naming import explain_names
from vicuna_server.merge.preflight.outline import UNGATHERED, check_outline, check_plain
from vicuna_server.merge.preflight.siblings import odd_one_out
from vicuna_server.merge.preflight.vocabulary import VOCABULARY_SUFFIXES, embedding_of, with_vocabulary
from vicuna_server.problems import Problems
from vicuna_server.weights.checkpoint import Checkpoint
from vicuna_server.weights.tensors import FLOAT_DTYPES

__all__ = ["check_model", "check_whole"]

_MOST_NAMED = 3
_MOST_LETTERS = 150  # of a name


def check_whole(checkpoint: Checkpoint, problems: Problems) -> Checkpoint:
    """Compare a source with its own config, and return it without the tensors that no model of this config reads.

    Args:
        checkpoint: a model or a delta; one that is quantised is refused for that alone, by `check_unquantised`.
        problems: as for `check_model`; the warning `TensorsIgnored` names what was left out.
    """
    if quantised_tensor(checkpoint) is not None:
        return checkpoint
    tensors = {name: (tensor.dtype, tensor.shape) for name, tensor in checkpoint.tensors.items()}
    ignored = check_model(str(checkpoint.folder), checkpoint.config, tensors, problems)
    if not ignored:
        return checkpoint
    problems.warn(
        "TensorsIgnored",
        f"{checkpoint.folder} holds {_some(ignored)}, which the model that its config.json describes does not have; "
        "left out",
    )
    kept = {name: tensor for name, tensor in checkpoint.tensors.items() if name not in ignored}
    return replace(checkpoint, tensors=kept)


def check_model(what: str, config: Mapping[str, Any], tensors: Tensors, problems: Problems) -> list[str]:
    """Note how tensors differ from what a config promises; return the names of those that may be left out.

    The rows of the embedding count as vocabulary, as in the config.json that a merge writes.

    Args:
        what: what to call the model in messages.
        config: its config.json, whatever it holds.
        tensors: type and shape by name.
        problems: gets `ConfigBroken`, `EmptyTensors`, `UnsupportedDtype`, `NotAPlainModel`, `TensorMissing`,
            `ShapeMismatch`, `VocabularyMismatch`, `UnexpectedTensors`.
    """
    try:
        comparison = _compared(what, config, tensors, problems)
    except BadFieldError as error:
        problems.add("ConfigBroken", f"{what}/config.json {error}; fetch it again, or give the one of these weights")
        return []
    return _Judge(what, tensors, comparison, problems).judge() if comparison else []


def _compared(what: str, config: Mapping[str, Any], tensors: Tensors, problems: Problems) -> Comparison | None:
    """Compare by the table, else by what transformers says, else judge the outline alone and return None."""
    if not isinstance(config.get("model_type"), str):
        raise BadFieldError(f"says model_type is {shown(config.get('model_type'))}, which is not an architecture")
    config = with_vocabulary(config, {name: shape for name, (_, shape) in tensors.items()})
    skeleton = skeleton_of(config)
    return compare(skeleton, tensors) if skeleton else _asked(what, config, tensors, problems)


def _asked(what: str, config: Mapping[str, Any], tensors: Tensors, problems: Problems) -> Comparison | None:
    before = len(problems.found)
    check_plain(what, tensors, problems)
    if len(problems.found) > before:
        return None
    try:
        comparison = compare_built(config, tensors)
    except NotComparedError as error:
        problems.warn("NotCompared", f"{what}: {error}; only its layers, embedding and head were looked at")
    except UnfitError as error:
        odd = odd_one_out(tensors) or f"transformers says: {error}"
        problems.add("ShapeMismatch", f"{what}: the tensors do not fit each other: {odd}; fetch it again")
        return None
    else:
        if comparison is not None:
            return comparison
    check_outline(what, config, tensors, problems)
    return None


@dataclass(frozen=True)
class _Judge:
    """Turns a comparison into sentences: the cause alone where there is one, else what is missing and misshapen."""

    what: str
    tensors: Tensors
    comparison: Comparison
    problems: Problems

    def judge(self) -> list[str]:
        if self._is_empty() or self._is_packed():
            return []
        cause = explain_names(self.comparison)
        if cause:
            self.problems.add("NotAPlainModel", f"{self.what} {cause}")
            return []
        self._note_missing()
        self._note_misshapen()
        return self._sort_unexpected()

    def _is_empty(self) -> bool:
        """Note tensors without content, and the placeholders of one element that ZeRO-3 leaves."""
        hollow = [
            one
            for one in self.comparison.misshapen
            if prod(one.found) == 0 or (one.found == (1,) and prod(one.wanted) > 1)
        ]
        if not hollow:
            return False
        first = hollow[0]
        self.problems.add(
            "EmptyTensors",
            f"{self.what}: {len(hollow)} of {len(self.tensors)} tensors have no content, such as {first.name} of shape "
            f"{list(first.found)}: {UNGATHERED}",
        )
        return True

    def _is_packed(self) -> bool:
        """Note matrices that are not plain floats, where the config does not say how they are packed."""
        strange = set(self.comparison.unexpected)
        packed = [
            name for name, (dtype, _) in self.tensors.items() if dtype not in FLOAT_DTYPES and name not in strange
        ]
        if not packed:
            return False
        dtype, shape = self.tensors[packed[0]]
        self.problems.add(
            "UnsupportedDtype",
            f"{self.what} holds {_some(packed)} as {dtype} (the first is {list(shape)}), quantised or packed, and its "
            "config.json does not say how; give the original weights in float16, bfloat16 or float32, and quantise "
            "when serving",
        )
        return True

    def _note_missing(self) -> None:
        missing, count = self.comparison.missing, self.comparison.missing_count
        head = next((name for name in missing if name.startswith("lm_head.")), None)
        if head and count == 1:
            lost = f"{head}, and its config.json does not tie the head to the embedding (tie_word_embeddings)"
            self._lacks(lost, "fetch it again, or set tie_word_embeddings to true if it was trained so")
        elif self.comparison.lost_layer is not None:
            layers = f"of the {self.comparison.layers} its config.json names"
            self._lacks(f"layer {self.comparison.lost_layer} {layers}", "fetch it again")
        elif missing:
            self._lacks(f"{_some(missing, count)}, which its config.json promises", "fetch it again")

    def _lacks(self, lost: str, cure: str) -> None:
        self.problems.add("TensorMissing", f"{self.what} lacks {lost}; {cure}")

    def _note_misshapen(self) -> None:
        """Note other shapes; one sentence for all of them."""
        misshapen = self.comparison.misshapen
        if not misshapen:
            return
        one = misshapen[0]
        more = f" (and {len(misshapen) - 1} more)" if misshapen[1:] else ""
        found, wanted = list(one.found), list(one.wanted)
        embedding = embedding_of({name: shape for name, (_, shape) in self.tensors.items()})
        if embedding and one.name.endswith(VOCABULARY_SUFFIXES) and found[1:] == wanted[1:]:
            self.problems.add(
                "VocabularyMismatch",
                f"{self.what}: {one.name} has {found[0]} rows and {embedding} {wanted[0]}{more}; give the files of one "
                "model, its embedding and head resized together",
            )
            return
        self.problems.add(
            "ShapeMismatch",
            f"{self.what}: {one.name} is {found} where its config.json wants {wanted}{more}; give the config.json and "
            "the weights of one model",
        )

    def _sort_unexpected(self) -> list[str]:
        """Note what would change answers if it were left out; return the rest."""
        strange = [name for name in self.comparison.unexpected if self._counts(name)]
        if strange:
            self.problems.add(
                "UnexpectedTensors",
                f"{self.what} holds {_some(strange)}, which the model that its config.json describes does not have; "
                "give the config.json and the weights of one model",
            )
        return [name for name in self.comparison.unexpected if name not in set(strange) and name in self.tensors]

    def _counts(self, name: str) -> bool:
        """Whether leaving a tensor out would change answers: trained numbers inside the part that writes text."""
        dtype, shape = self.tensors.get(name, ("F32", (2,)))  # transformers may report it under another name
        return self.comparison.is_inside(name) and dtype in FLOAT_DTYPES and prod(shape) > 1


def _some(names: Iterable[str], count: int | None = None) -> str:
    """Return the first few of these names, and how many more there are."""
    names = list(names)
    more = (len(names) if count is None else count) - _MOST_NAMED
    shown = (name if len(name) <= _MOST_LETTERS else name[:_MOST_LETTERS] + "…" for name in names[:_MOST_NAMED])
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
