"""The operator's settings that planning depends on."""

from dataclasses import dataclass

__all__ = ["PlanConfig"]


@dataclass(frozen=True)
class PlanConfig:
    """Defaults of the chart: the image of merge and serving containers, and whether pod logs may be read."""

    server_image: str
    server_image_pull_policy: str = "IfNotPresent"
    merge_progress: bool = True
