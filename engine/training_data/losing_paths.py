"""The losing paths of a training set: frozen beside it, and written as examples of a contrast.

A losing path is put under the prompts of the kept paths of its question, so both share them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

from engine.prompting.templates import answer_sentence
from engine.training_data import provenance
from engine.training_data.student_prompts import set_style
from store import contrast, questions
from store.connection import connect
from store.enums import PromptStyle
from store.errors import BadInput
from store.records import ContrastQuestion, LosingPath

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from engine.project.folder import Project
    from engine.training_data.selection import KeptQuestion
    from store.contrast import LosingText
    from store.records import Example, TrainingSet


def freeze(conn: sqlite3.Connection, key: str, kept: Iterable[KeptQuestion]) -> None:
    """Store the margins and losing paths of the questions of a set, unless they are stored.

    A question that is kept with several answers has the margin of the last one.
    """
    selected = list(kept)
    margins = {chosen.question.id: chosen.margin for chosen in selected}
    contrast.freeze(
        conn,
        key,
        [ContrastQuestion(key, question_id, margin) for question_id, margin in margins.items()],
        [
            LosingPath(key, path.id, chosen.question.id, answer)
            for chosen in selected
            for path, answer in chosen.losers
        ],
    )


def freeze_older(conn: sqlite3.Connection, project: Project, frozen: TrainingSet) -> None:
    """Store the losing paths of a set that was frozen before they were stored with it.

    Raises:
        BadInput: its paths are not those of votes any more.
    """
    if contrast.is_stored(conn, frozen.key):
        return
    with connect(project.database, training=True) as reading:
        kept = provenance.kept_questions(reading, frozen)
    if not kept:
        raise BadInput(
            f"The votes do not keep the paths of training set {frozen.key[:12]} any more, so its "
            "losing paths are not known: run `lmsi-tui curate` first."
        )
    freeze(conn, frozen.key, kept)


def losing_examples(
    conn: sqlite3.Connection, frozen: TrainingSet, examples: Sequence[Example]
) -> list[Example]:
    """Write the losing paths of a set in the formats of its examples.

    Formats with reasoning have a row for each losing path. In direct formats, the paths of one
    losing answer are one row with the weight of all, as those of the kept answer are. A losing
    path weighs as much as a kept path of its question.

    Args:
        conn: a connection that cannot read known answers.
        frozen: the set, whose losing paths are stored.
        examples: all of the set.
    """
    style = set_style(conn, frozen)
    paths_of: defaultdict[int, list[LosingText]] = defaultdict(list)
    for path in contrast.losing_texts(conn, frozen.key):
        paths_of[path.question_id].append(path)
    by_id = questions.by_ids(conn, paths_of)
    groups: defaultdict[tuple[int, str], list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.question_id, example.prompt_format].append(example)
    kept_paths = {
        question_id: len(group)
        for (question_id, _), group in groups.items()
        if group[0].path_id is not None
    }
    rows: list[Example] = []
    for (question_id, _), group in groups.items():
        losers, like = paths_of[question_id], _average(group)
        if like.prompt_format.reasons:
            rows += [
                replace(like, path_id=path.path_id, completion=path.text, token_ids=path.token_ids)
                for path in losers
            ]
            continue
        unit = like.weight / kept_paths.get(question_id, max(1, len(losers)))
        for answer, count in Counter(path.answer for path in losers).items():
            sentence = answer_sentence(by_id[question_id].answer_type, answer)
            # As for the kept answer: a chat message begins with its first word.
            text = sentence.strip() if style is PromptStyle.CHAT else sentence
            rows.append(replace(like, completion=text, weight=unit * count))
    return [
        replace(row, id=0, position=frozen.examples + number) for number, row in enumerate(rows)
    ]


def _average(group: Sequence[Example]) -> Example:
    """The first example of a question in a format, with the mean weight of all."""
    weights = {example.weight for example in group}
    if len(weights) == 1:
        return group[0]
    return replace(group[0], weight=fmean(example.weight for example in group))
