"""`dial`: measure a trained adapter at several strengths, and choose the one of its export.

Each strength is sampled with the same random numbers, and its paths are stored like any others, so
an interrupted dial continues. Only strength 1 is a measurement of the model that reports show;
what the others gave is in the result of the job.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from engine.conversion.adapter_strength import GGUF, copy_at_strength
from engine.conversion.export import trained_model
from engine.evaluation import accuracy, dial
from engine.jobs import converted_copy, evaluate
from engine.models.location import check_files
from engine.sampling import completion, runs
from store import paths, questions
from store.atomic_file import scratch_folder
from store.connection import transaction
from store.enums import Method, Phase, Split
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from engine.evaluation.dial import Rights
    from engine.project.folder import Project
    from engine.project.job_context import Work
    from store.records import Model, Question

FEWEST = 10
"""Known answers that each half of the questions needs at least."""


def adapted_model(conn: sqlite3.Connection, name: str | None) -> Model:
    """The trained model of that name; without a name, the one that an export takes.

    Raises:
        BadInput: there is none, or it has no adapter.
    """
    model = trained_model(conn, name)
    if model.training_set is None:
        raise BadInput(f"{model.name} was imported, not trained here: name a trained model.")
    if model.adapter is None:
        raise BadInput(
            f"{model.name} has no adapter, since all of its weights were trained, so there is no "
            "strength to choose: train with method lora."
        )
    return model


def run(work: Work) -> dict[str, object]:
    """Measure the adapter of the job's `dial`, a model's name, at its `strengths`.

    Raises:
        BadInput: there is no such adapter, or there are too few known answers.
    """
    model = adapted_model(work.conn, str(work.params[dial.PARAM]))
    check_files(work.project, model)
    wanted = work.params["strengths"]
    assert isinstance(wanted, (list, tuple))
    measured = runs.measured_questions(work.conn, work.settings)
    choosing, others = _halves(work.conn, measured)
    # First 1: it is often stored already, and decides how the paths of this model end.
    strengths = dict.fromkeys((1.0, *map(float, wanted)))
    rights = {
        strength: _measure(work, model, strength, choosing, measured) for strength in strengths
    }
    best = dial.choose(rights)
    check: dict[float, Rights] = {}
    if best != 1:
        check = {each: _measure(work, model, each, others, measured) for each in (1.0, best)}
    result = dial.Dial(
        model.name,
        work.settings.evaluate.k,
        best,
        dial.rows(rights),
        dial.rows(check) if check else (),
    )
    return {dial.PARAM: asdict(result)}


def _halves(
    conn: sqlite3.Connection, measured: Sequence[Question]
) -> tuple[list[Question], list[Question]]:
    """The questions with known answers that choose, and the others."""
    known = questions.gold_for(conn, Split.EVAL)
    halves = dial.halves([question for question in measured if question.id in known])
    if min(map(len, halves)) < FEWEST:
        raise BadInput(
            f"There are {sum(map(len, halves))} evaluation questions with known answers, too few "
            "to choose a strength with one half and to check it with the other: import more with "
            "`lmsi-tui import FILE --split eval --task TYPE`."
        )
    return halves


def _measure(
    work: Work,
    model: Model,
    strength: float,
    measured: Sequence[Question],
    every: Sequence[Question],
) -> Rights:
    """Sample what is missing at a strength; whether each question was answered correctly.

    Args:
        work: the job.
        model: with its adapter at strength 1.
        strength: of the adapter.
        measured: the questions to measure on, all with known answers.
        every: all questions of a measurement, whose tasks are part of a run.
    """
    _, greedy, sampled = accuracy.measured_formats(work.settings.sample)
    with _at_strength(work.project, model, strength) as adapted:
        requested = evaluate.requested_runs(
            work.conn,
            work.project,
            work.settings,
            adapted,
            Split.EVAL,
            every,
            (sampled, greedy),
        )
        with transaction(work.conn):
            opened = [paths.open_run(work.conn, request) for request in requested]
        copy = converted_copy.of(work, adapted, opened, measured)
        loader = completion.model_loader(work, adapted, opened, measured, copy, strength)
        with loader as load:
            for begun in opened:
                decoding = f"{begun.m} paths" if begun.m > 1 else "greedy"
                title = f"measuring {model.name} at strength {strength:g}: {decoding}"
                completion.sample_missing(work, begun, load, measured, title, Phase.MEASURING)
    rights: dict[Method, list[bool]] = {}
    for begun in opened:
        for method, rows in accuracy.scored_answers(work.conn, begun, measured).items():
            rights[method] = [right for _, _, right in rows]
    return rights


@contextmanager
def _at_strength(project: Project, model: Model, strength: float) -> Iterator[Model]:
    """The model with a copy of its adapter at a strength, which is deleted at the end."""
    if strength == 1:
        yield model
        return
    assert model.adapter is not None
    adapter = project.inside(model.adapter)
    gguf = project.inside(model.adapter_gguf) if model.adapter_gguf else None
    with scratch_folder(adapter) as folder:
        copy_at_strength(adapter, gguf, strength, folder)
        yield replace(
            runs.at_strength(model, strength),
            adapter=project.stored(folder),
            adapter_gguf=project.stored(folder / GGUF) if gguf else None,
        )
