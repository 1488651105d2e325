"""Rounds with a guard: sample, vote, curate, train from the base, measure, decide; then again.

A round samples with the last accepted model (the base, at first) and trains a new model from the
base on what was kept: adapters are never stacked. The frozen evaluation set and the out-of-domain
set are measured before and after, and `guard.judge` decides. A model that was not accepted stays in
the store; whoever asks for the model in use gets the last accepted one.

The round's row is written at its decision. Everything before it is found again by the stages, so a
round that was killed goes on where it stopped.
"""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

from engine.evaluation import acceptance
from engine.jobs import stages
from engine.models import identity
from engine.project.folder import Project
from engine.review import audit
from engine.sampling import completion, runs
from store import examples, jobs, questions
from store import models as model_rows
from store import rounds as rows
from store.connection import transaction
from store.enums import Outcome, Phase, Split, Stage
from store.errors import BadInput
from store.records import Model, Round

if TYPE_CHECKING:
    import sqlite3

    from engine.evaluation.acceptance import Signs
    from engine.project.job_context import Work

Json = dict[str, object]

LOOKED_AT = 100
"""Questions of the pool on which the new model is sampled for the alarms where there are none with
known answers."""

_MEASURED_PROCESSES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def whole_round(work: Work) -> Json:
    """The whole loop: a guarded round, or several, then the students.

    The job's `rounds` is the number of rounds that the project is to have; without it, one more
    is made. A rejected round is the last, and an undecided one too unless `past_undecided` is set.
    A teacher that is a server is not fine-tuned: its students learn from it, and no guard is asked.
    """
    settings = work.settings
    teacher = stages.model_of(work, settings.model.teacher)
    students = [stages.model_of(work, name) for name in settings.model.students]
    trains_teacher = not identity.is_server(teacher.location)
    if not (trains_teacher or students):
        raise BadInput(stages.server_is_not_trained(teacher))
    if trains_teacher:
        result = _guarded(work, teacher)
    else:
        result = {"sample": stages.sample(work), "curate": stages.curate(work)}
        _measure(work, teacher)
    if students:
        result["distill"] = distilled = stages.distill(work)
        for student in students:
            _measure(work, student)
            outcome = distilled[student.name]
            assert isinstance(outcome, dict)
            _measure(work, stages.model_of(work, str(outcome["model"])))
    # From the asking to the end, so pauses and restarts are part of it.
    result["seconds"] = time.time() - jobs.get(work.conn, work.progress.job_id).created_at
    result["peak_rss_mb"] = (
        max(resource.getrusage(whose).ru_maxrss for whose in _MEASURED_PROCESSES) / 1024
    )
    return result


def _guarded(work: Work, teacher: Model) -> Json:
    """Rounds until there are as many as asked for, or the guard says stop."""
    past_undecided = bool(work.params.get("past_undecided"))
    known = rows.all_of(work.conn)
    wanted = work.params.get("rounds")
    until = int(str(wanted)) if wanted else 1 + sum(not _is_own(work, one) for one in known)
    result: Json = {}
    while True:
        known = rows.all_of(work.conn)
        own = [one for one in known if _is_own(work, one)]
        held = rows.verdicts(work.conn)
        stopped = own and not acceptance.goes_on(
            held[own[-1].number], past_undecided=past_undecided
        )
        if len(known) >= until or stopped:
            break
        made, is_new = one_round(work, teacher, past_undecided=past_undecided)
        result |= made
        if not is_new:
            break
    result["rounds"] = [acceptance.as_json(one) for one in acceptance.decided(work.conn)]
    return result


def _is_own(work: Work, one: Round) -> bool:
    return one.job_id == work.progress.job_id


