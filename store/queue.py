"""The review queue: ids of questions, in the order of review.

One query over an index of counts (`vote_counts`) sorts a hundred thousand votes in a fraction of a
second; the screen then reads a page at a time. Triage is a chosen, biased queue; the audit is a
random sample of what the vote kept.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING

from store import reviews
from store.enums import Decision, Queue, Verdict

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from store.records import Review

CHARACTERS_PER_SECOND = 25.0
"""Reading speed: 300 words per minute."""
SECONDS_TO_DECIDE = 2.0
"""Time for a decision, without the reading."""
_SOME_PATHS = 200
"""Paths that the average length is estimated from."""


class Scope(StrEnum):
    """Which votes are in the queue."""

    DOUBTFUL = "doubtful"
    """Settled and not kept: too little agreement, a tie, or no answer."""
    KEPT = "kept"
    ALL = "all"
    """These, and votes that are not settled."""


class Sort(StrEnum):
    """Sort order; ties in order of import."""

    MARGIN = "margin"
    """Smallest margin of the first answer over the second, as a share of m, first."""
    GROUP = "group"
    """Most paths for the leading answer first."""
    VALUE = "value"
    """Most expected kept paths per second of review first; see `order`."""
    IMPORTED = "imported"


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """Which questions of a run are in the queue."""

    scope: Scope = Scope.DOUBTFUL
    low: Fraction = Fraction(0)
    """Least agreement, in [0, 1]."""
    high: Fraction = Fraction(1)
    """Most agreement, in [0, 1]. A vote that stopped early is in if its agreement may be."""
    task: str | None = None
    """Only questions of this task."""
    reviewed: bool | None = None
    """Only questions that were (or were not) decided in triage; None is both."""
    words: str = ""
    """Words that must all be in the question or its passage; ASCII case does not matter."""


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A question as a row of a table."""

    question_id: int
    text: str
    """The beginning of the question."""
    answers: tuple[tuple[str, int], ...]
    """The tally: (answer, paths), most first."""
    drawn: int
    m: int
    decision: Decision
    review: Review | None
    """The active triage decision, skips included."""


_SCOPES = {
    Scope.DOUBTFUL: (Decision.REJECT,),
    Scope.KEPT: (Decision.KEEP,),
    Scope.ALL: tuple(Decision),
}
_SORTS = {
    Sort.MARGIN: "1.0 * (first - second) / m",
    Sort.GROUP: "first DESC",
    Sort.VALUE: (
        "1.0 * (first * min(first, :cap) + second * min(second, :cap)) / max(1, drawn)"
        " / (:pause + (length(text) + length(passage) + length(options)"
        " + ((first > 0) + (second > 0)) * :path) / :speed) DESC"
    ),
    Sort.IMPORTED: "question_id",
}


def order(conn: sqlite3.Connection, run_id: int, chosen: QueueFilter, sort: Sort) -> array[int]:
    """The questions of a queue, in order.

    The value of a decision is its expected number of kept paths per expected second of review. An
    answer with c of the n sampled paths is right with probability c / n, and then min(c, cap) paths
    are kept; both leading answers count. The seconds are those of reading the question and one path
    of average length for each of these answers, and of deciding.

    Args:
        conn: the project's store.
        run_id: whose votes.
        chosen: which of them.
        sort: the order.

    Returns:
        QueueRow numbers of questions, as signed 64-bit integers.
    """
    needs_question = sort is Sort.VALUE or chosen.words.split()
    tests = ["run_id = :run"]
    values: dict[str, object] = {"run": run_id}
    scope = ", ".join(f"'{decision}'" for decision in _SCOPES[chosen.scope])
    tests.append(f"decision IN ({scope})")
    if chosen.low > 0:
        # In integers: as floats, shares at the bounds would be inexact.
        tests.append("(first + m - drawn) * :low_of >= :low * m")
        values |= {"low": chosen.low.numerator, "low_of": chosen.low.denominator}
    if chosen.high < 1:
        tests.append("first * :high_of <= :high * m")
        values |= {"high": chosen.high.numerator, "high_of": chosen.high.denominator}
    if chosen.task is not None:
        tests.append("question_id IN (SELECT id FROM question WHERE task = :task)")
        values["task"] = chosen.task
    if chosen.reviewed is not None:
        within = "IN" if chosen.reviewed else "NOT IN"
        tests.append(f"question_id {within} (SELECT value FROM json_each(:decided))")
        values["decided"] = json.dumps(sorted(decided(reviews.active(conn, run_id))))
    for number, word in enumerate(chosen.words.split()):
        tests.append(
            f"(text LIKE :word{number} ESCAPE '\\' OR passage LIKE :word{number} ESCAPE '\\')"
        )
        values[f"word{number}"] = f"%{_literal(word)}%"
    if sort is Sort.VALUE:
        values |= _value_parameters(conn, run_id)
    source = "vote JOIN question ON question.id = question_id" if needs_question else "vote"
    rows = conn.execute(
        f"SELECT question_id FROM {source} WHERE {' AND '.join(tests)}"
        f" ORDER BY {_SORTS[sort]}, question_id",
        values,
    )
    return array("q", (id_ for (id_,) in rows))


