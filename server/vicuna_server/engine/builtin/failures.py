"""What is made of a step that failed."""

import logging

import torch

from vicuna_server.errors import EngineError

__all__ = ["as_engine_error", "free_memory_after"]

logger = logging.getLogger(__name__)


def as_engine_error(error: Exception) -> EngineError:
    """Return what a client is told of a step that failed; the log has the rest."""
    free_memory_after(error)
    if isinstance(error, EngineError):
        return error
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return EngineError("OutOfMemory", "there is not enough memory for this request; make it shorter or try later")
    logger.error("a forward pass failed", exc_info=error)
    return EngineError("GenerationFailed", f"the model failed while generating: {error}")


def free_memory_after(error: Exception) -> None:
    """Give the GPU's cached memory back after it ran out, for the next step."""
    if isinstance(error, torch.OutOfMemoryError):
        torch.cuda.empty_cache()
