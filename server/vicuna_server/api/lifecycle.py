"""Where a server stands: loading, ready, draining or failed."""

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
"""How long new requests are still served after SIGTERM: endpoint removal reaches clients late."""

SMOKE_SECONDS = 300.0


class Lifecycle(Drain):
    """The server's state, written by start-up and signals, read by probes and middleware."""

    def __init__(self) -> None:
        super().__init__(loaded=False)
        self.failure: VicunaError | None = None
        self.settled = asyncio.Event()
        """Set when start-up is over, one way or the other."""

    @property
    def ready(self) -> bool:
        """Whether `/readyz` says 200."""
        return self.loaded and not self.draining and self.failure is None

    async def bring_up(self, engine: Engine) -> None:
        """Load the model and let it prove itself; afterwards either `loaded` or `failure` is set."""
        started = time.monotonic()
        try:
            await engine.load()
            await asyncio.wait_for(_smoke_test(engine), SMOKE_SECONDS)
        except VicunaError as error:
            self.failure = error
        except TimeoutError:
            self.failure = EngineError(
                "SmokeTestFailed", f"the model gave no token within {SMOKE_SECONDS:.0f} s of being loaded"
            )
        except Exception as error:
            logger.exception("start-up failed")
            self.failure = EngineError("StartFailed", f"the engine cannot be started: {error}")
        else:
            self.loaded = True
            logger.info("ready after %.1f s", time.monotonic() - started)
        self.settled.set()


async def _smoke_test(engine: Engine) -> None:
    """Generate one token, the way a chat does where any is answered; the engine refuses logits that are not finite.

    Raises:
        InputError: `ContextTooSmall`: nobody asked, so it is not told as a client's fault.
    """
    prompt = ChatPrompt((Message("user", "Hello"),)) if engine.chats else "Hello"
    try:
        answering = await engine.submit(GenerationRequest(prompt, max_tokens=1, temperature=0.0))
    except RequestError as error:
        if error.code != "context_length_exceeded":
            raise
        raise InputError(
            "ContextTooSmall",
            f"the prompt of the one word 'Hello' is more than the {engine.context_length} tokens of context hold; use "
            "a larger --context-length or model, or another --chat-template",
        ) from error
    async with answering as generation:
        async for _ in generation:
            pass
