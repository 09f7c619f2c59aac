"""What every engine shares with its callers: the Protocol, its requests and its outputs.

None of it needs torch, so that the HTTP side and the scripted engine run without it.
"""

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
    PreparedPrompt,
    PromptInput,
)

__all__ = [
    "MAX_LOGPROBS",
    "ChatPrompt",
    "Embedding",
    "Engine",
    "Generation",
    "GenerationRequest",
    "OutputChunk",
    "PreparedPrompt",
    "PromptInput",
    "PromptToken",
    "TokenLogprob",
    "TopLogprob",
]
