"""Teach a model where it disagreed, and dial the strength of adapters, on the embedded models.

    python -m benchmarks.teach_and_dial                        # pebble-m, minutes on 2 cores
    python -m benchmarks.teach_and_dial --seeds 201 202 --eval 2000 --pool 1000

For each seed it prints, all with 95 % intervals:

- the pilot's line: greedy answers with a path of the model's own majority before the question, and
  without;
- the accuracies of models trained from the same stored paths: on the kept paths (`majority`), by
  `teach`, and by `teach` after the majority of a tenth of the kept questions was exchanged with a
  losing answer (`planted`);
- the paired differences, with the questions that became right and wrong;
- what a blind audit by the world's solver says of the labels, with and without the planted ones;
- each trained adapter at several strengths (`dial`).

If interrupted, run it again to resume.
"""

from __future__ import annotations

import argparse
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.audits import answered
from benchmarks.contrast import METHODS, claimed, print_arms
from benchmarks.control import drop_control_job
from engine.demo.project import make_demo
from engine.evaluation import dial as dials
from engine.evaluation import pilot as pilots
from engine.evaluation.accuracy import compare
from engine.jobs import curate, dial, evaluate, lookups, pilot, sample, train
from engine.jobs.launch import ENVIRONMENT
from engine.project.objectives import Objective
from engine.reports.sections import label_audit
from engine.review import audit
from engine.sampling import runs
from engine.training_data import provenance
from lmsi_tui.formatting.dial_text import dial_lines
from lmsi_tui.formatting.numbers import points, probability
from store import evaluations, examples, models, questions, votes
from store.connection import connect
from store.enums import Split, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.project.folder import Project
    from engine.project.job_context import Work
    from engine.project.settings import TrainSettings
    from engine.training_data.selection import KeptQuestion
    from store.records import Model, Review, Run, TrainingSet, Vote

SEEDS = (301,)
POOL, EVALUATION, AUDITS = 300, 300, 200
SHARE = 0.1
"""Of the kept questions whose majority is exchanged."""
PAIRS = (("base", "majority"), ("base", "teach"), ("majority", "teach"), ("teach", "planted"))


def main() -> None:
    """Run what is missing, and print the tables of each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="pebble-m", help="an embedded model")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--pool", type=int, default=POOL)
    parser.add_argument("--eval", type=int, default=EVALUATION, dest="evaluation")
    parser.add_argument("--paths", type=int, default=16, help="per question of the pool")
    parser.add_argument("--folder", type=Path, default=Path("build/teach"))
    args = parser.parse_args()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # the arms are trained in this process
    changes: dict[str, dict[str, object]] = {
        "model": {"teacher": f"{args.model}/base", "students": []},
        "sample": {"early_stop": "off", "m": args.paths},
        "evaluate": {"ood": False},
    }
    for seed in args.seeds:
        folder = args.folder / f"{args.model}-{seed}"
        drop_control_job(folder)
        project = make_demo(
            folder, seed=seed, pool=args.pool, evaluation=args.evaluation, changes=changes
        )
        with claimed(project, seed) as work:
            arms = train_arms(work, seed)
            print_pilot(work, args.evaluation)
            print_arms(project, arms, seed)
            print_differences(project, arms)
            print_audits(work, seed)
            for arm in ("majority", "teach"):
                print_dial(work, arm, arms[arm])


def train_arms(work: Work, seed: int) -> dict[str, str]:
    """Sample, train and measure what is missing; the name of each arm's model."""
    teacher = lookups.teacher(work.conn, work.settings)
    sample.run(work)
    run = runs.open_pool_run(work, teacher)
    kept_set = examples.get_set(work.conn, str(curate.run(work)["training_set"]))
    assert kept_set is not None
    with connect(work.project.database, read_only=True, training=True) as reading:
        kept = provenance.kept_questions(reading, kept_set)
    planted_set = curate.freeze(work, run, with_wrong_majorities(kept, seed), teacher)
    majority = work.settings.finetune
    teach = replace(majority, objective=Objective.TEACH)
    evaluate.measure(work, teacher)
    return {
        "base": teacher.name,
        "majority": _arm(work, teacher, kept_set, majority, Stage.LMSI),
        "teach": _arm(work, teacher, kept_set, teach, Stage.LMSI),
        "planted": _arm(work, teacher, planted_set, teach, Stage.CONTROL),
    }


def _arm(
    work: Work, base: Model, frozen: TrainingSet, settings: TrainSettings, stage: Stage
) -> str:
    name = str(train.train_model(work, base, frozen, settings, stage)["model"])
    model = models.by_name(work.conn, name)
    assert model is not None
    evaluate.measure(work, model)
    return name


