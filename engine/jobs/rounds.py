"""`round`: sample, vote, curate, train from the base, measure, decide; then again.

A round samples with the last accepted model (the base, at first) and trains a new model from the
base on what was kept: adapters are never stacked. The frozen evaluation set and the out-of-domain
set are measured before and after, and `acceptance.assess` decides. A model that was not accepted
stays in the store; the last accepted one is the model in use.

The round's row is written with its decision. Everything before that is found again by the stages,
so a round that was killed continues where it stopped.
"""

from __future__ import annotations

import resource
import sys
import time
from typing import TYPE_CHECKING

from engine.evaluation import acceptance, drift_alarms, ledger
from engine.jobs import converted_copy, curate, evaluate, lookups, memory_estimate, sample, train
from engine.jobs.plan import Plan
from engine.models.identity import is_server
from engine.models.location import check_files
from engine.project.folder import Project
from engine.review import audit
from engine.sampling import completion, runs
from store import examples, jobs, models, paths, questions, rounds
from store.connection import transaction
from store.counted import counted
from store.enums import JobKind, Outcome, Phase, Split, Stage
from store.records import Round

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.evaluation.drift_alarms import DriftIndicators
    from engine.project.job_context import Work
    from engine.project.settings import Settings
    from store.records import Model

ALARM_QUESTIONS = 100
"""Questions of the pool on which the new model is sampled for the alarms, if none have known
answers."""

_MEASURED_PROCESSES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
_RSS_PER_MB = 2**20 if sys.platform == "darwin" else 1024
"""`ru_maxrss` counts bytes on macOS and kilobytes on Linux."""


def run(work: Work) -> dict[str, object]:
    """The whole loop: one or several rounds with their tests, then the students.

    The job's `rounds` is the number of rounds that the project is to have; without it, one more
    is made. A rejected round is the last, and an undecided one too unless `past_undecided` is set.
    A teacher on a server is not trained: its students learn from it, and nothing is tested.
    """
    teacher, students = _models(work.conn, work.project, work.settings)
    result: dict[str, object] = {}
    if is_server(teacher.location):
        result |= {"sample": sample.run(work), "curate": curate.run(work)}
        _measure(work, teacher)
    else:
        result |= _rounds(work, teacher)
    if students:
        result["distill"] = distilled = train.distill(work)
        for student in students:
            _measure(work, student)
            outcome = distilled[student.name]
            assert isinstance(outcome, dict)
            _measure(work, lookups.model(work.conn, str(outcome["model"])))
    # Since the job was queued, so pauses and restarts are part of it.
    queued = jobs.get(work.conn, work.progress.job_id).created_at
    result["seconds"] = max(0.0, time.time() - queued)  # the clock may have been set back
    peak = max(resource.getrusage(whose).ru_maxrss for whose in _MEASURED_PROCESSES)
    result["peak_rss_mb"] = peak / _RSS_PER_MB
    return result


def _models(
    conn: sqlite3.Connection, project: Project, settings: Settings
) -> tuple[Model, list[Model]]:
    """The teacher and the students of a round.

    Raises:
        BadInput: one is not in the store or cannot be trained; a teacher on a server need not be
            trainable if it has students.
    """
    teacher = lookups.teacher(conn, settings)
    students = lookups.students(conn, settings) if settings.model.students else []
    for learner in _learners(teacher, students):
        lookups.check_trainable(project, learner)
        check_files(project, learner)
    return teacher, students


def _learners(teacher: Model, students: Sequence[Model]) -> list[Model]:
    """The models that a round trains."""
    if is_server(teacher.location) and students:
        return list(students)
    return [teacher, *students]


def _rounds(work: Work, teacher: Model) -> dict[str, object]:
    """Make rounds until there are as many as requested, or one is not accepted."""
    past_undecided = bool(work.params.get("past_undecided"))
    job_id = work.progress.job_id
    decided = rounds.all_of(work.conn)
    requested = work.params.get("rounds")
    until = int(str(requested)) if requested else 1 + sum(r.job_id != job_id for r in decided)
    result: dict[str, object] = {}
    while True:
        decided = rounds.all_of(work.conn)
        own = [earlier for earlier in decided if earlier.job_id == job_id]
        verdicts = rounds.verdicts(work.conn)
        stopped = own and not acceptance.may_continue(
            verdicts[own[-1].number], past_undecided=past_undecided
        )
        if len(decided) >= until or stopped:
            break
        made, is_new = one_round(work, teacher, past_undecided=past_undecided)
        result |= made
        if not is_new:
            break
    result["rounds"] = [earlier.as_json() for earlier in acceptance.round_results(work.conn)]
    return result


