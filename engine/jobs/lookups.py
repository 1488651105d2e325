"""What the stages look up in the store.

The run of a stage and its plan use the same functions, so that both find the same rows and report
a problem in the same words.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.conversion import gguf_to_hf
from engine.inference import loading
from engine.inference.chat_template import layout_in
from engine.inference.prompt_style import why_unusable
from engine.jobs.converted_copy import may_have_copy
from engine.models.identity import is_server
from engine.models.location import check_files
from engine.project.settings import Engine, Products, StyleChoice
from engine.sampling import runs
from store import examples, models, paths, rounds
from store.enums import JobKind, Outcome, PromptStyle, Stage
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3

    from engine.project.folder import Project
    from engine.project.settings import Settings
    from store.records import Model, Run, TrainingSet


class StageMissing(BadInput):
    """Another stage has to run first."""

    def __init__(self, message: str, first: JobKind) -> None:
        """`first` is the stage to run."""
        super().__init__(message)
        self.first = first


def model(conn: sqlite3.Connection, name: str) -> Model:
    """The model of that name.

    Raises:
        BadInput: there is none.
    """
    if not name:
        raise BadInput("The project has no model: give one with `lmsi-tui init DIR --model PATH`.")
    stored = models.by_name(conn, name)
    if stored is None:
        names = ", ".join(other.name for other in models.all_of(conn)) or "none yet"
        raise BadInput(f"There is no model named {name!r}; there are: {names}.")
    return stored


def teacher(conn: sqlite3.Connection, settings: Settings) -> Model:
    """The project's teacher.

    Raises:
        BadInput: there is none.
    """
    return model(conn, settings.model.teacher)


def sampling_model(conn: sqlite3.Connection, settings: Settings) -> Model:
    """The model whose votes the stages use: the teacher, or the one that a later round samples.

    Raises:
        BadInput: there is no teacher.
    """
    return runs.sampling_model(conn, teacher(conn, settings))


def students(conn: sqlite3.Connection, settings: Settings) -> list[Model]:
    """The models that learn from the teacher, at least one.

    Raises:
        BadInput: there is none, or one is not in the store.
    """
    if not settings.model.students:
        others = [
            base.name
            for base in models.all_of(conn)
            if base.stage is Stage.BASE and base.name != settings.model.teacher
        ]
        raise BadInput(
            f"There is no student: set model.students in lmsi.toml to {' or '.join(others)}."
            if others
            else "There is no student: give a smaller model with `lmsi-tui init --student PATH`."
        )
    return [model(conn, name) for name in settings.model.students]


def models_to_measure(conn: sqlite3.Connection, names: object) -> list[Model]:
    """The models of these names; without names, all that no round rejected.

    Raises:
        BadInput: one of them is not in the store, or the project has no model.
    """
    if names:
        assert isinstance(names, (list, tuple))
        return [model(conn, str(name)) for name in names]
    verdicts = rounds.of_models(conn)
    kept = [
        stored for stored in models.all_of(conn) if verdicts.get(stored.id) is not Outcome.REJECT
    ]
    return kept or [model(conn, "")]


def style_notes(project: Project, model: Model, style: PromptStyle) -> tuple[str, ...]:
    """How a model is asked in this style, where the settings do not say it already.

    Raises:
        BadInput: its chat template cannot be used, or there is none.
    """
    settings, sample = project.settings.model, project.settings.sample
    notes: list[str] = []
    if style is PromptStyle.CHAT:
        if sample.style is StyleChoice.AUTO:
            notes.append(
                "The model is asked through its chat template (sample.style = auto; base gives "
                "the plain text of the paper)."
            )
        location = loading.prompt_location(project, model, settings)
        if location is not None:
            check_files(project, model, loading.files_needed_by(model, settings))
            layout = layout_in(location)
            if layout.note:
                notes.append(layout.note)
            if sample.thinking and not layout.switches_thinking:
                notes.append(
                    "sample.thinking is true, but the chat template has no switch for thinking."
                )
        return tuple(notes)
    if sample.style is StyleChoice.AUTO and (reason := why_unusable(project, model, settings)):
        notes.append(
            f"The chat template cannot be used, so the model is asked in plain text. {reason}"
        )
    if sample.thinking:
        notes.append("sample.thinking is true, but only a chat can switch thinking.")
    return tuple(notes)


def products_note(project: Project, model: Model) -> str:
    """Where `model.products = "int8"` has no effect on the sampling of a model, or may have none, a
    sentence; "" otherwise.

    Raises:
        BadInput: the engine of the settings cannot read the model's format.
    """
    settings = project.settings.model
    engine = loading.chosen_engine(model, settings)
    if settings.products is not Products.INT8 or engine in (Engine.TRANSFORMERS, Engine.SCRIPTED):
        return ""
    if engine is Engine.SERVER:
        return f'model.products = "int8" has no effect: a server samples {model.name}.'
    if engine is Engine.AUTO:
        return (
            'model.products = "int8" has no effect if llama.cpp turns out to be faster for '
            f"{model.name}: set model.engine to transformers."
        )
    if may_have_copy(project, model, settings):
        return (
            'model.products = "int8" has an effect only if the converted copy of '
            f"{model.name} is sampled: llama.cpp multiplies as its GGUF file says."
        )
    return (
        'model.products = "int8" has no effect: llama.cpp samples '
        f"{model.name}, and multiplies as its GGUF file says."
    )


def begun_pool_run(conn: sqlite3.Connection, project: Project, model: Model) -> Run:
    """The pool's run at these settings, with the settings that its votes are counted by.

    Raises:
        StageMissing: nothing was sampled with these settings.
    """
    requested = runs.requested_pool_run(conn, project, model)
    begun = paths.run_by_key(conn, requested.key)
    if begun is None:
        raise StageMissing(
            "Nothing was sampled with these settings yet: `lmsi-tui sample` does it.",
            JobKind.SAMPLE,
        )
    return replace(requested, id=begun.id)


def training_set(conn: sqlite3.Connection) -> TrainingSet:
    """The newest training set that was not sampled from a rejected model.

    Raises:
        StageMissing: there is none.
    """
    verdicts = rounds.of_models(conn)
    sets = [
        frozen
        for frozen in examples.ordinary_sets(conn)
        if verdicts.get(paths.run_by_id(conn, frozen.run_id).model_id) is not Outcome.REJECT
    ]
    if not sets:
        raise StageMissing(
            "There is no training set yet: `lmsi-tui curate` makes one.", JobKind.CURATE
        )
    return sets[-1]


def check_trainable(project: Project, base: Model) -> None:
    """Check that a model has weights that a training can start from.

    Raises:
        BadInput: it is on a server, has no weights, or its GGUF cannot be unpacked.
    """
    if is_server(base.location):
        raise BadInput(
            f"{base.name} is a server, which can be sampled but not trained: give a model's "
            "Hugging Face folder to `lmsi-tui init` as --student, and `lmsi-tui distill` trains it."
        )
    location = project.inside(base.location)
    if location.is_dir() or not location.exists():
        return  # files that are not there are reported when they are needed
    if location.suffix != ".gguf":
        raise BadInput(
            f"{base.name} has no weights to train at {location}: give the model's Hugging Face "
            "folder to `lmsi-tui init`."
        )
    reason = gguf_to_hf.why_not_convertible(location)
    if reason is not None:
        raise BadInput(reason)
