"""A deterministic engine without a model: it echoes, at a chosen speed. For load and rollout tests."""

from vicuna_server.engine.scripted.engine import ScriptedEngine
from vicuna_server.engine.scripted.settings import ScriptedSettings

__all__ = ["ScriptedEngine", "ScriptedSettings"]