def one_round(work: Work, teacher: Model, *, past_undecided: bool = False) -> tuple[Json, bool]:
    """One round to its decision, and whether it is another one than those before.

    The same model sampled and the same model trained, measured on the same questions, are the same
    round: it was decided, and is not decided again.
    """
    conn = work.conn
    number = 1 + rows.newest(conn)[0]
    before, sampler = runs.accepted_model(conn, teacher), _sampler(conn, teacher, past_undecided)
    asked = runs.measured_questions(conn, work.settings)
    elsewhere = runs.measured_questions(conn, work.settings, Split.OOD)
    sets = (
        acceptance.frozen(conn, Split.EVAL, asked),
        acceptance.frozen(conn, Split.OOD, elsewhere),
    )
    seen = acceptance.forecast(conn, asked)
    work.progress.begin(f"round {number}", 0, phase=Phase.SAMPLING, model=sampler)
    print(f"Round {number}. {acceptance.told(seen)}", flush=True)

    result: Json = {"sample": stages.sample_with(work, sampler)}
    result["curate"] = curated = stages.curate_votes(work, sampler)
    _measure(work, before)
    frozen = examples.get_set(conn, str(curated["training_set"]))
    assert frozen is not None
    result["finetune"] = tuned = stages.train_on(
        work, teacher, frozen, work.settings.finetune, Stage.LMSI
    )
    after = stages.model_of(work, str(tuned["model"]))
    _measure(work, after)

    for known in rows.all_of(conn):
        earlier = acceptance.judgement(known.details)
        if (known.sampled_id, known.trained_id) == (sampler.id, after.id) and sets == (
            earlier.evaluation,
            earlier.out_of_domain_set,
        ):
            result["decided_before"] = known.number
            return result, False
    judged = acceptance.judge(
        before.name,
        acceptance.difference(conn, before, after, Split.EVAL) if sets[0] else None,
        acceptance.difference(conn, before, after, Split.OOD) if sets[1] else None,
        detectable=seen.detectable,
        alarms=_alarms(work, before, after, measured=sets[0] is not None),
        notes=_notes(conn, sets[0]),
        sets=sets,
    )
    with transaction(conn):
        rows.add(
            conn,
            Round(
                number=number,
                job_id=work.progress.job_id,
                sampled_id=sampler.id,
                trained_id=after.id,
                verdict=judged.outcome,
                details=judged.as_json(),
                decided_at=time.time(),
            ),
        )
    print(f"{judged.outcome}: {judged.reason}", *judged.alarms, sep="\n", flush=True)
    return result, True


def _sampler(conn: sqlite3.Connection, teacher: Model, past_undecided: bool) -> Model:
    """What the next round samples with: the model in use, or, where asked for, the newest
    candidate that came after it and was left open."""
    in_use = runs.accepted_model(conn, teacher)
    if not past_undecided:
        return in_use
    held = rows.of_models(conn)
    for one in reversed(rows.all_of(conn)):
        trained = model_rows.by_id(conn, one.trained_id)
        if trained.base_id != teacher.id:
            continue
        if trained.id == in_use.id or held[trained.id] is Outcome.REJECT:
            break
        return trained
    return in_use


def _measure(work: Work, model: Model) -> None:
    """Measure a model where there is something to measure it on."""
    splits = (Split.EVAL, Split.OOD)
    if any(runs.measured_questions(work.conn, work.settings, split) for split in splits):
        stages.measure(work, model)


def _notes(conn: sqlite3.Connection, now: acceptance.Frozen | None) -> list[str]:
    """Whether the evaluation set is still that of the round before."""
    earlier = acceptance.decided(conn)
    if not earlier:
        return []
    then = earlier[-1].judgement.evaluation
    if then == now:
        return []
    sizes = [one.n if one else 0 for one in (then, now)]
    return [
        f"The evaluation set is not that of round {earlier[-1].number} ({sizes[0]:,} questions "
        f"then, {sizes[1]:,} now): both models were measured on the new one, and gains of "
        "the rounds do not add up."
    ]


# Alarms.


def _alarms(work: Work, before: Model, after: Model, *, measured: bool) -> list[str]:
    """What the paths of the two models say without labels.

    On the evaluation questions, where both were sampled anyway; else the new model is sampled on
    the beginning of the pool.
    """
    conn = work.conn
    old: Signs | None
    new: Signs | None
    if measured:
        old, new = (acceptance.signs_of(conn, one, Split.EVAL) for one in (before, after))
    else:
        old, new = _signs_on_pool(work, before, after)
    if old is None or new is None:
        return []
    precisions = [_audited_precision(work, one) for one in (before, after)]
    first, second = precisions
    gain = second - first if first is not None and second is not None else None
    return acceptance.alarms(old, new, precision_gain=gain)


def _signs_on_pool(work: Work, before: Model, after: Model) -> tuple[Signs | None, Signs | None]:
    asked = questions.by_split(work.conn, Split.POOL, limit=LOOKED_AT)
    found = []
    for model in (before, after):
        run = runs.open_pool_run(work, model)
        with completion.model_loader(work, model, [run], asked) as load:
            completion.sample_missing(
                work, run, load, asked, f"sampling {model.name} for the alarms"
            )
        found.append(acceptance.signs(work.conn, run, {one.id for one in asked}))
    return found[0], found[1]


def _audited_precision(work: Work, model: Model) -> float | None:
    """Label precision of a model's own votes over the pool; None without an audit of them."""
    project = Project(work.project.folder, work.settings)
    run = runs.pool_run(work.conn, project, model)
    if run is None:
        return None
    threshold = project.settings.sample.threshold
    precision = audit.of_store(work.conn, run, threshold=threshold).precision
    return precision.estimate if precision is not None else None
