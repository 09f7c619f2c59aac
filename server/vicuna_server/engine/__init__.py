"""Text generation behind one Protocol.

What is named here is imported when it is first asked for. The processes that read templates and grammars are modules of
this package, and start in half the time without asyncio.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_MODULES = ("base.requests", "base.outputs", "base.protocol", "scope", "stats")

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in __all__:
            for module in _MODULES:
                if hasattr(found := import_module(f"{__name__}.{module}"), name):
                    globals()[name] = getattr(found, name)
                    return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
