"""The choices of one request, generated side by side."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from vicuna_server.api.counting import RequestCounts
from vicuna_server.engine import Generation, OutputChunk
from vicuna_server.errors import VicunaError
from vicuna_server.protocol.counts import Used
from vicuna_server.protocol.envelope import Usage, usage
from vicuna_server.protocol.stream_state import StreamState

__all__ = ["Choices"]


class Choices:
    """Several generations as one stream of chunks; the first failure ends them all.

    Args:
        generations: In the order of `index`: all choices of the first prompt, then those of the next.
        per_prompt: Choices for each prompt.
        counts: Gets the token counts, once the engine has let go of all generations.
        state: What another server's stream has come to, with which the one generation goes on; None: they begin here.
    """

    def __init__(
        self,
        generations: Sequence[Generation],
        per_prompt: int,
        counts: RequestCounts,
        state: StreamState | None = None,
    ) -> None:
        self.count = len(generations)
        self.per_prompt = per_prompt
        self.state = state
        self._generations = generations
        self._counts = counts
        counts.expect()
        for generation in generations:
            generation.on_end = self._on_end
        self._on_end()

    @property
    def over(self) -> bool:
        """Whether the engine has let go of all generations, so that the counts are final."""
        return all(generation.over for generation in self._generations)

    @property
    def used(self) -> Used:
        """The counts so far. A prompt counts once for all its choices, from when the engine has begun with it."""
        step, generations = self.per_prompt, self._generations
        prompts = (generations[start : start + step] for start in range(0, self.count, step))
        begun = (choices[0].prompt_tokens for choices in prompts if any(choice.begun for choice in choices))
        return Used(sum(begun), sum(generation.tokens for generation in generations))

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompts that were not computed again, where they were computed first."""
        if self.state is not None:
            return self.state.begin.cached
        return sum(generation.cached_tokens for generation in self._generations[:: self.per_prompt])

    @property
    def usage(self) -> Usage:
        """The counts so far in OpenAI's form."""
        return usage(*self.used, self.cached_tokens)

    def cancel(self) -> None:
        """Stop the generations that still run."""
        for generation in self._generations:
            generation.cancel()

    async def chunks(self) -> AsyncGenerator[tuple[int, Generation, OutputChunk], None]:
        """Yield (index, generation, chunk) as they come.

        Raises:
            VicunaError: A generation failed.
        """
        try:
            if self.count == 1:
                async for chunk in self._generations[0]:
                    yield 0, self._generations[0], chunk
                return
            async with aclosing(_merged(self._generations)) as merged:
                async for index, chunk in merged:
                    yield index, self._generations[index], chunk
        finally:
            self.cancel()

    def _on_end(self) -> None:
        if self.over:
            for generation in self._generations:
                generation.on_end = None
            self._counts.add(self.used)


async def _merged(generations: Sequence[Generation]) -> AsyncGenerator[tuple[int, OutputChunk], None]:
    events: asyncio.Queue[tuple[int, OutputChunk | VicunaError]] = asyncio.Queue()

    async def forward(index: int, generation: Generation) -> None:
        try:
            async for chunk in generation:
                events.put_nowait((index, chunk))
        except VicunaError as error:
            events.put_nowait((index, error))

    tasks = [asyncio.create_task(forward(*numbered)) for numbered in enumerate(generations)]
    running = len(tasks)
    try:
        while running:
            index, event = await events.get()
            if isinstance(event, VicunaError):
                raise event
            running -= event.finish_reason is not None
            yield index, event
    finally:
        for task in tasks:
            task.cancel()
