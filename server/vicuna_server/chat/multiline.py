"""Questions of several lines between three quotation marks, as in Python and Ollama. Pure."""

__all__ = ["is_open", "unquoted"]

QUOTES = '"""'


def is_open(text: str) -> bool:
    """Return whether the text begins with quotes that are not closed yet."""
    return text.lstrip().startswith(QUOTES) and text.count(QUOTES) == 1


def unquoted(text: str) -> str:
    """Return what is between quotes around the whole text; any other text is returned itself."""
    inner = text.strip()
    if inner.startswith(QUOTES) and inner.endswith(QUOTES) and inner.count(QUOTES) == 2:
        return inner[len(QUOTES) : -len(QUOTES)].strip("\n")
    return text
