"""Which run is the pool's run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.models.identity import base_model
from engine.project.settings import changed
from engine.sampling import runs
from engine.sampling.runs import (
    THINKING_LIMIT,
    ends_after_answer,
    open_pool_run,
    pool_run,
    requested_pool_run,
)
from store import inference_sessions, models, paths, questions
from store.connection import connect
from store.enums import EndReason, JobKind, PromptStyle, Split
from store.records import Reading, ReasoningPath
from tests.engine.chat_shapes import CHATML
from tests.engine.tiny import tiny_model
from tests.projects import TEACHER, a_model, claimed, scripted_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.folder import Project
    from store.records import Model, Run


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return scripted_project(tmp_path)


@pytest.fixture
def conn(project: Project) -> Iterator[sqlite3.Connection]:
    with connect(project.database) as opened:
        yield opened


def begin(conn: sqlite3.Connection, project: Project, **sample: object) -> Run:
    """Begin the pool's run as a job with these settings would."""
    work = claimed(conn, project, JobKind.SAMPLE, settings={"sample": sample})
    teacher = models.by_name(conn, TEACHER)
    assert teacher is not None
    return open_pool_run(work, teacher)


def with_settings(project: Project, **sections: dict[str, object]) -> Project:
    return replace(project, settings=changed(project.settings, sections))


def test_before_sampling_there_is_none(conn: sqlite3.Connection, project: Project) -> None:
    assert pool_run(conn, project) is None


def test_the_settings_decide_not_which_run_is_newest(
    conn: sqlite3.Connection, project: Project
) -> None:
    first = begin(conn, project)
    second = begin(conn, project, temperature=1.0)
    assert first.key != second.key
    assert pool_run(conn, project) == first
    assert pool_run(conn, with_settings(project, sample={"temperature": 1.0})) == second


def test_m_and_threshold_do_not_change_the_run(conn: sqlite3.Connection, project: Project) -> None:
    first = begin(conn, project)
    begin(conn, project, temperature=1.0)
    assert pool_run(conn, with_settings(project, sample={"m": 4, "threshold": "0.9"})) == first


def test_until_the_requested_run_begins_the_newest_is_taken(
    conn: sqlite3.Connection, project: Project
) -> None:
    begin(conn, project)
    second = begin(conn, project, temperature=1.0)
    assert pool_run(conn, with_settings(project, sample={"temperature": 0.3})) == second


@pytest.mark.parametrize("wrong", [{"teacher": "nobody"}, {"engine": "llama.cpp"}])
def test_wrong_settings_hide_nothing(
    conn: sqlite3.Connection, project: Project, wrong: dict[str, object]
) -> None:
    begin(conn, project)
    second = begin(conn, project, temperature=1.0)
    assert pool_run(conn, with_settings(project, model=wrong)) == second


def test_a_models_own_run_is_found_beside_that_of_another(
    conn: sqlite3.Connection, project: Project
) -> None:
    first = begin(conn, project)
    other = replace(
        a_model(project, project.folder / "models" / "script.json"), name="b", sha256="b"
    )
    models.add(conn, other)
    stored = models.by_name(conn, "b")
    assert stored is not None
    assert pool_run(conn, project, stored) is None
    second = open_pool_run(claimed(conn, project, JobKind.SAMPLE), stored)
    assert pool_run(conn, project, stored) == second
    assert pool_run(conn, project) == first
    assert [run.key for run in paths.runs(conn)] == [first.key, second.key]


@pytest.fixture
def chat_project(tmp_path: Path) -> Project:
    """A project whose teacher has a chat template."""
    folder = tiny_model(tmp_path / "tiny")
    (folder / "chat_template.jinja").write_text(CHATML)
    made = scripted_project(tmp_path / "p")
    with connect(made.database) as conn:
        models.add(conn, base_model(made, "tiny/base", folder))
    model: dict[str, object] = {"teacher": "tiny/base", "engine": "auto"}
    return with_settings(made, model=model, sample={"exemplars": ""})


