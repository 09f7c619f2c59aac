"""Adds adapters to a merge's output tensors, and checks that they fit the model."""

from collections.abc import Container, Sequence
from dataclasses import replace

from vicuna_server.merge.arithmetic.layout import OutputTensor
from vicuna_server.merge.planning.pairing import EMBEDDING, HEAD
from vicuna_server.merge.planning.tied import tied_replacements
from vicuna_server.merge.preflight.vocabulary import VOCABULARY_SUFFIXES
from vicuna_server.problems import Problems
from vicuna_server.weights.adapters.folder import Adapter
from vicuna_server.weights.tensors import FLOAT_DTYPES, Tensor

__all__ = ["add_adapters", "wrapper_prefix"]

_TRANSPOSED = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")  # their layers are Conv1D, not Linear
# prefixes of data-parallel training, torch.compile and FSDP
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})


def add_adapters(
    outputs: Sequence[OutputTensor], adapters: Sequence[Adapter], model_type: str, problems: Problems
) -> list[OutputTensor]:
    """Return the output tensors with what each adapter changes or replaces, in order.

    A change is made to the tensor in the output's type, as by peft on a model loaded in it. A replacement may have more
    rows where they stand for the vocabulary: peft's user has called `resize_token_embeddings` by then.

    Args:
        outputs: of base, or base and delta.
        adapters: in the order they are merged.
        model_type: the base's.
        problems: gets `UnsupportedAdapter`, `TensorMissing`, `ShapeMismatch`, `VocabularyMismatch`,
            `UnsupportedDtype`.
    """
    table = {output.name: output for output in outputs}
    if adapters and model_type in _TRANSPOSED:
        problems.add("UnsupportedAdapter", f"adapters of {model_type} models cannot be merged; use peft for them")
    for adapter in adapters:
        _Joiner(table, adapter, problems).join()
    _check_vocabulary(outputs, table, problems)
    return list(table.values())


class _Joiner:
    """Adds one adapter to the output tensors."""

    def __init__(self, table: dict[str, OutputTensor], adapter: Adapter, problems: Problems) -> None:
        self._table = table
        self._adapter = adapter
        self._replacements = adapter.replacements
        self._problems = problems
        self._misshapen: list[str] = []

    def join(self) -> None:
        adapter, table = self._adapter, self._table
        for reason, message in adapter.warnings:
            self._problems.warn(reason, message)
        if HEAD not in table and EMBEDDING in table:
            self._replacements = tied_replacements(table, adapter, self._problems)
        self._check_names()
        for name in (name for name in self._replacements if name in table):
            self._replace(name, self._replacements[name])
        for name in (name for name in adapter.changes if name in table):
            self._change(name)
        self._note_misshapen()

    def _note_misshapen(self) -> None:
        if self._misshapen:
            more = f" (and {len(self._misshapen) - 1} more)" if self._misshapen[1:] else ""
            self._problems.add("ShapeMismatch", f"{self._adapter.folder} {self._misshapen[0]}{more}; {self._advice()}")

    def _replace(self, name: str, tensor: Tensor) -> None:
        output = self._table[name]
        if tensor.dtype not in FLOAT_DTYPES:
            self._problems.add(
                "UnsupportedDtype", f"{tensor.name} in {tensor.file} is {tensor.dtype}; save it as floats"
            )
        elif tensor.shape == output.shape or self._only_adds_rows(output, tensor):
            self._table[name] = OutputTensor(name, tensor.shape, output.dtype, tensor)

    def _only_adds_rows(self, output: OutputTensor, tensor: Tensor) -> bool:
        """Whether the two differ in their rows alone, and the new one has more; else it is noted."""
        matrices = len(output.shape) == len(tensor.shape) == 2
        vocabulary = matrices and output.name.endswith(VOCABULARY_SUFFIXES) and output.shape[1] == tensor.shape[1]
        if not vocabulary:
            self._misshapen.append(f"replaces {output.name}, {list(output.shape)}, by {list(tensor.shape)}")
            return False
        if tensor.shape[0] > output.shape[0]:
            return True
        self._problems.add(
            "VocabularyMismatch",
            f"{self._adapter.folder} replaces {output.name} of {output.shape[0]} rows by one of {tensor.shape[0]}; a "
            "vocabulary may only grow: check the adapters' order and their base",
        )
        return False

    def _change(self, name: str) -> None:
        output, change = self._table[name], self._adapter.changes[name]
        if output.shape != change.shape:
            self._misshapen.append(f"changes {name} as one of {list(change.shape)}, but it is {list(output.shape)}")
        elif output.base.dtype not in FLOAT_DTYPES:
            self._problems.add(
                "UnsupportedDtype",
                f"{name} is {output.base.dtype}; an adapter changes floats only: give an unquantised base",
            )
        else:
            self._table[name] = replace(output, patches=(*output.patches, change))

    def _check_names(self) -> None:
        """Note tensors of the adapter that the model lacks; one sentence for all of them."""
        named = [*self._adapter.changes, *self._replacements]
        unknown = [name for name in named if name not in self._table]
        if unknown:
            many = f"{len(unknown)} of {len(named)} tensors" if named[1:] else "a tensor"
            leaf = unknown[0].split(".")[-2:]
            like = next((name for name in self._table if name.split(".")[-2:] == leaf), "nothing like it")
            prefix = wrapper_prefix(unknown[0], self._table)
            advice = (
                f"its names begin with {prefix!r}, which a wrapper of training put there: save the adapter of the "
                "unwrapped model (accelerate's unwrap_model), or take that part out of the names"
                if prefix
                else self._advice()
            )
            self._problems.add(
                "TensorMissing",
                f"{self._adapter.folder} changes {many} that the model lacks, such as {unknown[0]}, where it has "
                f"{like}; {advice}",
            )

    def _advice(self) -> str:
        base = self._adapter.config.base
        named = f" (its adapter_config.json names {base})" if base else ""
        return f"give the base that this adapter was made for{named}"


def wrapper_prefix(name: str, known: Container[str]) -> str | None:
    """Return what stands too much in front of, or within, a tensor's name; None where that is not what is wrong."""
    parts = name.split(".")
    first = next((start for start in range(1, len(parts)) if ".".join(parts[start:]) in known), None)
    if first is not None:
        return ".".join(parts[:first]) + "."
    inner = [part for part in parts if part in _WRAPPERS]
    return f"{inner[0]}." if inner and ".".join(part for part in parts if part not in _WRAPPERS) in known else None


def _check_vocabulary(before: Sequence[OutputTensor], after: dict[str, OutputTensor], problems: Problems) -> None:
    """Note an embedding that grew without its head, or the other way round."""
    old = {output.name: output.shape for output in before}
    rows = {name: after[name].shape[0] for name in (EMBEDDING, HEAD) if name in after and after[name].shape}
    grown = any(after[name].shape != old.get(name, old.get(EMBEDDING)) for name in rows)
    if grown and len(set(rows.values())) > 1:
        problems.add(
            "VocabularyMismatch",
            f"with the adapters {EMBEDDING} has {rows[EMBEDDING]} rows and {HEAD} {rows[HEAD]}; an adapter that adds "
            "to the vocabulary must bring both (modules_to_save)",
        )
