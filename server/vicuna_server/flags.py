"""Checks of flag values: a file that must exist, a quantity that must be valid."""

from pathlib import Path

from vicuna_contract.quantity import parse_quantity
from vicuna_contract.templates import TEMPLATE_SUFFIX
from vicuna_server.errors import UsageError

__all__ = ["memory", "require_template_file"]


def memory(flag: str, text: str | None) -> int | None:
    """Return the bytes of a flag's quantity, such as `13Gi` or `16e9`; None where the flag is not given.

    Raises:
        UsageError: It is not a quantity above zero.
    """
    if text is None:
        return None
    try:
        size = parse_quantity(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None
    if size <= 0:
        raise UsageError(f"{flag} {text!r} is not more than zero; write a quantity such as 13Gi")
    return size


def require_template_file(flag: str, chat_template: str) -> str:
    """Return the value of a flag that is a chat template's name or file.

    Raises:
        UsageError: It names a file that does not exist.
    """
    if chat_template.endswith(TEMPLATE_SUFFIX) and not Path(chat_template).is_file():
        raise UsageError(f"{flag} {chat_template!r} is not a file; check the path of the Jinja template")
    return chat_template
