"""Where a JSON object ends that comes in pieces."""

import re

__all__ = ["ObjectEnd"]

_TELLING = re.compile(r'[{}"\\]')


class ObjectEnd:
    """Finds the brace that closes an object; it looks at each letter once.

    Of text that is not JSON it finds an end too, or none; what lies before it has to be checked by itself.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def push(self, text: str) -> int | None:
        """Take the next piece, the first of which begins with `{`.

        Returns:
            How many letters of the piece belong to the object, if it ends here; None: all do, and it goes on.
        """
        start = 0
        if self._escaped and text:
            self._escaped, start = False, 1
        while (found := _TELLING.search(text, start)) is not None:
            letter, start = found[0], found.end()
            if letter == '"':
                self._in_string = not self._in_string
            elif letter == "\\":
                if self._in_string:
                    self._escaped = start == len(text)
                    start += 1
            elif not self._in_string:
                self._depth += 1 if letter == "{" else -1
                if self._depth == 0:
                    return start
        return None