def with_wrong_majorities(kept: Sequence[KeptQuestion], seed: int) -> list[KeptQuestion]:
    """Exchange the majority with a losing answer in a tenth of the kept questions.

    The exchanged questions have losing paths, since only these are taught along.
    """
    with_losers = [number for number, chosen in enumerate(kept) if chosen.losers]
    count = min(len(with_losers), round(SHARE * len(kept)))
    exchanged = set(random.Random(seed).sample(with_losers, count))
    planted = []
    for number, chosen in enumerate(kept):
        if number not in exchanged:
            planted.append(chosen)
            continue
        taught = chosen.losers[0][1]
        paths = tuple(path for path, answer in chosen.losers if answer == taught)
        losers = tuple((path, chosen.answer) for path in chosen.paths[: len(paths)])
        planted.append(replace(chosen, answer=taught, paths=paths, losers=losers))
    return planted


def print_pilot(work: Work, most: int) -> None:
    """Print whether the model makes use of its own majority."""
    teacher = lookups.teacher(work.conn, work.settings)
    pilot.run(replace(work, params={"pilot": most, "models": [teacher.name]}))
    after = pilots.from_evaluations(work.conn, teacher, work.settings.sample).after_majority
    if after is None:
        print(f"{teacher.name} has no room for a path of its majority in its context", flush=True)
        return
    print(
        f"\n{teacher.name}, greedy: after a path of its majority right on {_accuracy(after.shown)},"
        f" alone on {_accuracy(after.alone)}; {points(after.gap.gain)} "
        f"({points(after.gap.low)} to {points(after.gap.high)}), n = {after.gap.n}",
        flush=True,
    )


def _accuracy(accuracy: pilots.PilotAccuracy) -> str:
    low, high = 100 * accuracy.low, 100 * accuracy.high
    return f"{100 * accuracy.share:.1f} % ({low:.1f} to {high:.1f})"


def print_differences(project: Project, arms: Mapping[str, str]) -> None:
    """Print the paired differences between arms, and the questions that changed."""
    print(
        f"\n{'before, after':18} {'method':8} {'gain':>7} {'95 %':>16} {'p':>8}  "
        "became right / wrong"
    )
    with connect(project.database, read_only=True) as conn:
        newest = evaluations.newest(conn)
        for before, after in PAIRS:
            for method in METHODS:
                sides = []
                for arm in (before, after):
                    model = models.by_name(conn, arms[arm])
                    assert model is not None
                    sides.append(newest[model.id, Split.EVAL, method])
                compared = compare(conn, *sides)
                assert compared is not None
                result = compared.result
                interval = f"{points(result.low)} to {points(result.high)}"
                print(
                    f"{f'{before}, {after}':18} {method:8} {points(result.gain):>7} "
                    f"{interval:>16} {probability(result.p):>8}  {result.won} / {result.lost}",
                    flush=True,
                )


def print_audits(work: Work, seed: int) -> None:
    """Print the audit of the report with the votes as they are, and with planted ones."""
    teacher = lookups.teacher(work.conn, work.settings)
    run = runs.open_pool_run(work, teacher)
    as_they_are = {vote.question_id: vote for vote in votes.for_run(work.conn, run.id)}
    planted = with_wrong_winners(as_they_are, seed)
    for title, by_question in (("as they are", as_they_are), ("planted", planted)):
        judged = judged_by_the_solver(work, run, by_question)
        print(f"\nAudit of the labels, {title}: {label_audit.section(judged).blocks[0]}")


def with_wrong_winners(by_question: Mapping[int, Vote], seed: int) -> dict[int, Vote]:
    """Exchange the winner with the runner-up in a tenth of the kept votes."""
    kept = sorted(id_ for id_, vote in by_question.items() if vote.decision == "keep")
    with_others = [id_ for id_ in kept if len(by_question[id_].tally) > 1]
    count = min(len(with_others), round(SHARE * len(kept)))
    changed = dict(by_question)
    for id_ in random.Random(seed).sample(with_others, count):
        vote = by_question[id_]
        (first, most), (second, fewer), *rest = vote.tally
        tally = ((second, most), (first, fewer), *rest)
        changed[id_] = replace(vote, winner=second, tally=tally)
    return changed


def judged_by_the_solver(work: Work, run: Run, by_question: Mapping[int, Vote]) -> audit.Audit:
    """An audit of at most `AUDITS` questions, in the order in which it asks for them."""
    pool = questions.by_split(work.conn, Split.POOL)
    rows: list[Review] = []

    def current() -> audit.Audit:
        threshold = work.settings.sample.threshold
        return audit.of_run(pool, by_question, rows, threshold=threshold, run_key=run.key)

    judged = set[int]()
    while len(judged) < AUDITS and (upcoming := current().upcoming(20)):
        for question in upcoming[: AUDITS - len(judged)]:
            judged.add(question.id)
            rows.append(answered(question, run.id, len(rows) + 1))
    return current()


def print_dial(work: Work, arm: str, name: str) -> None:
    """Measure an adapter at several strengths, and print them."""
    params = {dials.PARAM: name, "strengths": list(dials.STRENGTHS)}
    result = dial.run(replace(work, params=params))
    print(f"\nDial of {arm}: ", end="")
    for line in dial_lines(dials.from_json(result[dials.PARAM])):
        print(line, flush=True)


if __name__ == "__main__":
    main()
