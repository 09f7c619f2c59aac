"""A report of `inspect` for people: aligned, coloured on a terminal only."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from vicuna_server.inspect.description import AdapterSummary, Description, Finding
from vicuna_server.inspect.inspection import PlanSummary, Report
from vicuna_server.inspect.memory import MemoryRow
from vicuna_server.wording import printable, readable_size

__all__ = ["ReportConsole", "print_report"]

_LABEL_WIDTH = 14
_MOST_FILES = 6


class ReportConsole(Console):
    """A console that leaves it to its caller what a closed pipe means; rich would end the process with 1."""

    def on_broken_pipe(self) -> None:
        """Raise the error again."""
        raise BrokenPipeError


def print_report(report: Report, console: Console) -> None:
    """Print the sources, then the plan, then what is wrong.

    Args:
        report: what was found.
        console: where to; its own judgement decides about colour.
    """
    page = _Page(console)
    for number, source in enumerate(report.sources):
        if number:
            page.blank()
        _print_source(source, page)
    if report.plan is not None:
        page.blank()
        _print_plan(report.plan, page)
    together, odd = _of_all(report, report.problems), _of_all(report, report.warnings)
    if together or odd:
        page.blank()
        page.findings(together, odd)
    if report.good:
        page.line("ok", "nothing speaks against it", "bold green")


def _of_all(report: Report, findings: Sequence[Finding]) -> Sequence[Finding]:
    """Return what no source says of itself: it is about all of them together."""
    alone = {(one.reason, one.message) for source in report.sources for one in (*source.problems, *source.warnings)}
    return [one for one in findings if (one.reason, one.message) not in alone]


def _print_source(source: Description, page: "_Page") -> None:
    page.line(source.type, source.uri, "bold cyan")
    if source.files:
        _print_files(source, page)
    if source.adapter is not None:
        _print_adapter(source, source.adapter, page)
    elif source.files:
        _print_model(source, page)
    if source.artifact is not None:
        recipe = source.artifact.recipe
        page.line("artifact", f"{source.artifact.artifact_id}, kind {recipe.kind}, {recipe.dtype}")
    if source.fingerprint:
        page.line("fingerprint", source.fingerprint)
    if source.digest:
        page.line("digest", source.digest)
    if source.memory is not None:
        _print_memory(source.memory, page)
    if source.tensor_parallel:
        page.line("tensor split", f"over {', '.join(map(str, source.tensor_parallel))} GPUs (engine vllm)")
    page.findings(source.problems, source.warnings)


def _print_files(source: Description, page: "_Page") -> None:
    page.line("layout", f"{source.layout}, {_files(len(source.files))}, {readable_size(source.bytes)}")
    names = [f"{file.name} ({readable_size(file.size)})" for file in source.files[:_MOST_FILES]]
    rest = len(source.files) - len(names)
    page.line("files", ", ".join([*names, *([f"and {rest} more"] if rest else [])]))
    types = ", ".join(f"{dtype} ({count:,})" for dtype, count in source.dtypes.items())
    page.line("parameters", f"{source.parameters:,} in {source.tensors} tensors: {types}")


def _print_model(source: Description, page: "_Page") -> None:
    page.line("config", ", ".join(f"{key} {value}" for key, value in source.architecture.items()))
    page.line("vocabulary", "unknown" if source.vocabulary is None else f"{source.vocabulary} rows")
    page.line("tokenizer", ", ".join(_tokenizer_words(source)))
    page.line("chat template", source.chat_template or "unknown; state one when merging")


def _print_adapter(source: Description, adapter: AdapterSummary, page: "_Page") -> None:
    ranks = "/".join(map(str, adapter.ranks)) or adapter.rank
    page.line("adapter", f"rank {ranks}, alpha {adapter.alpha:g}{', rank-stabilised' if adapter.rslora else ''}")
    page.line("changes", f"{adapter.changed} matrices: {', '.join(adapter.targets)}")
    if adapter.replaced:
        rest = f" and {len(adapter.replaced) - _MOST_FILES} more" if adapter.replaced[_MOST_FILES:] else ""
        page.line("replaces", ", ".join(adapter.replaced[:_MOST_FILES]) + rest)
    page.line("made for", adapter.base or "not stated")
    page.line("tokenizer", ", ".join(_tokenizer_words(source)) if source.tokenizer else "the base's")


def _files(count: int) -> str:
    return f"{count} files" if count != 1 else "1 file"


def _tokenizer_words(source: Description) -> list[str]:
    if source.tokenizer is None:
        return ["none that works"]
    repaired = source.tokenizer.repaired
    return [f"{name} (to be repaired)" if name in repaired else name for name in source.tokenizer.files]


def _print_plan(plan: PlanSummary, page: "_Page") -> None:
    page.line("merge", f"kind {plan.kind}, {plan.dtype}, chat template {plan.chat_template}", "bold cyan")
    page.line("artifactID", plan.artifact_id)
    page.line("reads", readable_size(plan.bytes_to_read))
    page.line("writes", f"{readable_size(plan.bytes_to_write)}: {plan.tensors} tensors in {_files(len(plan.shards))}")


def _print_memory(rows: Sequence[MemoryRow], page: "_Page") -> None:
    head = f"{'dtype':<10}{'quantization':<14}{'weights':>12}{'cache/token':>14}{'full context':>14}"
    page.line("memory", head + (f"{'tokens that fit':>17}" if any(row.tokens is not None for row in rows) else ""))
    for row in rows:
        cells = (row.weights, row.cache_per_token, row.cache_per_context)
        weights, token, context = ("unknown" if cell is None else readable_size(cell) for cell in cells)
        room = "" if row.tokens is None else f"{row.tokens or 'none':>17}"
        page.line("", f"{row.dtype:<10}{row.quantization:<14}{weights:>12}{token:>14}{context:>14}{room}")


class _Page:
    """Lines of a label and a value; what a hostile file put into a value cannot steer the terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, label: str, value: str, style: str = "bold") -> None:
        """Print one line; it is never wrapped, so that programs may read it too."""
        text = Text.assemble((label.ljust(_LABEL_WIDTH), style), printable(value))
        self._console.print(text, soft_wrap=True)

    def blank(self) -> None:
        """Print an empty line."""
        self._console.print()

    def findings(self, problems: Sequence[Finding], warnings: Sequence[Finding]) -> None:
        """Print what is wrong, then what is odd."""
        for label, style, found in (("problem", "bold red", problems), ("warning", "bold yellow", warnings)):
            for one in found:
                self.line(label, f"{one.reason}: {one.message}", style)