def one_round(
    work: Work, teacher: Model, *, past_undecided: bool = False
) -> tuple[dict[str, object], bool]:
    """Make one round up to its decision.

    The same model sampled and the same model trained, measured on the same questions, are the same
    round: it was decided before, and is not decided again.

    Returns:
        The round's result, and whether it is a new round.
    """
    conn = work.conn
    number = 1 + rounds.newest(conn)[0]
    before = runs.accepted_model(conn, teacher)
    sampler = _sampling_model(conn, teacher, past_undecided=past_undecided)
    in_domain = runs.measured_questions(conn, work.settings)
    out_of_domain = runs.measured_questions(conn, work.settings, Split.OOD)
    sets = (
        acceptance.measured_set(conn, Split.EVAL, in_domain),
        acceptance.measured_set(conn, Split.OOD, out_of_domain),
    )
    forecast = acceptance.estimate_power(conn, in_domain)
    work.progress.begin(f"round {number}", 0, phase=Phase.SAMPLING, model=sampler)
    print(f"Round {number}. {acceptance.describe_power(forecast)}", flush=True)

    result: dict[str, object] = {}
    result["sample"] = sampled = sample.sample_pool(work, sampler)
    result["curate"] = curated = curate.curate_votes(work, sampler)
    flips = _flip_alarms(work, str(sampled["run"]))
    _measure(work, before)
    frozen = examples.get_set(conn, str(curated["training_set"]))
    assert frozen is not None
    result["finetune"] = tuned = train.train_model(
        work, teacher, frozen, work.settings.finetune, Stage.LMSI
    )
    after = lookups.model(conn, str(tuned["model"]))
    _measure(work, after)

    for earlier in rounds.all_of(conn):
        test = acceptance.AcceptanceTest.from_json(earlier.details)
        if (earlier.sampled_id, earlier.trained_id) == (sampler.id, after.id) and sets == (
            test.evaluation,
            test.out_of_domain_set,
        ):
            result["decided_before"] = earlier.number
            return result, False
    test = acceptance.assess(
        before.name,
        acceptance.paired_gain(conn, before, after, Split.EVAL) if sets[0] else None,
        acceptance.paired_gain(conn, before, after, Split.OOD) if sets[1] else None,
        detectable=forecast.detectable,
        alarms=[*flips, *_alarms(work, before, after, measured=sets[0] is not None)],
        notes=_notes(conn, sets[0]),
        sets=sets,
    )
    with transaction(conn):
        rounds.add(
            conn,
            Round(
                number=number,
                job_id=work.progress.job_id,
                sampled_id=sampler.id,
                trained_id=after.id,
                verdict=test.outcome,
                details=test.as_json(),
                decided_at=time.time(),
            ),
        )
    print(f"{test.outcome}: {test.reason}", *test.alarms, sep="\n", flush=True)
    return result, True


def _sampling_model(
    conn: sqlite3.Connection, teacher: Model, *, past_undecided: bool = False
) -> Model:
    """The model that the next round samples: the model in use, or, past undecided rounds, the
    newest candidate after it that no round rejected."""
    in_use = runs.accepted_model(conn, teacher)
    if not past_undecided:
        return in_use
    verdicts = rounds.of_models(conn)
    for earlier in reversed(rounds.all_of(conn)):
        trained = models.by_id(conn, earlier.trained_id)
        if trained.base_id != teacher.id:
            continue
        if trained.id == in_use.id or verdicts[trained.id] is Outcome.REJECT:
            break
        return trained
    return in_use


def _measure(work: Work, model: Model) -> None:
    """Measure a model if there is something to measure it on."""
    if evaluate.questions_by_split(work.conn, work.settings):
        evaluate.measure(work, model)


def _notes(conn: sqlite3.Connection, now: acceptance.MeasuredSet | None) -> list[str]:
    """A note if the evaluation set is not that of the round before."""
    earlier = acceptance.round_results(conn)
    if not earlier:
        return []
    then = earlier[-1].test.evaluation
    if then == now:
        return []
    sizes = [frozen.n if frozen else 0 for frozen in (then, now)]
    return [
        f"The evaluation set is not that of round {earlier[-1].number} "
        f"({counted(sizes[0], 'question')} "
        f"then, {sizes[1]:,} now): both models were measured on the new one, and gains of "
        "the rounds do not add up."
    ]


