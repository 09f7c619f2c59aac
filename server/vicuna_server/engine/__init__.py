"""Text generation behind one Protocol."""

from vicuna_server.engine.base import ChatPrompt, Delta, Engine, EngineStats, Generation, GenerationRequest

__all__ = ["ChatPrompt", "Delta", "Engine", "EngineStats", "Generation", "GenerationRequest"]
