"""A client's text within a message: shortened, and harmless to print."""

__all__ = ["MAX_SHOWN", "quoted"]

MAX_SHOWN = 200


def quoted(text: str, most: int = MAX_SHOWN) -> str:
    """Return the text in quotes, as Python writes it: characters that are not printable are escaped.

    Args:
        text: From a client.
        most: Characters that are shown; of a longer text, its length is added.
    """
    shown = repr(text[:most])
    if len(text) <= most and len(shown) <= most + 2:
        return shown
    return f"{shown[: most + 1]}…' ({len(text)} characters)"