def _flip_alarms(work: Work, run_key: str) -> list[str]:
    """An alarm if the sampled model contradicts the answers that it was trained on.

    It is printed before anything is trained on these votes.
    """
    pool_run = paths.run_by_key(work.conn, run_key)
    assert pool_run is not None
    changes = ledger.newest_transition(work.conn, pool_run)
    alarm = changes.alarm() if changes else None
    if alarm is None:
        return []
    print(alarm, flush=True)
    return [alarm]


def _alarms(work: Work, before: Model, after: Model, *, measured: bool) -> list[str]:
    """The drift alarms, which need no labels.

    They compare paths of the two models for the evaluation questions, which are sampled anyway; if
    there are none, for the first questions of the pool.
    """
    old: DriftIndicators | None
    new: DriftIndicators | None
    if measured:
        old, new = (
            drift_alarms.indicators_of_model(work.conn, model, Split.EVAL)
            for model in (before, after)
        )
    else:
        old, new = (_indicators_on_pool(work, model) for model in (before, after))
    if old is None or new is None:
        return []
    first, second = (_audited_precision(work, model) for model in (before, after))
    gain = second - first if first is not None and second is not None else None
    return drift_alarms.alarms(old, new, precision_gain=gain)


def _indicators_on_pool(work: Work, model: Model) -> DriftIndicators | None:
    pool = questions.by_split(work.conn, Split.POOL, limit=ALARM_QUESTIONS)
    pool_run = runs.open_pool_run(work, model)
    copy = converted_copy.of(work, model, [pool_run], pool)
    with completion.model_loader(work, model, [pool_run], pool, copy) as load:
        title = f"sampling {model.name} for the alarms"
        completion.sample_missing(work, pool_run, load, pool, title)
    return drift_alarms.indicators_of_run(work.conn, pool_run, {question.id for question in pool})


def _audited_precision(work: Work, model: Model) -> float | None:
    """Label precision of a model's own votes over the pool; None without an audit of them."""
    project = Project(work.project.folder, work.settings)
    pool_run = runs.pool_run(work.conn, project, model)
    if pool_run is None:
        return None
    threshold = runs.run_threshold(work.conn, project.settings.sample, pool_run)
    precision = audit.of_store(work.conn, pool_run, threshold=threshold).precision
    return precision.estimate if precision is not None else None


def plan(conn: sqlite3.Connection, project: Project) -> Plan:
    """The first round and the students; what comes after depends on what they give."""
    settings = project.settings
    teacher, students = _models(conn, project, settings)
    bases = [teacher, *students]
    sampled = sample.plan_pool(conn, project, _sampling_model(conn, teacher))
    # Without known answers a round is trained too, but nothing is decided.
    measured = (
        evaluate.plan(conn, project, [base.name for base in bases])
        if evaluate.questions_by_split(conn, settings)
        else Plan(JobKind.EVALUATE, paths=(0, 0))
    )
    assert sampled.paths is not None
    assert measured.paths is not None
    # All paths of the models that will be trained are missing.
    of_trained = len(bases) * (measured.questions or 0) * (2 + settings.evaluate.k)
    learners = _learners(teacher, students)
    in_domain = runs.measured_questions(conn, settings)
    tokens_at_once = 8 * (memory_estimate.PROMPT_TOKENS + 128)
    return Plan(
        JobKind.ROUND,
        models=tuple(base.name for base in bases),
        questions=sampled.questions,
        paths=(
            sampled.paths[0] + measured.paths[0] + of_trained,
            sampled.paths[1] + measured.paths[1] + of_trained,
        ),
        copy=sampled.copy or measured.copy,
        reused=(*sampled.reused, *measured.reused),
        notes=tuple(dict.fromkeys((*sampled.notes, *measured.notes))),
        could_show=acceptance.describe_power(acceptance.estimate_power(conn, in_domain))
        if teacher in learners
        else "",
        memory=memory_estimate.largest(
            [
                sampled.memory,
                *(
                    memory_estimate.of_training(
                        project,
                        learner,
                        settings.finetune if learner is teacher else settings.distill,
                        tokens_at_once,
                    )
                    for learner in learners
                ),
            ]
        ),
    )
