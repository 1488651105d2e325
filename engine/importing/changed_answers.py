"""Find the questions of a file whose known answers differ from those that are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answers.custom_rules import current_form
from engine.answers.extraction import equal
from store import questions

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.importing.questions import Imported
    from store.enums import AnswerType, Split
    from store.records import Question


@dataclass(frozen=True, slots=True)
class ChangedAnswer:
    """A stored question with other known answers than in the file."""

    question: Question
    """As it is stored."""
    stored: tuple[str, ...]
    """Canonical forms."""
    imported: tuple[str, ...]


def changed_answers(
    conn: sqlite3.Connection, imported: Imported, split: Split
) -> list[ChangedAnswer]:
    """The questions with different known answers, in order of the file.

    Forms that count as the same answer are no difference, such as those that an earlier version of
    a reader wrote.
    """
    stored = {question.key: question for question in questions.by_split(conn, split)}
    gold = questions.gold_for(conn, split)
    changed = []
    for key, new in imported.gold.items():
        question = stored.get(key)
        old = gold.get(question.id) if question else None
        if question and old and not _same(question.answer_type, old, new):
            changed.append(ChangedAnswer(question, old, new))
    return changed


def _same(answer_type: AnswerType, old: Sequence[str], new: Sequence[str]) -> bool:
    current = {current_form(answer_type, answer) for answer in old}
    if current == set(new):
        return True
    return all(
        any(equal(answer_type, a, b) for b in others)
        for ours, others in ((current, new), (new, current))
        for a in ours
    )
