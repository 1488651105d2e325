"""Does an audit of two hundred find the true precision? On the demo, with the world's solver.

    python -m benchmarks.audits                       # ten seeds
    python -m benchmarks.audits --seeds 201 --pool 200

For each seed the demo's pool is drawn and sampled through the real command line. Then the solver
plays a person: it is shown the audit's questions in their order and says what is right. It stands
outside the project, and nothing that it says is stored there. Beside the estimate stands the truth,
which only a made world has: the share of all accepted questions whose winner is right.
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
"""Not used for the claims of `benchmarks.gains`, nor while the world was chosen."""


@dataclass(frozen=True, slots=True)
class Told:
    """One seed's audit beside the truth."""

    seed: int
    precision: PrecisionEstimate
    truth: float
    """Share of the accepted questions whose winner is right."""
    wrong: int
    """Accepted questions whose winner is wrong."""
    certified: float | None
    """The lowest threshold certified at 0.95; None when none is."""


def main() -> None:
    """Audit each seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--pool", type=int, default=1000)
    parser.add_argument("--audits", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path("build/audits"))
    asked = parser.parse_args()
    print(
        f"{asked.audits} audits of the accepted of {asked.pool:,} questions, by the solver\n"
        "seed  accepted  found wrong  precision % (95 %, any time)   true %  expected wrong  "
        "truly wrong  certified at 0.95  covers",
        flush=True,
    )
    covered = 0
    for seed in asked.seeds:
        project = make_demo(asked.folder / f"seed-{seed}", seed=seed, pool=asked.pool, evaluation=1)
        sample(project)
        one = audited(project, seed, asked.audits)
        now = one.precision
        assert now.estimate is not None
        assert now.expected_wrong is not None
        covers = now.low <= one.truth <= now.high
        covered += covers
        certified = "none" if one.certified is None else f"{one.certified:.2f}"
        print(
            f"{seed:4}  {now.size:8,}  {now.wrong:4} of {now.audited:3}  "
            f"{percent(now.estimate):>12} ({percent(now.low)} to {percent(now.high)})"
            f"  {percent(one.truth):>7}  {now.expected_wrong[0]:14.1f}  {one.wrong:11}"
            f"  {certified:>17}  {'yes' if covers else 'NO'}",
            flush=True,
        )
    print(f"{covered} of {len(asked.seeds)} intervals hold the true precision")


def sample(project: Project) -> None:
    """Draw the paths as a person would; a second time there is nothing to do."""
    began = time.monotonic()
    command = [sys.executable, "-m", "lmsi_tui", "sample", str(project.folder), "--json"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    print(f"(sampled in {time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)


def audited(project: Project, seed: int, count: int) -> Told:
    """Let the solver judge `count` questions in the order of the audit."""
    settings = project.settings.sample
    with connect(project.database, read_only=True) as conn:
        teacher = models.by_name(conn, project.settings.model.teacher)
        assert teacher is not None
        run = runs.pool_run(conn, project)
        assert run is not None
        pool = questions.by_split(conn, Split.POOL)
        counted = {one.question_id: one for one in votes.for_run(conn, run.id)}
    rows: list[Review] = []

    def now() -> audit.Audit:
        return audit.of_run(pool, counted, rows, threshold=settings.threshold, run_key=run.key)

    judged = set[int]()
    while len(judged) < count and (coming := now().upcoming(20)):
        for question in coming:
            if len(judged) < count:
                judged.add(question.id)
                rows.append(answered(question, run.id, len(rows) + 1))
    accepted = [one for stratum in now().strata for one in stratum.questions]
    wrong = sum(counted[one.id].winner != world.solve(one.text) for one in accepted)
    found = now()
    assert found.precision is not None
    certified = [one.threshold for one in found.certificates(CONFIDENCE) if one.certified]
    return Told(
        seed=seed,
        precision=found.precision,
        truth=1 - wrong / len(accepted),
        wrong=wrong,
        certified=float(certified[-1]) if certified else None,
    )


def answered(question: Question, run_id: int, number: int) -> Review:
    """What the solver says, as the review screen would write it."""
    truth = world.solve(question.text)
    return Review(
        number, question.id, run_id, Queue.AUDIT, Verdict.TYPED, truth, None, None, 1.0, 0.0
    )


if __name__ == "__main__":
    main()
