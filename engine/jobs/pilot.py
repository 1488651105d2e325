"""The pilot: measure a few questions at a time, and stop as soon as its verdict is certain."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from engine.evaluation import accuracy, pilot
from engine.jobs import converted_copy, evaluate, lookups
from engine.project.folder import Project
from engine.sampling import completion, context_check, runs
from engine.sampling.majority_paths import majority_paths
from engine.sampling.reextraction import Rereading, together
from store import evaluations, paths, questions
from store.connection import transaction
from store.enums import Phase, Split
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from engine.project.job_context import Work
    from engine.project.settings import Settings
    from store.records import Model, Question, Run

FIRST_LOOKS = (10, 20, 32, 44, 56, 68, 80)
"""Questions after which the pilot looks at the verdict; then after a third more each time."""


def run(work: Work) -> dict[str, object]:
    """Measure the job's `models`, of which the first one votes and the others are its students.

    `pilot` is the largest number of questions. What was measured before counts.

    Raises:
        BadInput: no question has a known answer, or a model cannot be loaded or has too small a
            context.
    """
    most = work.params["pilot"]
    assert isinstance(most, int)
    teacher, *students = lookups.models_to_measure(work.conn, work.params.get("models"))
    usable = usable_questions(work.conn)
    requested = _requested(work.conn, work.project, work.settings, teacher, students)
    project = Project(work.project.folder, work.settings)
    for model in (teacher, *students):
        for request in requested[model.id]:
            context_check.check_planned(project, model, request, usable[:most])
    measured = {id_: _measured(work.conn, begun) for id_, begun in requested.items()}
    first = measured[teacher.id]
    ordered = sorted(usable, key=lambda question: question.id not in first)
    limit = min(max(most, len(first)), len(ordered))
    reread: list[Rereading] = []
    for count in looks(len(first), limit):
        stored, asked = [], {}
        for model in (teacher, *students):
            further = [each for each in ordered[count:] if each.id in measured[model.id]]
            asked[model.id] = [*ordered[:count], *further]
            stored += evaluate.measure_runs(
                work, model, requested[model.id], asked[model.id], reread
            )
        result = pilot.from_evaluations(work.conn, teacher, work.settings.sample, students)
        if not result.can_change(limit - count):
            break
    _ask_after_majority(work, teacher, requested[teacher.id], asked[teacher.id])
    return {
        "evaluations": [evaluate.evaluation_json(work.conn, each) for each in stored],
        **together(reread).as_json(),
    }


def _ask_after_majority(
    work: Work, model: Model, requested: Sequence[Run], measured: Sequence[Question]
) -> None:
    """Ask the questions again, each after a path of its own majority.

    A model whose context is too short for that goes without.
    """
    stored = [paths.run_by_key(work.conn, request.key) for request in requested]
    greedy, voted = (run for run in stored if run is not None)
    solutions = majority_paths(work.conn, voted, measured)
    asked = [question for question in measured if question.id in solutions]
    if not asked:
        return
    with transaction(work.conn):
        run = paths.open_run(work.conn, runs.after_majority(work.conn, greedy, voted))
    copy = converted_copy.of(work, model, [run], asked)
    title = f"asking {model.name} again, after its majority"
    try:
        with completion.model_loader(work, model, [run], asked, copy, solutions=solutions) as load:
            completion.sample_missing(work, run, load, asked, title, Phase.MEASURING, solutions)
    except BadInput as reason:
        print(f"The questions are not asked again after the majority. {reason}", flush=True)


def is_current(
    conn: sqlite3.Connection, project: Project, teacher: Model, students: Sequence[Model]
) -> bool:
    """Whether the newest measurements are those that a pilot with the project's settings makes.

    Raises:
        BadInput: no question has a known answer, or the engine of the settings cannot read a model.
    """
    newest = evaluations.newest(conn)
    for id_, requested in _requested(conn, project, project.settings, teacher, students).items():
        for request in requested:
            evaluation = newest.get((id_, Split.EVAL, accuracy.methods_of(request)[-1]))
            begun = paths.run_by_key(conn, request.key)
            if evaluation is None or begun is None:
                return False
            if (evaluation.run_id, evaluation.k) != (begun.id, request.m):
                return False
    return True


def _requested(
    conn: sqlite3.Connection,
    project: Project,
    settings: Settings,
    teacher: Model,
    students: Sequence[Model],
) -> dict[int, list[Run]]:
    """The runs that a pilot measures, by model id."""
    _, greedy, vote = accuracy.measured_formats(settings.sample)
    usable = usable_questions(conn)
    return {
        model.id: evaluate.requested_runs(
            conn,
            project,
            settings,
            model,
            Split.EVAL,
            usable,
            (greedy, vote) if model is teacher else (greedy,),
        )
        for model in (teacher, *students)
    }


def looks(measured: int, limit: int) -> Iterator[int]:
    """Numbers of questions after which the pilot looks, increasing, the last one `limit`.

    Args:
        measured: questions that were measured before; no look has fewer.
        limit: the most, ≥ 1 and ≥ `measured`.
    """
    count = min(max(measured, FIRST_LOOKS[0]), limit)
    while count < limit:
        yield count
        following = (look for look in FIRST_LOOKS if look > count)
        count = min(next(following, count + count // 3), limit)
    yield limit


def _measured(conn: sqlite3.Connection, requested: Sequence[Run]) -> set[int]:
    """The questions that an earlier evaluation of these runs measured. A new evaluation replaces
    it, so it must measure them, too."""
    begun = {run.id for request in requested if (run := paths.run_by_key(conn, request.key))}
    return {
        question_id
        for evaluation in evaluations.all_of(conn)
        if evaluation.run_id in begun
        for question_id in evaluations.answers(conn, evaluation.id)
    }


def usable_questions(conn: sqlite3.Connection) -> list[Question]:
    """The questions with known answers, in the order in which they are measured.

    Raises:
        BadInput: there are none.
    """
    known = questions.gold_for(conn, Split.EVAL).keys()
    usable = [question for question in questions.by_split(conn, Split.EVAL) if question.id in known]
    if not usable:
        raise BadInput(
            "A pilot needs questions with known answers: import 60 to 100 of them with "
            "`lmsi-tui import FILE --split eval --task TYPE`."
        )
    return sorted(usable, key=_place)


def _place(question: Question) -> bytes:
    """A random place that never changes: files are often sorted by task or difficulty, and a few
    questions must be like the others."""
    return sha256(question.key.encode()).digest()
