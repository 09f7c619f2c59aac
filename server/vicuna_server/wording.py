"""Numbers, ages and names in readable form."""

__all__ = ["printable", "readable_age", "readable_size"]


def readable_size(count: int) -> str:
    """Write a number of bytes."""
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.2f} MB"


def readable_age(seconds: float) -> str:
    """Write an age in its largest whole unit, as kubectl does."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{max(0, int(seconds))}s"


def printable(text: str) -> str:
    """Escape control characters, which could steer a terminal; a hostile file may have them in its names."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
