"""What an engine in a process of its own tells besides: whether that process works, and its metrics."""

from typing import Protocol, runtime_checkable

__all__ = ["HUNG", "SeparateEngine", "away"]

HUNG = "hung"


@runtime_checkable
class SeparateEngine(Protocol):
    """An engine whose tokens come from another process, which is started and ended by somebody else."""

    @property
    def away(self) -> str:
        """Why that process cannot be asked now: "starting", "gone" or "hung"; empty: it can."""

    async def exposition(self) -> bytes:
        """Return that process' own metrics in Prometheus' text format, and bring `stats` up to date."""


def away(engine: object) -> str:
    """Return why what generates cannot be asked now; empty: it can, as always where the engine is in this process."""
    return engine.away if isinstance(engine, SeparateEngine) else ""
