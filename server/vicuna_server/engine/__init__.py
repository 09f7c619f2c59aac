"""Text generation behind one Protocol."""

from vicuna_server.engine.base import (
    MAX_LOGPROBS,
    ChatPrompt,
    Delta,
    Embedding,
    Engine,
    Generation,
    GenerationRequest,
    PreparedPrompt,
    PromptInput,
    TokenLogprob,
    TopLogprob,
)
from vicuna_server.engine.stats import EngineStats

__all__ = [
    "MAX_LOGPROBS",
    "ChatPrompt",
    "Delta",
    "Embedding",
    "Engine",
    "EngineStats",
    "Generation",
    "GenerationRequest",
    "PreparedPrompt",
    "PromptInput",
    "TokenLogprob",
    "TopLogprob",
]
