"""Describes one source, as far as its small files and headers tell."""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from vicuna_contract.heads import Heads
from vicuna_contract.templates import AUTO
from vicuna_server.artifacts.manifest import Manifest
from vicuna_server.errors import InputError
from vicuna_server.files.beneath import read_file
from vicuna_server.inspect.description import AdapterSummary, Description, SourceFile, TokenizerFiles, findings
from vicuna_server.inspect.gpus import Gpus
from vicuna_server.inspect.memory import memory_table
from vicuna_server.merge.arithmetic.layout import OutputTensor
from vicuna_server.merge.inputs import Input
from vicuna_server.merge.planning.config_files import small_files
from vicuna_server.merge.planning.output_dtype import own_dtype
from vicuna_server.merge.preflight.configs import check_unquantised
from vicuna_server.merge.preflight.contents import check_finite, looks_like_delta
from vicuna_server.merge.preflight.serving import check_served
from vicuna_server.merge.preflight.values import read_vectors
from vicuna_server.merge.preflight.vocabulary import VOCABULARY_SUFFIXES
from vicuna_server.merge.preflight.whole import check_whole
from vicuna_server.problems import Problems
from vicuna_server.run.control import Control
from vicuna_server.weights.adapters.folder import Adapter, open_adapter
from vicuna_server.weights.checkpoint import Checkpoint
from vicuna_server.weights.tensors import TensorSource
from vicuna_server.weights.tokenizers.examination import examine
from vicuna_server.weights.tokenizers.tokenizer import Tokenizer, has_vocabulary, read_tokenizer

__all__ = ["describe"]

