"""Ids in config.json and generation_config.json, held against the tokenizer that goes with them.

Programs end an answer at the id that a configuration names. Where it was copied from another model, or written for
another tokenizer, that is some word: 2 is LLaMA's end, and "#" to LLaMA 3.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vicuna_server.problems import Problems
from vicuna_server.weights.tokenizers.token_table import ROLES, TokenTable

__all__ = ["check_rows", "true_ids"]

_MOST_NAMED = 4
_MOST_LETTERS = 20
_NEEDED = ("bos", "eos")  # tokens that occur in every prompt, or end every answer


def check_rows(table: TokenTable, rows: int, where: str, problems: Problems) -> None:
    """Note ids that the embedding has no row for.

    Args:
        table: the tokenizer's.
        rows: the embedding's.
        where: what messages call the tokenizer's place.
        problems: gets `VocabularyMismatch` where no prompt would work, else the warning `TokensWithoutRow`.
    """
    beyond = table.beyond(rows)
    if not beyond:
        return
    shown = ", ".join(f"{table.texts[token]!r} ({token})" for token in beyond[:_MOST_NAMED])
    more = f" and {len(beyond) - _MOST_NAMED} more" if beyond[_MOST_NAMED:] else ""
    what = f"the tokenizer in {where} has {shown}{more}, and the embedding {rows} rows (ids 0 to {rows - 1})"
    needed = [role for role in _NEEDED if table.roles.get(role, 0) >= rows]
    if needed:
        problems.add(
            "VocabularyMismatch",
            f"{what}; its {needed[0]}_token is among them: give the tokenizer of this model, or a model whose "
            "embedding was resized for it",
        )
    else:
        problems.warn("TokensWithoutRow", f"{what}; a prompt with such a token is refused when serving")


def true_ids(
    content: Mapping[str, Any], table: TokenTable, rows: int | None, what: str, problems: Problems, *, fill: bool
) -> dict[str, Any]:
    """Return a configuration whose `bos_token_id`, `eos_token_id` and `pad_token_id` are the tokenizer's.

    An end that the tokenizer knows for more than text stays beside the tokenizer's own: chat models have several.

    Args:
        content: config.json's or generation_config.json's.
        table: the tokenizer's ids.
        rows: of the embedding; None: unknown.
        what: what messages call the file.
        problems: gets the warning `TokenIdsRepaired` for what was stated and is not so.
        fill: whether to state bos and eos where the file leaves them out.
    """
    result = dict(content)
    for role in ROLES:
        key = f"{role}_token_id"
        stated = content.get(key)
        right = _ends(stated, table, rows) if role == "eos" else _one(role, stated, table, rows)
        if stated is None:
            if right is not None and role in _NEEDED and (fill or key in content):
                result[key] = right
        elif right != stated:
            result[key] = right
            was, becomes = _told(key, stated, table), _told(key, right, table)
            problems.warn("TokenIdsRepaired", f"{what} says {was}, which the tokenizer does not; it becomes {becomes}")
        elif role == "eos":
            _check_end(stated, table, f"{what} says {_told(key, stated, table)}", problems)
    return result


def _check_end(stated: Any, table: TokenTable, says: str, problems: Problems) -> None:
    """Note an end that is text to a tokenizer without an end of its own."""
    if "eos" not in table.roles and any(map(table.is_text, _listed(stated))):
        problems.warn(
            "EndIsText",
            f"{says}, which is plain text to the tokenizer, and answers will end there; if they should not, write the "
            "model's eos_token into tokenizer_config.json",
        )


def _one(role: str, stated: Any, table: TokenTable, rows: int | None) -> int | None:
    own = table.roles.get(role)
    if own is not None and _has_row(own, rows):
        return own
    return stated if _is_id(stated) and _has_row(stated, rows) else None


def _ends(stated: Any, table: TokenTable, rows: int | None) -> int | list[int] | None:
    """Return the stated ends that are ends, and the tokenizer's own."""
    own = table.roles.get("eos")
    ids = [token for token in dict.fromkeys(_listed(stated)) if _has_row(token, rows)]
    if own is not None:
        ids = _with_own(own, ids, table)
    if isinstance(stated, list):
        return ids or None
    return ids[0] if len(ids) == 1 else ids or None


def _with_own(own: int, ids: list[int], table: TokenTable) -> list[int]:
    """Return the tokenizer's own end and those that it knows for neither text nor another role."""
    others = {table.roles.get("bos"), table.roles.get("unk")} - {own}
    kept = [token for token in ids if token == own or not (token in others or table.is_text(token))]
    return kept if own in kept else [*kept, own]


def _listed(stated: Any) -> list[int]:
    """Return the ids in one id or a list of them."""
    return [token for token in (stated if isinstance(stated, list) else [stated]) if _is_id(token)]


def _is_id(value: Any) -> bool:
    return type(value) is int and value >= 0


def _has_row(token: int, rows: int | None) -> bool:
    return rows is None or token < rows


def _told(key: str, value: Any, table: TokenTable) -> str:
    """Say an id, or several, with their texts."""
    listed: Sequence[Any] = value if isinstance(value, list) else [value]
    return f"{key} {', '.join(_in_words(token, table) for token in listed[:_MOST_NAMED])}"


def _in_words(token: Any, table: TokenTable) -> str:
    """Say one id; a file may hold whatever it likes in its place."""
    if not _is_id(token):
        return "null" if token is None else str(token)[:_MOST_LETTERS]
    return f"{token} ({table.texts[token]!r})" if token in table.texts else f"{token} (no token)"
