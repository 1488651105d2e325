"""The review queue: which questions it selects, their order, and which are done."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from engine.answers.custom_rules import active_reviews
from engine.review.question import audited
from engine.sampling.runs import pool_run, run_threshold
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
    from store.records import Run


@dataclass(frozen=True, slots=True)
class QueueSelection:
    """Which queue to show, how it is filtered and sorted."""

    queue: Queue = Queue.TRIAGE
    filter: QueueFilter = field(default_factory=QueueFilter)
    """Of triage only: the audit is a random sample, which a filter would bias."""
    sort: Sort = Sort.MARGIN

    @property
    def scope(self) -> Scope:
        """The votes from which the queue is taken."""
        return Scope.KEPT if self.queue is Queue.AUDIT else self.filter.scope

    @property
    def text(self) -> str:
        """The filter and the order in words."""
        if self.queue is Queue.AUDIT:
            return "a random sample of the accepted questions"
        queue_filter = self.filter
        parts = [] if queue_filter.scope is Scope.DOUBTFUL else [f"{queue_filter.scope} votes"]
        if queue_filter.low > 0 and queue_filter.high < 1:
            parts.append(f"agreement {share(queue_filter.low)} to {share(queue_filter.high)}")
        elif queue_filter.low > 0:
            parts.append(f"agreement ≥ {share(queue_filter.low)}")
        elif queue_filter.high < 1:
            parts.append(f"agreement ≤ {share(queue_filter.high)}")
        if queue_filter.task is not None:
            parts.append(f"task {snippet(queue_filter.task, 20)}")
        if queue_filter.reviewed is not None:
            parts.append("reviewed" if queue_filter.reviewed else "not reviewed")
        if queue_filter.words.strip():
            parts.append(f"“{snippet(queue_filter.words, 24)}”")
        parts.append(SORTS[self.sort])
        return " · ".join(parts)


SORTS = {
    Sort.MARGIN: "lowest margin first",
    Sort.GROUP: "largest group first",
    Sort.VALUE: "most value per second first",
    Sort.IMPORTED: "in order of import",
}


def share(value: Fraction) -> str:
    """A share as a short decimal if that is exact, else as a fraction."""
    decimal = f"{float(value):.4g}"
    return decimal if value == type(value)(decimal) else str(value)


@dataclass(frozen=True, slots=True)
class AuditSummary:
    """What the audits say about all accepted votes."""

    precision: PrecisionEstimate
    consistency: Consistency
    certified: Fraction | None
    """Lowest threshold with a certified precision of at least `TARGET_PRECISION`."""
    following: Fraction | None
    """The next threshold to certify; None if none is left."""
    clean_needed: int | None
    """Further correct audits until it is certified; None if no number of them suffices."""
    repeats: tuple[int, ...]
    """Audited questions that are due to be repeated, unannounced."""


@dataclass(frozen=True, slots=True)
class ReviewQueue:
    """The selected questions in order, and which of them are done."""

    selection: QueueSelection
    run: Run
    ids: array[int]
    places: Mapping[int, int]
    """Position of each question, from 0; a search in `ids` would take milliseconds."""
    done: frozenset[int]
    """Questions that were decided, skipped, or audited."""
    judged: Mapping[int, bool | None]
    """Audited questions: whether the vote was right; None if that cannot be judged."""
    tasks: tuple[str, ...]
    """Tasks of the pool."""
    votes: int
    """Number of votes in scope at the time of reading; a different number outdates the order."""
    any_votes: bool
    """Whether the run has a vote, in scope or not."""
    open_votes: int
    """Votes that need more paths."""
    newest: int
    """Id of the newest review at the time of reading."""
    audit: AuditSummary | None = None
    """Summary of the audits; None in triage, and until it was computed."""

    @property
    def left(self) -> int:
        """Number of questions that are not done."""
        return len(self.ids) - len(self.done)

    @property
    def agreed(self) -> tuple[int, int]:
        """(audited votes that were right, audited votes that could be judged)."""
        verdicts = [right for right in self.judged.values() if right is not None]
        return sum(verdicts), len(verdicts)

    def place_of(self, question_id: int | None) -> int | None:
        """Position of a question, from 0; None if it is not in the queue."""
        return None if question_id is None else self.places.get(question_id)

    def next_after(self, place: int) -> int | None:
        """The next position that is not done, wrapping around at the end; None if all are done."""
        if self.left == 0:
            return None
        for at in range(place + 1, len(self.ids)):
            if self.ids[at] not in self.done:
                return at
        return self.next_after(-1) if place >= 0 else None

    def with_done(self, question_id: int, done: bool) -> ReviewQueue:
        """The queue after a decision or an undo."""
        if not done:
            return replace(self, done=self.done - {question_id})
        return (
            self
            if question_id not in self.places
            else replace(self, done=self.done | {question_id})
        )


def read_queue(
    conn: sqlite3.Connection, project: Project, selection: QueueSelection
) -> ReviewQueue | None:
    """Read a queue; None if nothing was sampled yet. Scans all votes: run it in a thread."""
    run = pool_run(conn, project)
    if run is None:
        return None
    newest = reviews.newest(conn)
    active = active_reviews(conn, run.id)
    judged: dict[int, bool | None] = {}
    if selection.queue is Queue.AUDIT:
        ids = queue.audit_order(conn, run.id)
        judged = audited(conn, run.id, active)
        done = set(judged)
    else:
        ids = queue.order(conn, run.id, selection.filter, selection.sort)
        done = set(queue.triage_decisions(active))
    return ReviewQueue(
        selection=selection,
        run=run,
        ids=ids,
        places={id_: place for place, id_ in enumerate(ids)},
        done=frozenset(done.intersection(ids)),
        judged=judged,
        tasks=tuple(questions.tasks(conn, Split.POOL)),
        votes=queue.size(conn, run.id, selection.scope),
        any_votes=queue.size(conn, run.id, Scope.ALL) > 0,
        open_votes=queue.open_votes(conn, run.id),
        newest=newest,
    )


def audit_summary(conn: sqlite3.Connection, project: Project, run: Run) -> AuditSummary | None:
    """Summarize the audits of a run; None if nothing was accepted. Reads every accepted vote."""
    from engine.review import audit  # only an audit needs it

    threshold = run_threshold(conn, project.settings.sample, run)
    result = audit.of_store(conn, run, threshold=threshold)
    precision = result.precision
    if precision is None:
        return None
    certified, following = result.certified_so_far(TARGET_PRECISION)
    return AuditSummary(
        precision=precision,
        consistency=result.consistency,
        certified=certified.threshold if certified else None,
        following=following.threshold if following else None,
        clean_needed=following.clean_needed if following else None,
        repeats=tuple(question.id for question in result.repeats),
    )
