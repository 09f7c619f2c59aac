"""What each key has used of each model."""

from collections import Counter

from vicuna_server.gateway.keys import Key
from vicuna_server.protocol.counts import Used

__all__ = ["Books", "Entry"]


class Books:
    """Keeps account in memory.

    Attributes:
        under_way: entries that are open.
    """

    def __init__(self) -> None:
        self._prompt: Counter[tuple[str, str]] = Counter()
        self._completion: Counter[tuple[str, str]] = Counter()
        self.under_way = 0

    async def open(self, key: Key, model: str, most: int) -> "Entry":
        """Begin a request.

        Args:
            key: who asks.
            model: id of the model.
            most: so many tokens the request may use.
        """
        del most
        self.under_way += 1
        return Entry(self, (key.name, model))

    def used(self, key: str, model: str) -> Used:
        """Return what a key has used of a model."""
        return Used(self._prompt[key, model], self._completion[key, model])

    def _count(self, place: tuple[str, str], prompt: int, completion: int) -> None:
        self._prompt[place] += prompt
        self._completion[place] += completion


class Entry:
    """One request's."""

    def __init__(self, books: Books, place: tuple[str, str]) -> None:
        self._books = books
        self._place = place
        self._used = Used()

    def counted(self, prompt: int, completion: int) -> None:
        """Learn what the request has used so far; it never gets less."""
        self._books._count(self._place, prompt - self._used.prompt, completion - self._used.completion)
        self._used = Used(prompt, completion)

    def close(self) -> None:
        """End: no more will come."""
        self._books.under_way -= 1
