"""Counts with their nouns, as sentences have them."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """A count with its noun: `1 question`, `2,000 questions`.

    Args:
        count: how many there are.
        one: what follows a count of 1: a noun, or a noun with its verb.
        many: what follows any other count; "" for `one` with an s.
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"
