"""Detect the task of a file of questions, from its name or else from its columns and answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.importing.columns import find_columns
from engine.importing.labels.label_numbering import AmbiguousLabels
from engine.importing.layouts import arrange
from engine.importing.questions import questions_in
from engine.prompting.tasks import PRESETS
from store.enums import AnswerType, Split
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from engine.importing.tables import InputTable

LOOKED_AT = 60
"""Number of questions, from the start of the file, that are examined."""

FITS = 0.8
"""Minimum share of them that fit the task."""

_GENERIC = {str(answer_type) for answer_type in AnswerType}
_NAMES = sorted((name for name in PRESETS if name not in _GENERIC), key=len, reverse=True)


def guess_task(path: Path, table: InputTable) -> str | None:
    """The task that fits nearly all of the first questions; None if no task is clear.

    Args:
        path: its name, or the name of its folder, may contain the name of a task.
        table: the rows of the file.
    """
    name = re.sub(r"[^a-z0-9]+", "-", f"{path.parent.name}/{path.name}".lower())
    named = [task for task in _NAMES if re.search(rf"(^|-){task}(-|$)", name)]
    for task in [*named, *_by_shape(table)]:
        for split in (Split.EVAL, Split.POOL):
            # A pool has no answers to examine, so only a name decides for it.
            if (split is Split.EVAL or task in named) and _fits(path, table, task, split):
                return task
    return None


def _by_shape(table: InputTable) -> list[str]:
    """Answer types to try, the most specific first."""
    arranged = arrange(table.rows[:LOOKED_AT])
    rows, columns = [row for _, row in arranged.rows], arranged.columns
    pair = find_columns(columns, AnswerType.NLI, {})
    types = [AnswerType.CHOICE]
    if pair.get("question", "").lower() in ("hypothesis", "sentence2") and "passage" in pair:
        types.append(AnswerType.NLI)
    answer = find_columns(columns, AnswerType.SPAN, {}).get("answer") or arranged.answer
    if answer and any("\\" in str(row.get(answer, "")) for row in rows):
        types.append(AnswerType.MATH)  # before numbers: LaTeX fits both
    types += [AnswerType.NUMBER, AnswerType.YES_NO, AnswerType.SPAN]
    return [str(answer_type) for answer_type in types]


def _fits(path: Path, table: InputTable, task: str, split: Split) -> bool:
    try:
        imported = questions_in(table, path, task=task, split=split, limit=LOOKED_AT)
    except AmbiguousLabels:
        return True  # they name options, whichever
    except BadInput:
        return False
    fitting = len(imported.questions) + imported.duplicates
    return fitting >= FITS * (fitting + len(imported.left_out))
