"""Text generation behind one Protocol."""

from vicuna_server.engine.base.outputs import (
    Embedding,
    Generation,
    OutputChunk,
    PromptToken,
    TokenLogprob,
    TopLogprob,
)
from vicuna_server.engine.base.protocol import Engine
from vicuna_server.engine.base.requests import (
    MAX_LOGPROBS,
    ChatPrompt,
    GenerationRequest,
    PreparedConstraint,
    PreparedPrompt,
    PromptInput,
)
from vicuna_server.engine.scope import CacheScope
from vicuna_server.engine.stats import EngineStats

__all__ = [
    "MAX_LOGPROBS",
    "CacheScope",
    "ChatPrompt",
    "Embedding",
    "Engine",
    "EngineStats",
    "Generation",
    "GenerationRequest",
    "OutputChunk",
    "PreparedConstraint",
    "PreparedPrompt",
    "PromptInput",
    "PromptToken",
    "TokenLogprob",
    "TopLogprob",
]
