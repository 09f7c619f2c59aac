"""Where a vLLM server is, and how patiently it is watched."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["VllmSettings"]


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """How the engine finds and watches its vLLM server.

    Attributes:
        url: Scheme, host and port.
        drained_file: See `DrainedFile`; None: none is kept.
        hung_seconds: Nothing has moved for so long while requests were running: it hangs.
        look_seconds: Between two looks at its health.
        health_seconds: How long `/health` may take before it counts as silent.
        digest: What stands for all that decides about its tokens, besides model and context.
    """

    url: str
    drained_file: Path | None = None
    hung_seconds: float = 60.0
    look_seconds: float = 1.0
    health_seconds: float = 5.0
    digest: str = ""
