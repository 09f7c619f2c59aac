"""A model in this process: the engine of the server, without HTTP."""

import asyncio
import threading
from collections.abc import Coroutine, Generator, Sequence
from typing import Any, TypeVar, cast

from vicuna_server.chat.backend import ChatMessage, Options, Report
from vicuna_server.engine import ChatPrompt, Generation, GenerationRequest, OutputChunk
from vicuna_server.engine.opening import create_engine
from vicuna_server.engine.settings import LoadSettings
from vicuna_server.errors import UsageError
from vicuna_server.prompts import Message, Role
from vicuna_server.tools.output import OutputPart
from vicuna_server.tools.parsing import OutputParser

__all__ = ["LocalModel"]

Result = TypeVar("Result")
CLOSE_SECONDS = 10.0


class LocalModel:
    """Loads a folder and answers from it; the engine's event loop has a thread of its own.

    Args:
        settings: What to load and how.

    Raises:
        VicunaError: It cannot be loaded on this machine.
    """

    def __init__(self, settings: LoadSettings) -> None:
        self.title = settings.folder.resolve().name
        self.report = Report()
        self._engine = create_engine(settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chat", daemon=True)
        self._thread.start()
        self._wait(self._engine.load())

    def use(self, model: str | None) -> None:
        """Refuse, since this process has one model; see `Backend.use`."""
        del model
        raise UsageError(
            "!!set model: the model runs in this process and cannot be changed; "
            "end with !!exit and start again with another --model"
        )

    def stream(self, messages: Sequence[ChatMessage], options: Options) -> Generator[OutputPart, None, None]:
        """Yield the answer's parts; see `Backend.stream`."""
        prompt = ChatPrompt(tuple(Message(cast("Role", one["role"]), one["content"]) for one in messages))
        ready = self._wait(self._engine.prepare(prompt, options.max_tokens, trim=True))
        left_out = ready.left_out
        self.report = Report(left_out=left_out)
        request = GenerationRequest(ready, **options.stated())
        generation = self._wait(self._engine.submit(request))
        parser = OutputParser.of_reasoning()
        try:
            while (chunk := self._wait(_next(generation))) is not None:
                yield from parser.push(chunk.text)
                counts = (generation.prompt_tokens, generation.cached_tokens, chunk.tokens)
                self.report = Report(chunk.finish_reason or "", *counts, left_out)
            yield from parser.end()
        finally:
            self._loop.call_soon_threadsafe(generation.cancel)

    def close(self) -> None:
        """Stop the engine, after its running step."""
        self._wait(self._engine.close(), CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, Result], seconds: float | None = None) -> Result:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except KeyboardInterrupt:
            future.cancel()
            raise


async def _next(generation: Generation) -> OutputChunk | None:
    return await anext(generation, None)
