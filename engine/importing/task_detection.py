"""Which task a file of questions is of, where nobody says so: by its name, else by its answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.importing.columns import find_columns, flat
from engine.importing.questions import questions_in
from engine.prompting.tasks import PRESETS
from store.enums import AnswerType, Split
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from engine.importing.tables import Rows

LOOKED_AT = 60
"""Questions from the start of a file that a guess is made on."""

FITS = 0.8
"""Share of them that a task must be able to read."""

_GENERIC = {str(one) for one in AnswerType}
_NAMES = sorted((one for one in PRESETS if one not in _GENERIC), key=len, reverse=True)


def guess_task(path: Path, table: Rows) -> str | None:
    """A preset that reads nearly all of the first questions, or None when none is plain.

    Args:
        path: its name, and that of its folder, may name a known set.
        table: the rows of the file.
    """
    named = re.sub(r"[^a-z0-9]+", "-", f"{path.parent.name}/{path.name}".lower())
    known = [one for one in _NAMES if re.search(rf"(^|-){one}(-|$)", named)]
    for task in [*known, *_by_shape(table)]:
        for split in (Split.EVAL, Split.POOL):
            # A pool has no answers to go by, so only a name speaks for it.
            if (split is Split.EVAL or task in known) and _fits(path, table, task, split):
                return task
    return None


def _by_shape(table: Rows) -> list[str]:
    """Answer types that the columns and answers allow, the narrowest first."""
    rows = [flat(row) for _, row in table.rows[:LOOKED_AT]]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    pair = find_columns(columns, AnswerType.NLI, {})
    types = [AnswerType.CHOICE]
    if pair.get("question", "").lower() in ("hypothesis", "sentence2") and "passage" in pair:
        types.append(AnswerType.NLI)
    answer = find_columns(columns, AnswerType.SPAN, {}).get("answer")
    if answer and any("\\" in str(row.get(answer, "")) for row in rows):
        types.append(AnswerType.MATH)  # before numbers: it reads LaTeX as both
    types += [AnswerType.NUMBER, AnswerType.YES_NO, AnswerType.SPAN]
    return [str(one) for one in types]


def _fits(path: Path, table: Rows, task: str, split: Split) -> bool:
    try:
        found = questions_in(table, path, task=task, split=split, limit=LOOKED_AT)
    except BadInput:
        return False
    read = len(found.questions) + found.duplicates
    return read >= FITS * (read + len(found.left_out))
