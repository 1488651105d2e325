"""The review queue as it was last read, and what one session at it has done."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from engine.answers.custom_rules import active_reviews
from engine.review import question as reviewing
from engine.sampling.runs import pool_run
from engine.statistics.confidence_sequence import TARGET_PRECISION
from lmsi_tui.formatting.sanitize import snippet
from store import questions, queue, reviews
from store.enums import Queue, Split
from store.queue import QueueFilter, Scope, Sort

if TYPE_CHECKING:
    import sqlite3
    from array import array
    from collections.abc import Mapping
    from fractions import Fraction

    from engine.project.folder import Project
    from engine.review.audit import Consistency
    from engine.statistics.confidence_sequence import PrecisionEstimate
    from store.records import Review, Run

PACE = 20
"""Decisions whose time tells how long one takes: a person gets faster, and slower."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person wants to look at."""

    queue: Queue = Queue.TRIAGE
    chosen: QueueFilter = field(default_factory=QueueFilter)
    """Of triage alone: the audit is a random sample, and a filter would bias it."""
    sort: Sort = Sort.MARGIN

    @property
    def scope(self) -> Scope:
        """The votes that the queue is taken from."""
        return Scope.KEPT if self.queue is Queue.AUDIT else self.chosen.scope

    @property
    def words(self) -> str:
        """The filter and the order, as a person says them; empty when they are as usual."""
        if self.queue is Queue.AUDIT:
            return "a random sample of what the vote accepted"
        chosen = self.chosen
        parts = [] if chosen.scope is Scope.DOUBTFUL else [f"{chosen.scope} votes"]
        if chosen.low > 0 and chosen.high < 1:
            parts.append(f"agreement {share(chosen.low)} to {share(chosen.high)}")
        elif chosen.low > 0:
            parts.append(f"agreement ≥ {share(chosen.low)}")
        elif chosen.high < 1:
            parts.append(f"agreement ≤ {share(chosen.high)}")
        if chosen.task is not None:
            parts.append(f"task {snippet(chosen.task, 20)}")
        if chosen.reviewed is not None:
            parts.append("reviewed" if chosen.reviewed else "not reviewed")
        if chosen.words.strip():
            parts.append(f"“{snippet(chosen.words, 24)}”")
        parts.append(SORTS[self.sort])
        return " · ".join(parts)


SORTS = {
    Sort.MARGIN: "lowest margin first",
    Sort.GROUP: "largest group first",
    Sort.VALUE: "most value per second first",
    Sort.IMPORTED: "in order of import",
}


def share(value: Fraction) -> str:
    """A share as a person writes it: a short decimal where it is exact, else a fraction."""
    decimal = f"{float(value):.4g}"
    return decimal if value == type(value)(decimal) else str(value)


@dataclass(frozen=True, slots=True)
class Known:
    """What the audits say about everything that the vote accepted."""

    precision: PrecisionEstimate
    consistency: Consistency
    certified: Fraction | None
    """Lowest threshold whose precision is `TARGET_PRECISION` at least."""
    following: Fraction | None
    """The next threshold to certify; None when none is left."""
    clean_needed: int | None
    """Audits still to come, all right, until it is; None where no number of them would do."""
    repeats: tuple[int, ...]
    """Audited questions to be asked again now, without a word."""


