"""The images of a revision's containers: those that the spec states, and the operator's defaults for the others."""

from dataclasses import dataclass
from typing import Self

from vicuna_contract import names as c
from vicuna_contract.vllm_arguments import VLLM
from vicuna_operator.api.types import ServingSpec

__all__ = ["Images"]


@dataclass(frozen=True)
class Images:
    """The image of the server, and that of vLLM where the spec asks for it."""

    server: str
    engine: str | None = None

    @classmethod
    def of(cls, serving: ServingSpec, server: str | None, engine: str | None) -> Self | None:
        """Return the images that a spec makes with these defaults; None where one is neither stated nor given."""
        image = serving.image or server
        if serving.engine != VLLM:
            return cls(image) if image is not None else None
        beside = serving.engine_image or engine
        return cls(image, beside) if image is not None and beside is not None else None

    def defaults(self, serving: ServingSpec) -> dict[str, str]:
        """Return the annotations of a Deployment that record which of them the spec leaves to the operator."""
        found = {} if serving.image is not None else {c.ANNOTATION_DEFAULT_IMAGE: self.server}
        if self.engine is not None and serving.engine_image is None:
            found[c.ANNOTATION_DEFAULT_ENGINE_IMAGE] = self.engine
        return found
