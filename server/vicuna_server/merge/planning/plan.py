"""What a merge will write, decided and checked before the first byte."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vicuna_contract.templates import AUTO
from vicuna_server.artifacts import identity
from vicuna_server.errors import InputError
from vicuna_server.files.data_file import LocalFile
from vicuna_server.merge.arithmetic.checksum import AlpacaChecksum
from vicuna_server.merge.arithmetic.layout import LEAST_SHARD_BYTES, OutputTensor, Shard, lay_out
from vicuna_server.merge.inputs import Sources
from vicuna_server.merge.pipeline.scratch import bytes_at_once
from vicuna_server.merge.planning.adapters import add_adapters
from vicuna_server.merge.planning.config_files import small_files
from vicuna_server.merge.planning.output_dtype import own_dtype, resolve_dtype
from vicuna_server.merge.planning.pairing import pair_tensors
from vicuna_server.merge.preflight.kinds import resolve_kind
from vicuna_server.merge.preflight.serving import check_served
from vicuna_server.merge.preflight.sources import check_sources
from vicuna_server.merge.preflight.whole import check_model, check_whole
from vicuna_server.merge.request import Request
from vicuna_server.problems import Problems
from vicuna_server.weights.adapters.folder import Adapter
from vicuna_server.weights.checkpoint import Checkpoint
from vicuna_server.weights.tensors import OUTPUT_DTYPES
from vicuna_server.weights.tokenizers.examination import examine
from vicuna_server.weights.tokenizers.pinning import pinned_files
from vicuna_server.weights.tokenizers.tokenizer import Tokenizer, read_tokenizer

__all__ = ["Plan", "make_plan", "plan_request"]


@dataclass(frozen=True)
class Plan:
    """All that will be written: shards, and the small files by name (a path to copy, or the content).

    `dtype` is the result's type, `base_dtype` the base's own; `addition` is part of the artifact's identity, see
    `identity.artifact_id`. `undecided` says why no template was chosen;
    an artifact that exists already may name one.
    """

    kind: str
    chat_template: str
    shards: list[Shard]
    small_files: dict[str, Path | bytes]
    dtype: str
    base_dtype: str
    addition: str | None = None
    checksum: AlpacaChecksum | None = None
    undecided: InputError | None = None

    def require_template(self) -> None:
        """Refuse to write an artifact whose prompt format nothing tells.

        Raises:
            InputError: `ChatTemplateUnknown`.
        """
        if self.undecided is not None:
            raise self.undecided

    @property
    def tensor_count(self) -> int:
        """Number of tensors in the artifact."""
        return sum(len(shard.tensors) for shard in self.shards)

    @property
    def bytes_to_read(self) -> int:
        """Bytes of base and delta that the merge reads."""
        return sum(shard.bytes_to_read for shard in self.shards)

    @property
    def bytes_to_write(self) -> int:
        """Bytes the artifact takes, within a megabyte for index and manifest."""
        return sum(shard.size for shard in self.shards) + self._small_bytes

    @property
    def bytes_at_once(self) -> int:
        """Most bytes that the artifact in the making and what is fetched for it take at any moment."""
        return bytes_at_once(self.shards) + self._small_bytes

    @property
    def _small_bytes(self) -> int:
        small = sum(
            len(item) if isinstance(item, bytes) else LocalFile(item).size for item in self.small_files.values()
        )
        return small + 1_000_000


def plan_request(request: Request, sources: Sources, problems: Problems) -> Plan | None:
    """Open the sources and plan their merge; None when `problems` got something."""
    for each in sources.all:
        with problems.collecting():
            each.open()
    base, delta = sources.base.checkpoint, sources.delta
    if base is None or (delta is not None and delta.checkpoint is None):
        return None
    return make_plan(
        base,
        delta.checkpoint if delta else None,
        [
            each.adapter for each in sources.adapters if each.adapter
        ],  # one that could not be opened is already a problem
        kind=request.kind,
        dtype=request.dtype,
        chat_template=request.chat_template,
        source_id=(delta or sources.base).repo_id,
        alpaca_checksum=request.alpaca_checksum,
        least_shard_bytes=request.least_shard_bytes,
        problems=problems,
    )


def make_plan(
    base: Checkpoint,
    delta: Checkpoint | None,
    adapters: Sequence[Adapter] = (),
    *,
    kind: str,
    dtype: str,
    chat_template: str,
    source_id: str,
    problems: Problems,
    alpaca_checksum: bool = False,
    least_shard_bytes: int = LEAST_SHARD_BYTES,
) -> Plan | None:
    """Check that the sources fit together and lay out the result; None when `problems` got something.

    Args:
        base: the base.
        delta: the delta; its config and tokenizer become the artifact's.
        adapters: in the order they are merged; the tokenizer of the last that has one becomes the artifact's.
        kind: one of `recipe.DELTA_KINDS`.
        dtype: one of `recipe.MERGE_DTYPES`.
        chat_template: one of `templates.CHAT_TEMPLATES`.
        source_id: hub id of the delta (of the base without one), empty for a folder.
        problems: gets everything that is wrong.
        alpaca_checksum: whether to sum up what Stanford's checksum is of.
        least_shard_bytes: as for `lay_out`.
    """
    base, delta = check_whole(base, problems), _judged(delta, problems)
    resolved = resolve_kind(kind, base, delta, problems)
    config_source, dtype = delta or base, resolve_dtype(dtype, base)
    tokenizer, template, undecided = _tokenizer_and_template(
        config_source, adapters, chat_template, resolved, source_id, problems
    )
    with problems.collecting():
        config_source.read_generation_config()
    check_sources(base, delta, kind, problems)
    check_served(config_source, problems)
    outputs = _outputs(base, delta, adapters, resolved, dtype, problems)
    checksum = _checksum(base, config_source, resolved, problems) if alpaca_checksum else None
    if checksum:
        outputs = [replace(output, observer=checksum) for output in outputs]
    small = small_files(config_source, tokenizer, outputs, dtype, problems) if tokenizer.files and outputs else {}
    if problems or not outputs:
        _note(undecided, problems)
        return None
    shards = lay_out(outputs, least_shard_bytes)
    addition = _addition(resolved, outputs, adapters)
    return Plan(resolved, template, shards, small, dtype, own_dtype(base), addition, checksum, undecided)


def _outputs(
    base: Checkpoint, delta: Checkpoint | None, adapters: Sequence[Adapter], kind: str, dtype: str, problems: Problems
) -> list[OutputTensor]:
    """Return what becomes of each tensor; none where a source's names or contents are not a model's at all."""
    if any(reason in ("EmptyTensors", "NotAPlainModel", "QuantizedSource") for reason, _ in problems.found):
        return []  # other problems would only follow from these
    outputs = list(pair_tensors(base, delta, kind, OUTPUT_DTYPES[dtype], problems))
    outputs = add_adapters(outputs, adapters, str(base.config.get("model_type", "")), problems)
    if not problems:
        check_result(delta or base, outputs, problems)
    return outputs


def _judged(delta: Checkpoint | None, problems: Problems) -> Checkpoint | None:
    return check_whole(delta, problems) if delta else None


def _checksum(base: Checkpoint, config_source: Checkpoint, kind: str, problems: Problems) -> AlpacaChecksum:
    if kind != "alpaca":
        problems.add(
            "KindMismatch",
            f"--alpaca-checksum needs a delta of kind alpaca; {config_source.folder} is of kind {kind}: leave it out",
        )
    return AlpacaChecksum(base.config)


def _tokenizer_and_template(
    config_source: Checkpoint, adapters: Sequence[Adapter], asked: str, kind: str, source_id: str, problems: Problems
) -> tuple[Tokenizer, str, InputError | None]:
    """Return the artifact's tokenizer and its template's name, both tried out; what is not right is noted.

    The third is why `auto` came to no template, which is not noted yet.
    """
    with_tokenizer = [adapter.folder for adapter in adapters if adapter.has_tokenizer]
    folder = with_tokenizer[-1] if with_tokenizer else config_source.tokenizer_folder or config_source.folder
    tokenizer = Tokenizer({})
    with problems.collecting():
        tokenizer = read_tokenizer(folder)
    for reason, message in tokenizer.warnings:
        problems.warn(reason, message)
    if not tokenizer.files:  # without a tokenizer there cannot be a template either
        return tokenizer, "", None
    template, undecided = _template(tokenizer, asked, kind, source_id, problems)
    if not examine(tokenizer, folder, template, config_source.config, problems):
        tokenizer = Tokenizer({})  # it is broken: nothing else may parse it
    if tokenizer.files and template:
        tokenizer = replace(tokenizer, files=pinned_files(tokenizer, template))
    return tokenizer, template, undecided


def _template(
    tokenizer: Tokenizer, asked: str, kind: str, source_id: str, problems: Problems
) -> tuple[str, InputError | None]:
    """Return the template's name, empty where there is none, and why `auto` comes to none."""
    try:
        return tokenizer.chat_template_for(asked, kind=kind, source_id=source_id), None
    except InputError as error:
        if asked == AUTO:
            return "", error
        problems.add(error.reason, error.message)
        return "", None


def _note(undecided: InputError | None, problems: Problems) -> None:
    if undecided is not None:
        problems.add(undecided.reason, undecided.message)


def _addition(kind: str, outputs: Sequence[OutputTensor], adapters: Sequence[Adapter]) -> str | None:
    """Name what recipe 1 first did in another way: sums in the delta's type, without files beside an adapter's own."""
    wide = kind != "alpaca" and any(output.sum_dtype for output in outputs)
    whole = any(adapter.weight_files[1:] for adapter in adapters)
    return "+".join([identity.WIDE] * wide + [identity.COMPANIONS] * whole) or None


def check_result(config_source: Checkpoint, outputs: Sequence[OutputTensor], problems: Problems) -> None:
    """Check the result where its names or shapes differ from those of a source that was checked.

    Args:
        config_source: whose config the result gets; already checked.
        outputs: the result's tensors.
        problems: as for `whole.check_model`.
    """
    if {o.name: o.shape for o in outputs} != {tensor.name: tensor.shape for tensor in config_source.tensors.values()}:
        found = {output.name: (output.dtype, output.shape) for output in outputs}
        check_model(f"the merge of {config_source.folder}", config_source.config, found, problems)
