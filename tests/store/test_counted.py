"""Counts agree with their nouns."""

from __future__ import annotations

import pytest

from store.counted import counted


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 questions"), (1, "1 question"), (2, "2 questions"), (1234, "1,234 questions")],
)
def test_a_noun_is_in_the_plural_unless_there_is_one(count: int, text: str) -> None:
    assert counted(count, "question") == text


def test_a_verb_agrees_with_its_count() -> None:
    assert [counted(n, "vote counts", "votes count") for n in (1, 2)] == [
        "1 vote counts",
        "2 votes count",
    ]
