"""Looking at sources without merging them: each one alone, or base and delta (and adapters) together.

Of what lies on a hub the small files are fetched, and of the weights no more than a preflight looks at.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from vicuna_server.artifacts import identity
from vicuna_server.artifacts.digests import digest_files
from vicuna_server.inspect.describing import describe
from vicuna_server.inspect.description import Description, Finding, findings
from vicuna_server.inspect.gpus import Gpus
from vicuna_server.merge.inputs import Input, Sources
from vicuna_server.merge.planning.plan import Plan, plan_request
from vicuna_server.merge.request import Request
from vicuna_server.problems import Problems
from vicuna_server.run.control import Control

__all__ = ["OutputFile", "PlanSummary", "Report", "inspect"]


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class OutputFile(_Part):
    """One file of weights that the merge would write."""

    name: str
    size: int
    tensors: int


class PlanSummary(_Part):
    """What merging these sources would make; sizes in bytes."""

    artifact_id: str = Field(alias="artifactID")
    kind: str
    dtype: str
    chat_template: str
    tensors: int
    bytes_to_read: int
    bytes_to_write: int
    shards: list[OutputFile]


class Report(_Part):
    """The outcome: every source; with more than one, the plan (None where there are problems) and what was found."""

    sources: list[Description]
    plan: PlanSummary | None = None
    problems: list[Finding] = Field(default_factory=list)
    warnings: list[Finding] = Field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems and not any(source.problems for source in self.sources)


def inspect(
    request: Request, sources: Sources, control: Control, *, digest: bool, memory: bool, gpus: Gpus | None = None
) -> Report:
    """Look at the sources; with a delta or adapters also at what merging them would make.

    Args:
        request: what a merge would be asked; its output plays no part.
        sources: the request's.
        control: counts the bytes where a digest is asked for, and ends the run on a signal.
        digest: whether to read everything and give each source's digest.
        memory: whether to add the table of memory.
        gpus: what the table tells the room on; None: of none.

    Raises:
        UnreachableError: a source cannot be reached right now.
        InterruptedRunError: a signal came.
    """
    with TemporaryDirectory(prefix="vicuna-inspect-") as folder:
        alone = len(sources.all) == 1
        described = [
            describe(each, Path(folder), control, memory=memory, gpus=gpus, alone=alone) for each in sources.all
        ]
        return _together(request, sources, control, described, digest=digest)


def _together(
    request: Request, sources: Sources, control: Control, described: list[Description], *, digest: bool
) -> Report:
    problems = Problems()
    plan = plan_request(request, sources, problems) if len(described) > 1 else None
    if plan is not None:
        with problems.collecting():
            plan.require_template()
    if digest:
        _add_digests(described, sources, control)
    for each in described:
        each.problems, each.warnings = _in_words(sources, each.problems), _in_words(sources, each.warnings)
    return Report(
        sources=described,
        plan=_summary(plan, sources) if plan and not problems else None,
        problems=_in_words(sources, findings(problems.found)),
        warnings=_in_words(sources, findings(problems.warnings)),
    )


def _in_words(sources: Sources, found: list[Finding]) -> list[Finding]:
    return [Finding(reason=each.reason, message=sources.in_words(each.message)) for each in found]


def _summary(plan: Plan, sources: Sources) -> PlanSummary:
    fingerprints = sources.fingerprints(Input.fingerprint)
    assert fingerprints is not None  # noqa: S101 - a plan's sources are open
    return PlanSummary(
        artifact_id=identity.artifact_id(fingerprints, plan.kind, plan.dtype, plan.addition),
        kind=plan.kind,
        dtype=plan.dtype,
        chat_template=plan.chat_template,
        tensors=plan.tensor_count,
        bytes_to_read=plan.bytes_to_read,
        bytes_to_write=plan.bytes_to_write,
        shards=[OutputFile(name=shard.name, size=shard.size, tensors=len(shard.tensors)) for shard in plan.shards],
    )


def _add_digests(described: list[Description], sources: Sources, control: Control) -> None:
    opened = [(found, each.files) for found, each in zip(described, sources.all, strict=True) if each.files]
    control.begin(sum(file.size for _, files in opened for file in files if file.sha256 is None))
    for found, files in opened:
        found.digest = digest_files(files, control.advance)
