"""Drift indicators of a run's paths, and alarms when they change; no labels are needed.

They point at collapse: paths that agree more, scatter less, get shorter or repeat each other
without evidence that the answers are better.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.evaluation.agreement import mean_agreement
from engine.sampling.runs import strength_of
from engine.voting.majority import entropy, merge_equal
from store import paths, questions
from store.enums import EndReason, Split

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from store.records import Model, Run


@dataclass(frozen=True, slots=True)
class DriftIndicators:
    """Properties of a run's paths that can be computed without known answers."""

    questions: int
    agreement: float
    """Mean share of the winner, corrected for the winner's curse, in [0, 1]."""
    entropy: float
    """Mean entropy of a question's answers, in bits."""
    truncated: float
    """Share of paths that reached the token limit."""
    unread: float
    """Share of paths that ended by themselves but have no readable answer."""
    length: float
    """Mean length of a path, in characters."""
    distinct: float
    """Share of a question's paths that differ from all before them, in (0, 1]."""


def indicators_of_model(
    conn: sqlite3.Connection, model: Model, split: Split
) -> DriftIndicators | None:
    """The indicators of a model's newest sampled run over a split; None if there is no such run."""
    sampled = [
        run
        for run in paths.runs(conn)
        if run.model_id == model.id
        and run.split is split
        and run.temperature > 0
        and strength_of(conn, run) == 1
    ]
    return indicators_of_run(conn, sampled[-1]) if sampled else None


def indicators_of_run(
    conn: sqlite3.Connection, run: Run, only: Collection[int] | None = None
) -> DriftIndicators | None:
    """The indicators of a run; None until two questions have two paths each.

    Args:
        conn: the project's store.
        run: the run.
        only: ids of the questions to include; None for all.
    """
    included = [
        question
        for question in questions.by_split(conn, run.split)
        if only is None or question.id in only
    ]
    by_question: defaultdict[int, list[str | None]] = defaultdict(list)
    total = truncated = unread = length = distinct = 0
    for question in included:
        texts = set[str]()
        for path, reading in paths.for_question(conn, run.id, question.id):
            by_question[question.id].append(reading.answer)
            total += 1
            truncated += path.end is EndReason.LENGTH
            unread += reading.answer is None and path.end is not EndReason.LENGTH
            length += len(path.text)
            texts.add(path.text)
        distinct += len(texts)
    types = {question.id: question.answer_type for question in included}
    answers = [merge_equal(types[id_], given) for id_, given in by_question.items()]
    agreement = mean_agreement(answers)
    if agreement is None:
        return None
    return DriftIndicators(
        questions=len(answers),
        agreement=agreement.corrected,
        entropy=sum(entropy(given) for given in answers) / len(answers),
        truncated=truncated / total,
        unread=unread / total,
        length=length / total,
        distinct=distinct / total,
    )


def alarms(
    before: DriftIndicators, after: DriftIndicators, *, precision_gain: float | None = None
) -> list[str]:
    """Sentences about changes that need a look.

    Args:
        before: of the previous round's run.
        after: of this round's run.
        precision_gain: audited precision after minus before, a share; None without an audit. Only
            a positive value explains a higher agreement.
    """
    raised = []
    if after.agreement > before.agreement + 0.02 and (
        precision_gain is None or precision_gain <= 0
    ):
        raised.append(
            f"Agreement rose from {before.agreement:.0%} to {after.agreement:.0%}, and no audit "
            "shows that the answers became better."
        )
    if after.entropy < 0.8 * before.entropy:
        raised.append(
            f"Answer entropy fell from {before.entropy:.2f} to {after.entropy:.2f} bits per "
            "question."
        )
    for description, old, new in (
        ("truncated", before.truncated, after.truncated),
        ("without a readable answer", before.unread, after.unread),
    ):
        if new > old + 0.02:
            raised.append(f"More paths are {description}: {old:.1%} to {new:.1%}.")
    if not 0.75 < after.length / max(1.0, before.length) < 1.33:
        raised.append(
            f"Mean path length changed from {before.length:.0f} to {after.length:.0f} characters."
        )
    if after.distinct < 0.8 * before.distinct:
        raised.append(f"Fewer paths are distinct: {before.distinct:.0%} to {after.distinct:.0%}.")
    return raised