def a_chat_teacher(project: Project) -> Model:
    with connect(project.database) as conn:
        teacher = models.by_name(conn, "tiny/base")
    assert teacher is not None
    return teacher


def requested(project: Project, **sample: object) -> Run:
    teacher = a_chat_teacher(project)
    with connect(project.database) as conn:
        return requested_pool_run(conn, with_settings(project, sample=sample), teacher)


def opened(project: Project, run: Run) -> Run:
    """The run, begun with one path."""
    with connect(project.database) as conn:
        begun = paths.open_run(conn, run)
        (question, *_) = questions.by_split(conn, run.split)
        path = ReasoningPath(0, begun.id, question.id, 0, "The answer is 3.", (), EndReason.STOP, 1)
        paths.add(conn, begun.id, [path], [Reading(0, "number/1", "3", "3", None)])
        return begun


def test_a_model_with_a_template_is_asked_in_a_chat_that_ends_after_its_answer(
    chat_project: Project,
) -> None:
    chat = requested(chat_project)
    assert chat.prompt_style is PromptStyle.CHAT
    assert chat.key == requested(chat_project, style="chat").key
    asked = a_chat_teacher(chat_project)
    assert ends_after_answer(chat, asked)
    assert ends_after_answer(requested(chat_project, style="base"), asked)
    assert not ends_after_answer(requested(chat_project, thinking=True), asked)
    thinks = requested(chat_project, thinking=True)
    assert thinks.max_tokens == THINKING_LIMIT * chat.max_tokens
    assert requested(chat_project, thinking=True, max_tokens=100).max_tokens == 100
    assert requested(chat_project, style="base", thinking=True).max_tokens == chat.max_tokens


@pytest.mark.parametrize("style", ["base", "chat"])
def test_what_an_older_version_began_goes_on(
    chat_project: Project, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(runs, "_shall_end_after_answer", lambda *_: False)
        begun = opened(chat_project, requested(chat_project, style=style))
    assert requested(chat_project).key == begun.key
    # A new measurement is comparable with an old one.
    again = requested(chat_project, temperature=1.0)
    assert not ends_after_answer(again, a_chat_teacher(chat_project))


def test_a_run_with_thoughts_decides_nothing_for_runs_without(chat_project: Project) -> None:
    begun = opened(chat_project, requested(chat_project, thinking=True))
    with connect(chat_project.database) as conn:
        details = {"chat_layout": "system-in-user thinking"}
        inference_sessions.add(conn, [begun.id], "transformers", "5", details)
    assert ends_after_answer(requested(chat_project), a_chat_teacher(chat_project))
    assert requested(chat_project, thinking=True).key == begun.key


def test_the_pool_decides_the_style_that_the_settings_leave_open(chat_project: Project) -> None:
    base = requested(chat_project, style="base")
    in_base = with_settings(chat_project, sample={"style": "base"}).settings
    teacher = a_chat_teacher(chat_project)
    with connect(chat_project.database) as conn:
        measured = runs.requested_run(
            *(conn, chat_project, in_base.model, teacher, Split.EVAL, in_base.sample),
            *(base.prompt_format, ["number"]),
        )
    opened(chat_project, measured)
    assert requested(chat_project).prompt_style is PromptStyle.CHAT
    opened(chat_project, base)
    assert requested(chat_project).key == base.key
    assert requested(chat_project, style="chat").prompt_style is PromptStyle.CHAT


def test_a_run_that_was_opened_without_the_models_files_decides_nothing(
    chat_project: Project,
) -> None:
    chat = requested(chat_project)
    folder = chat_project.inside(a_chat_teacher(chat_project).location)
    away = folder.rename(folder.with_name("away"))
    with connect(chat_project.database) as conn:
        paths.open_run(conn, requested(chat_project))
    away.rename(folder)
    assert requested(chat_project).key == chat.key