def audit_order(conn: sqlite3.Connection, run_id: int) -> array[int]:
    """The kept questions of a run in a random but reproducible order.

    Every prefix is a simple random sample without replacement. The order is that of a hash of the
    run's and the question's keys, so it depends neither on row numbers nor on which other questions
    are kept.
    """
    rows = conn.execute(
        "SELECT question_id, question.key FROM vote JOIN question ON question.id = question_id"
        " WHERE run_id = ? AND decision = 'keep'",
        [run_id],
    ).fetchall()
    ((run_key,),) = conn.execute("SELECT key FROM run WHERE id = ?", [run_id])
    return array(
        "q", (id_ for id_, _ in sorted(rows, key=lambda row: audit_place(run_key, row[1])))
    )


def audit_place(run_key: str, question_key: str) -> bytes:
    """The sort key of a question in the audit of a run, 16 bytes.

    The run's key holds its seed, so another seed is another order.
    """
    return hashlib.blake2b(f"audit {run_key} {question_key}".encode(), digest_size=16).digest()


def size(conn: sqlite3.Connection, run_id: int, scope: Scope) -> int:
    """Number of votes in a scope; read from an index, so the screen may call it often."""
    scopes = ", ".join(f"'{decision}'" for decision in _SCOPES[scope])
    ((count,),) = conn.execute(
        f"SELECT count(*) FROM vote WHERE run_id = ? AND decision IN ({scopes})", [run_id]
    )
    return int(count)


def open_votes(conn: sqlite3.Connection, run_id: int) -> int:
    """Number of votes that are not settled."""
    ((count,),) = conn.execute(
        "SELECT count(*) FROM vote WHERE run_id = ? AND decision = 'open'", [run_id]
    )
    return int(count)


def page(conn: sqlite3.Connection, run_id: int, ids: Sequence[int]) -> list[QueueRow]:
    """The rows of these questions, in the order of `ids`; questions without a vote are left out."""
    rows = conn.execute(
        "SELECT question_id, substr(text, 1, 400), tally, drawn, m, decision"
        " FROM vote JOIN question ON question.id = question_id"
        " WHERE run_id = ? AND question_id IN (SELECT value FROM json_each(?))",
        [run_id, json.dumps(list(ids))],
    )
    decisions = triage_decisions(reviews.active(conn, run_id, ids))
    by_id = {
        id_: QueueRow(
            id_,
            text,
            tuple((answer, paths) for answer, paths in json.loads(tally)),
            drawn,
            m,
            Decision(decision),
            decisions.get(id_),
        )
        for id_, text, tally, drawn, m, decision in rows
    }
    return [by_id[id_] for id_ in ids if id_ in by_id]


def triage_decisions(active: Iterable[Review]) -> Mapping[int, Review]:
    """The last triage decision on each question, skips included, equivalences excluded."""
    return {
        review.question_id: review
        for review in active
        if review.queue is Queue.TRIAGE and review.verdict is not Verdict.SAME
    }


def decided(active: Iterable[Review]) -> set[int]:
    """Ids of the questions that were decided in triage; a skip decides nothing."""
    return {
        id_
        for id_, review in triage_decisions(active).items()
        if review.verdict is not Verdict.SKIP
    }


def _value_parameters(conn: sqlite3.Connection, run_id: int) -> dict[str, object]:
    """Parameters of the value of a decision."""
    ((cap,),) = conn.execute("SELECT iif(cap > 0, cap, m) FROM run WHERE id = ?", [run_id])
    ((path,),) = conn.execute(
        "SELECT coalesce(avg(length(text)), 0)"
        " FROM (SELECT text FROM path WHERE run_id = ? LIMIT ?)",
        [run_id, _SOME_PATHS],
    )
    return {
        "cap": cap,
        "path": path,
        "pause": SECONDS_TO_DECIDE,
        "speed": CHARACTERS_PER_SECOND,
    }


def _literal(word: str) -> str:
    """A word for LIKE, without wildcards."""
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
