"""The state of a server: loading, ready, draining or failed."""

import asyncio
import logging
import time

from vicuna_server.asgi.draining import Drain
from vicuna_server.engine import ChatPrompt, Engine, GenerationRequest
from vicuna_server.errors import EngineError, InputError, RequestError, VicunaError
from vicuna_server.prompts import Message

__all__ = ["DRAIN_SECONDS", "Lifecycle"]

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 5.0
"""Seconds in which new requests are still served after SIGTERM: endpoint removal reaches clients late."""

SMOKE_SECONDS = 300.0


class Lifecycle(Drain):
    """The server's state, written by start-up and signals, read by probes and middleware."""

    def __init__(self) -> None:
        super().__init__(loaded=False)
        self.failure: VicunaError | None = None
        self.settled = asyncio.Event()
        """Set when start-up is over, with or without success."""

    @property
    def ready(self) -> bool:
        """Whether `/readyz` says 200."""
        return self.loaded and not self.draining and self.failure is None

    async def start_up(self, engine: Engine) -> None:
        """Load the model and run the smoke test; afterwards either `loaded` or `failure` is set."""
        started = time.monotonic()
        try:
            await engine.load()
            await asyncio.wait_for(_smoke_test(engine), SMOKE_SECONDS)
        except VicunaError as error:
            self.failure = error
        except TimeoutError:
            self.failure = EngineError(
                "SmokeTestFailed",
                f"the loaded model generated no token within {SMOKE_SECONDS:.0f} s; give it more CPUs, or a GPU",
            )
        except Exception as error:
            logger.exception("start-up failed")
            self.failure = EngineError(
                "StartFailed",
                f"the engine cannot be started: {type(error).__name__}: {error}; the log has the traceback",
            )
        else:
            self.loaded = True
            logger.info("ready after %.1f s", time.monotonic() - started)
        self.settled.set()


async def _smoke_test(engine: Engine) -> None:
    """Generate one token, of a chat if the model takes chats. The engine refuses logits that are not finite.

    Raises:
        InputError: `ContextTooSmall`: no client is to blame, so it is not a RequestError.
    """
    prompt = ChatPrompt((Message("user", "Hello"),)) if engine.chats else "Hello"
    try:
        submitted = await engine.submit(GenerationRequest(prompt, max_tokens=1, temperature=0.0))
    except RequestError as error:
        if error.code != "context_length_exceeded":
            raise
        raise InputError(
            "ContextTooSmall",
            f"a chat of the one word 'Hello' does not fit into the context of {engine.context_length} tokens; use a "
            "larger --context-length, a model with a longer context, or another --chat-template",
        ) from error
    async with submitted as generation:
        async for _ in generation:
            pass