_ARCHITECTURE = (
    *("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "max_position_embeddings", "rope_theta", "rms_norm_eps", "tie_word_embeddings"),
)

_LAYOUTS: dict[str, Literal["safetensors", "pickle", "meta"]] = {
    "safetensors": "safetensors",
    "bin": "pickle",
    "pth": "meta",
}


def describe(
    source: Input, scratch: Path, control: Control, *, memory: bool, gpus: Gpus | None, alone: bool
) -> Description:
    """Open one source and say what it is; what is wrong with it stands in `problems`.

    Args:
        source: the source; it is left opened if it can be.
        scratch: a folder for the small files of a source on a hub.
        control: ends the run on a signal.
        memory: whether to add the table of memory.
        gpus: what the table tells the room on; None: of none.
        alone: whether nothing else is inspected: then a broken tokenizer is a problem; else another's may be merged.

    Raises:
        UnreachableError: it cannot be reached right now.
    """
    problems = Problems()
    found = Description(uri=source.source.uri)
    with problems.collecting():
        source.look_up(control)
        source.bring_small_files(scratch, control.cancellation)
        _open(source)
    checkpoint = source.checkpoint
    if source.adapter is not None:
        _describe_adapter(found, source.adapter, problems, alone=alone)
        found.fingerprint = source.fingerprint()
    elif checkpoint is not None:
        _describe_weights(found, checkpoint, problems)
        _describe_text(found, checkpoint, source.repo_id, problems, alone=alone)
        with problems.collecting():
            found.fingerprint = source.fingerprint()
        if memory:
            _describe_memory(found, checkpoint.config, gpus, problems)
    found.problems, found.warnings = findings(problems.found), findings(problems.warnings)
    return found


def _describe_memory(found: Description, config: Mapping[str, Any], gpus: Gpus | None, problems: Problems) -> None:
    try:
        found.memory = memory_table(config, found.vocabulary, gpus)
    except InputError as error:
        problems.warn(error.reason, error.message)
    heads = Heads.of(config.get("num_attention_heads"), config.get("num_key_value_heads"))
    found.tensor_parallel = heads.counts() if heads is not None else None


def _open(source: Input) -> None:
    """Open a source, also an adapter that was not announced as one."""
    try:
        source.open()
    except InputError as error:
        if error.reason != "IsAnAdapter" or source.folder is None:
            raise
        source.adapter = open_adapter(source.folder, source.remote_files or ())


def _describe_adapter(found: Description, adapter: Adapter, problems: Problems, *, alone: bool) -> None:
    found.type = "adapter"
    _describe_tensors(found, adapter, adapter.tensors)
    changed, config = adapter.changes, adapter.config
    found.adapter = AdapterSummary(
        rank=config.rank,
        ranks=sorted({change.rank for change in changed.values()}),
        alpha=config.alpha,
        rslora=config.use_rslora,
        base=config.base or None,
        targets=sorted({name.removesuffix(".weight").rpartition(".")[2] for name in changed}),
        changed=len(changed),
        replaced=list(adapter.replacements),
    )
    for reason, message in adapter.warnings:
        problems.warn(reason, message)
    if adapter.has_tokenizer:
        _describe_tokenizer(found, adapter.folder, {}, "", problems, alone=alone)


def _describe_tensors(found: Description, source: Checkpoint | Adapter, tensors: Collection[TensorSource]) -> None:
    found.files = [SourceFile(name=file.name, size=file.size) for file in source.files]
    found.bytes = sum(file.size for file in found.files)
    found.layout = _LAYOUTS[source.weight_files[0].name.rpartition(".")[2]]
    found.tensors = len(tensors)
    dtypes: Counter[str] = Counter()
    for tensor in tensors:
        dtypes[tensor.dtype] += tensor.elements
    found.dtypes = dict(dtypes.most_common())
    found.parameters = dtypes.total()


def _describe_weights(found: Description, checkpoint: Checkpoint, problems: Problems) -> None:
    _describe_tensors(found, checkpoint, checkpoint.tensors.values())
    found.architecture = {key: checkpoint.config[key] for key in _ARCHITECTURE if key in checkpoint.config}
    embedding = (one for name, one in checkpoint.tensors.items() if name.endswith(VOCABULARY_SUFFIXES) and one.shape)
    found.vocabulary = next((tensor.shape[0] for tensor in embedding), None)
    with problems.collecting():
        found.artifact = Manifest.load(checkpoint.folder, read_file)
    _judge_weights(found, checkpoint, problems)


def _judge_weights(found: Description, checkpoint: Checkpoint, problems: Problems) -> None:
    """Tell a model from a delta, and note what is wrong with it."""
    vectors = read_vectors(checkpoint)
    found.type = "artifact" if found.artifact else "delta" if looks_like_delta(checkpoint, vectors) else "model"
    for reason, message in checkpoint.warnings:
        problems.warn(reason, message)
    check_finite(checkpoint, vectors, problems)
    check_unquantised(checkpoint, problems)
    check_whole(checkpoint, problems)
    if found.type != "delta":
        check_served(checkpoint, problems)


def _describe_text(
    found: Description, checkpoint: Checkpoint, repo_id: str, problems: Problems, *, alone: bool
) -> None:
    """Describe tokenizer and prompt format; a base may lack both where the delta brings them."""
    folder = checkpoint.tokenizer_folder or checkpoint.folder
    noted = Problems()
    with noted.collecting():
        checkpoint.read_generation_config()
    tokenizer = _describe_tokenizer(found, folder, checkpoint.config, repo_id, noted, alone=alone)
    _hand_on(noted, problems, alone=alone)
    if tokenizer is not None and not noted:
        _describe_agreement(checkpoint, tokenizer, problems)


def _describe_agreement(checkpoint: Checkpoint, tokenizer: Tokenizer, problems: Problems) -> None:
    """Warn where config, tokenizer and tensors disagree; in a merge others may bring what is wrong here."""
    outputs = [OutputTensor(name, tensor.shape, tensor.dtype, tensor) for name, tensor in checkpoint.tensors.items()]
    aside = Problems()
    small_files(checkpoint, tokenizer, outputs, own_dtype(checkpoint), aside)
    for reason, message in (*aside.found, *aside.warnings):
        problems.warn(reason, message)


def _describe_tokenizer(
    found: Description, folder: Path, config: Mapping[str, Any], repo_id: str, problems: Problems, *, alone: bool
) -> Tokenizer | None:
    try:
        tokenizer = read_tokenizer(folder)
    except InputError as error:
        (problems.add if alone and has_vocabulary(folder) else problems.warn)(error.reason, error.message)
        return None
    for reason, message in tokenizer.warnings:
        problems.warn(reason, message)
    repaired = sorted(name for name, item in tokenizer.files.items() if isinstance(item, bytes))
    found.tokenizer = TokenizerFiles(files=sorted(tokenizer.files), repaired=repaired)
    found.chat_template = _template_of(found, tokenizer, repo_id)
    noted = Problems()
    examine(tokenizer, folder, found.chat_template or "", config, noted)
    _hand_on(noted, problems, alone=alone)
    return tokenizer


def _hand_on(noted: Problems, problems: Problems, *, alone: bool) -> None:
    """Note what was found; what another source may bring in its place is a warning where there are others."""
    for reason, message in noted.found:
        (problems.add if alone else problems.warn)(reason, message)
    for reason, message in noted.warnings:
        problems.warn(reason, message)


def _template_of(found: Description, tokenizer: Tokenizer, repo_id: str) -> str | None:
    """Return the prompt format that a merge would pin, None where it would ask."""
    kind = found.artifact.recipe.kind if found.artifact else "none"
    try:
        return tokenizer.chat_template_for(AUTO, kind=kind, source_id=repo_id)
    except InputError:
        return found.artifact.chat_template if found.artifact else None
