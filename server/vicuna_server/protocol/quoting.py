"""What a client sent, in a message of ours: no longer than helps, and harmless where it is printed."""

__all__ = ["MOST_SHOWN", "quoted"]

MOST_SHOWN = 200


def quoted(text: str, most: int = MOST_SHOWN) -> str:
    """Return the text in quotes, as Python writes it: what does not print is escaped.

    Args:
        text: a client's.
        most: characters of it that are shown; of the rest is told how long it is.
    """
    shown = repr(text[:most])
    if len(text) <= most and len(shown) <= most + 2:
        return shown
    return f"{shown[: most + 1]}…' ({len(text)} characters)"
