"""Check that audits of two hundred questions cover the true precision, on the demo.

    python -m benchmarks.audits                       # ten seeds
    python -m benchmarks.audits --seeds 201 --pool 200

For each seed the demo's pool is made and sampled with the command line. Then the world's solver
plays the auditor: it answers the audit's questions in their order. Its reviews are not stored in
the project. The estimate is compared with the true precision, which the solver knows: the share of
all accepted questions whose winner is right.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.demo import world
from engine.demo.project import make_demo
from engine.review import audit
from engine.sampling import runs
from engine.statistics.confidence_sequence import CONFIDENCE
from lmsi_tui.formatting.numbers import percent
from store import models, questions, votes
from store.connection import connect
from store.enums import Queue, Split, Verdict
from store.records import Review

if TYPE_CHECKING:
    from engine.project.folder import Project
    from engine.statistics.confidence_sequence import PrecisionEstimate
    from store.records import Question

SEEDS = tuple(range(201, 211))
"""Not used by `benchmarks.gains`, nor while the world was designed."""


@dataclass(frozen=True, slots=True)
class SeedAudit:
    """The audit of a seed, and the truth."""

    seed: int
    precision: PrecisionEstimate
    truth: float
    """Share of the accepted questions whose winner is right."""
    wrong: int
    """Accepted questions whose winner is wrong."""
    certified: float | None
    """The lowest threshold certified at 0.95, if any."""


def main() -> None:
    """Audit each seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--pool", type=int, default=1000)
    parser.add_argument("--audits", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path("build/audits"))
    args = parser.parse_args()
    print(
        f"{args.audits} audits by the solver, of accepted questions from a pool of {args.pool:,}\n"
        "seed  accepted  found wrong  precision % (95 %, any time)   true %  expected wrong  "
        "truly wrong  certified at 0.95  covers",
        flush=True,
    )
    covered = 0
    for seed in args.seeds:
        project = make_demo(args.folder / f"seed-{seed}", seed=seed, pool=args.pool, evaluation=1)
        sample(project)
        result = audited(project, seed, args.audits)
        precision = result.precision
        assert precision.estimate is not None
        assert precision.expected_wrong is not None
        covers = precision.low <= result.truth <= precision.high
        covered += covers
        certified = "none" if result.certified is None else f"{result.certified:.2f}"
        print(
            f"{seed:4}  {precision.size:8,}  {precision.wrong:4} of {precision.audited:3}  "
            f"{percent(precision.estimate):>12} "
            f"({percent(precision.low)} to {percent(precision.high)})  "
            f"{percent(result.truth):>7}  {precision.expected_wrong[0]:14.1f}  {result.wrong:11}"
            f"  {certified:>17}  {'yes' if covers else 'NO'}",
            flush=True,
        )
    print(f"{covered} of {len(args.seeds)} intervals contain the true precision")


def sample(project: Project) -> None:
    """Sample the pool; does nothing the second time."""
    start = time.monotonic()
    command = [sys.executable, "-m", "lmsi_tui", "sample", str(project.folder), "--json"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    print(f"(sampled in {time.monotonic() - start:.0f} s)", file=sys.stderr, flush=True)


def audited(project: Project, seed: int, count: int) -> SeedAudit:
    """Let the solver judge `count` questions in the order of the audit."""
    settings = project.settings.sample
    with connect(project.database, read_only=True) as conn:
        teacher = models.by_name(conn, project.settings.model.teacher)
        assert teacher is not None
        run = runs.pool_run(conn, project)
        assert run is not None
        pool = questions.by_split(conn, Split.POOL)
        by_question = {vote.question_id: vote for vote in votes.for_run(conn, run.id)}
    rows: list[Review] = []

    def current() -> audit.Audit:
        return audit.of_run(pool, by_question, rows, threshold=settings.threshold, run_key=run.key)

    judged = set[int]()
    while len(judged) < count and (upcoming := current().upcoming(20)):
        for question in upcoming:
            if len(judged) < count:
                judged.add(question.id)
                rows.append(answered(question, run.id, len(rows) + 1))
    accepted = [question for stratum in current().strata for question in stratum.questions]
    wrong = sum(
        by_question[question.id].winner != world.solve(question.text) for question in accepted
    )
    final = current()
    assert final.precision is not None
    certified = [
        certificate.threshold
        for certificate in final.certificates(CONFIDENCE)
        if certificate.certified
    ]
    return SeedAudit(
        seed=seed,
        precision=final.precision,
        truth=1 - wrong / len(accepted),
        wrong=wrong,
        certified=float(certified[-1]) if certified else None,
    )


def answered(question: Question, run_id: int, number: int) -> Review:
    """The solver's answer, as the review screen would store it."""
    truth = world.solve(question.text)
    return Review(
        number, question.id, run_id, Queue.AUDIT, Verdict.TYPED, truth, None, None, 1.0, 0.0
    )


if __name__ == "__main__":
    main()
