"""Check settings that name something else: a model of the project, or a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.project.folder import SETTINGS
from engine.project.setting_values import Fault, sentences, suggestion
from engine.prompting.tasks import load_exemplars
from store import models
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3

    from engine.project.folder import Project
    from engine.project.settings import Changes


def check_settings(
    conn: sqlite3.Connection, project: Project, changes: Changes | None = None
) -> None:
    """Check the settings that name models and files of the project.

    Args:
        conn: the project's store.
        project: its settings are checked.
        changes: those that are not from lmsi.toml, so that no line of it is named.

    Raises:
        BadInput: some are wrong. All of them are named.
    """
    settings = project.settings
    faults: list[Fault] = []
    stored = [model.name for model in models.all_of(conn)]
    named = [("teacher", settings.model.teacher)]
    named += [("students", student) for student in settings.model.students]
    for setting, name in named:
        if stored and name and name not in stored:
            offer = suggestion(name, stored) or f"; there are {', '.join(stored)}"
            sentence = f"model.{setting} is {name!r}, but there is no such model{offer}."
            faults.append(Fault("model", setting, sentence))
    exemplars = settings.sample.exemplars
    if exemplars:
        try:
            load_exemplars(project.inside(exemplars))
        except BadInput as error:
            faults.append(
                Fault("sample", "exemplars", f"sample.exemplars is {exemplars!r}: {error}")
            )
    for section in ("finetune", "distill"):
        machines = getattr(settings, section).machines
        if machines and not project.inside(machines).is_file():
            advice = f"write it with `accelerate config --config_file {project.inside(machines)}`"
            sentence = f"{section}.machines is {machines!r}, but there is no such file: {advice}."
            faults.append(Fault(section, "machines", sentence))
    if faults:
        raise BadInput(sentences(faults, project.folder / SETTINGS, changes))