@dataclass(frozen=True, slots=True)
class ReviewQueue:
    """The questions in order, and which of them are done."""

    wanted: Wanted
    run: Run
    ids: array[int]
    places: Mapping[int, int]
    """Where each question stands, from 0; a search in `ids` would take milliseconds."""
    done: frozenset[int]
    """Those of them that a person has seen to: decided, skipped, or judged."""
    judged: Mapping[int, bool | None]
    """Audited questions: whether the vote was right; None where that cannot be judged."""
    tasks: tuple[str, ...]
    """Tasks of the pool."""
    votes: int
    """Size of the scope when this was read: another size means that the order is old."""
    open_votes: int
    """Votes that still wait for paths."""
    newest: int
    """Row number of the last review when this was read."""
    known: Known | None = None
    """What the audit tells so far; None in triage, and until it was reckoned."""

    @property
    def left(self) -> int:
        """Questions that nobody has seen to."""
        return len(self.ids) - len(self.done)

    @property
    def agreed(self) -> tuple[int, int]:
        """Audited votes that were right, and all that could be judged."""
        known = [right for right in self.judged.values() if right is not None]
        return sum(known), len(known)

    def place_of(self, question_id: int | None) -> int | None:
        """Where a question stands, from 0; None when the queue does not have it."""
        return None if question_id is None else self.places.get(question_id)

    def next_after(self, place: int) -> int | None:
        """The next place that nobody has seen to, from the start again when the end is reached;
        None when all are done."""
        if self.left == 0:
            return None
        for at in range(place + 1, len(self.ids)):
            if self.ids[at] not in self.done:
                return at
        return self.next_after(-1) if place >= 0 else None

    def seen_to(self, question_id: int, done: bool) -> ReviewQueue:
        """The same queue after a decision or an undo."""
        if not done:
            return replace(self, done=self.done - {question_id})
        return (
            self
            if question_id not in self.places
            else replace(self, done=self.done | {question_id})
        )


def read_queue(conn: sqlite3.Connection, project: Project, wanted: Wanted) -> ReviewQueue | None:
    """Read a queue; a scan, so in a thread. None when nothing was sampled yet."""
    run = pool_run(conn, project)
    if run is None:
        return None
    newest = reviews.newest(conn)
    standing = active_reviews(conn, run.id)
    judged: dict[int, bool | None] = {}
    if wanted.queue is Queue.AUDIT:
        ids = queue.audit_order(conn, run.id)
        judged = reviewing.audited(conn, run.id, standing)
        done = set(judged)
    else:
        ids = queue.order(conn, run.id, wanted.chosen, wanted.sort)
        done = set(queue.triage_decisions(standing))
    return ReviewQueue(
        wanted=wanted,
        run=run,
        ids=ids,
        places={id_: place for place, id_ in enumerate(ids)},
        done=frozenset(done.intersection(ids)),
        judged=judged,
        tasks=tuple(questions.tasks(conn, Split.POOL)),
        votes=queue.size(conn, run.id, wanted.scope),
        open_votes=queue.open_votes(conn, run.id),
        newest=newest,
    )


def known_of(conn: sqlite3.Connection, project: Project, run: Run) -> Known | None:
    """What the audits of a run tell; None when nothing is accepted. Reads every accepted vote."""
    from engine.review import audit  # what only an audit needs

    found = audit.of_store(conn, run, threshold=project.settings.sample.threshold)
    precision = found.precision
    if precision is None:
        return None
    certified, following = found.certified_so_far(TARGET_PRECISION)
    return Known(
        precision=precision,
        consistency=found.consistency,
        certified=certified.threshold if certified else None,
        following=following.threshold if following else None,
        clean_needed=following.clean_needed if following else None,
        repeats=tuple(question.id for question in found.repeats),
    )


class Session:
    """The decisions since the app was started, for undo and for the pace."""

    def __init__(self) -> None:
        self._made: list[Review] = []
        self._paces: list[float] = []

    def add(self, review: Review) -> None:
        """Remember a decision."""
        self._made.append(review)
        self._paces.append(review.seconds)

    @property
    def last(self) -> Review | None:
        """The last decision that was not taken back."""
        return self._made[-1] if self._made else None

    def take_back(self) -> None:
        """Forget the last decision."""
        self._made.pop()

    @property
    def seconds(self) -> float | None:
        """What one of the last decisions took, on average; None before the first."""
        last = self._paces[-PACE:]
        return sum(last) / len(last) if last else None

    def words(self, left: int) -> str:
        """Decisions, pace, and what is left: `12 decided  9.4/min  29 left  ~3 min`."""
        parts = []
        seconds = self.seconds
        if seconds is not None:
            parts += [f"{len(self._made):,} decided", f"{60 / max(seconds, 0.1):.1f}/min"]
        if left:
            parts.append(f"{left:,} left")
            if seconds is not None:
                parts.append(_rough(left * seconds))
        return "  ".join(parts)


def _rough(seconds: float) -> str:
    if seconds < 90:
        return f"~{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"~{minutes:.0f} min" if minutes < 90 else f"~{minutes / 60:.1f} h"
