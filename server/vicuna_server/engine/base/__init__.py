"""What every engine shares with its callers: the Protocol, its requests and its outputs.

None of it needs torch, so that the HTTP side and the scripted engine run without it.
"""

from vicuna_server.constraints import (
    AnyJsonObject,
    CallForm,
    Choice,
    Constraint,
    Grammar,
    JsonSchema,
    Regex,
    ToolCalls,
)
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

__all__ = [
    "MAX_LOGPROBS",
    "AnyJsonObject",
    "CallForm",
    "ChatPrompt",
    "Choice",
    "Constraint",
    "Embedding",
    "Engine",
    "Generation",
    "GenerationRequest",
    "Grammar",
    "JsonSchema",
    "OutputChunk",
    "PreparedConstraint",
    "PreparedPrompt",
    "PromptInput",
    "PromptToken",
    "Regex",
    "TokenLogprob",
    "ToolCalls",
    "TopLogprob",
]
