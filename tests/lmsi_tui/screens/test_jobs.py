"""The jobs screen and its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from textual.widgets import Static

from lmsi_tui.screens.confirm import ConfirmScreen
from lmsi_tui.screens.job import JobScreen, flattened
from lmsi_tui.screens.jobs import JobsScreen, matches
from lmsi_tui.screens.log import LogScreen
from lmsi_tui.shell.messages import CopyRequested, PagerRequested
from lmsi_tui.widgets.job_table import JobTable
from lmsi_tui.widgets.log_tail import MAX_LINES, TAIL_BYTES, LogTail, tail_of
from store import jobs, models
from store.connection import connect, transaction
from store.enums import JobKind, JobState
from tests.lmsi_tui.driving import driven, notices, settled, until
from tests.projects import scripted_project
from tests.seed import at_work, running, seeded_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from textual.message import Message
    from textual.pilot import Pilot

    from engine.project.folder import Project
    from store.records import Job


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The seeded project, with a worker that only seems to run."""
    project = seeded_project(tmp_path / "story")
    with at_work(project):
        yield project


def rows(project: Project) -> list[Job]:
    with connect(project.database, read_only=True) as conn:
        return jobs.all_of(conn)


def begin(project: Project, kind: JobKind = JobKind.FINETUNE) -> Job:
    with connect(project.database) as conn:
        return running(conn, kind)


def table(pilot: Pilot[None]) -> JobTable:
    return pilot.app.screen.query_one(JobTable)


def write_log(project: Project, job_id: int, text: str) -> None:
    (project.folder / "logs" / f"job-{job_id}.log").write_text(text, encoding="utf-8")


async def test_every_job_has_a_row_newest_first(project: Project) -> None:
    async with driven(project, "jobs") as pilot:
        ids = [str(table(pilot).get_cell_at((row, 0))) for row in range(table(pilot).row_count)]  # type: ignore[arg-type]
        assert ids == [str(job.id) for job in reversed(rows(project))]
        states = {str(line[2]) for line in map(table(pilot).get_row_at, range(len(ids)))}
        assert states == {"✓ done"}


async def test_one_key_pauses_and_resumes_a_running_job(project: Project) -> None:
    job = begin(project)
    async with driven(project, "jobs") as pilot:
        await pilot.press("p")
        await settled(pilot)
        assert rows(project)[-1].state is JobState.PAUSING
        await pilot.press("p")
        await settled(pilot)
        assert rows(project)[-1].state is JobState.RUNNING
    assert rows(project)[-1].id == job.id


async def test_cancelling_asks_first(project: Project) -> None:
    begin(project)
    async with driven(project, "jobs") as pilot:
        await pilot.press("k")
        assert isinstance(pilot.app.screen, ConfirmScreen)
        await pilot.press("enter")
        await settled(pilot)
        assert rows(project)[-1].state is JobState.RUNNING, "enter declines"
        await pilot.press("k", "y")
        await settled(pilot)
        assert rows(project)[-1].state is JobState.CANCELLING


async def test_a_finished_job_is_neither_paused_nor_cancelled(project: Project) -> None:
    before = rows(project)
    async with driven(project, "jobs") as pilot:
        await pilot.press("p", "k")
        await settled(pilot)
        assert isinstance(pilot.app.screen, JobsScreen)
    assert rows(project) == before


async def test_a_finished_job_is_restarted(project: Project) -> None:
    before = rows(project)
    async with driven(project, "jobs") as pilot:
        await pilot.press("down", "R")
        await settled(pilot)
        new = rows(project)[len(before) :]
        again = before[-2]
        assert [(job.kind, job.params, job.state) for job in new] == [
            (again.kind, again.params, JobState.QUEUED)
        ]
        await until(pilot, lambda: table(pilot).row_count == len(before) + 1)
        assert getattr(table(pilot).job, "id", None) == again.id, "the cursor stays on its job"


async def test_an_unfinished_job_is_not_restarted(project: Project) -> None:
    begin(project)
    before = rows(project)
    async with driven(project, "jobs") as pilot:
        await pilot.press("R")
        await settled(pilot)
    assert rows(project) == before


async def test_progress_is_shown_as_it_is_written(project: Project) -> None:
    job = begin(project)
    async with driven(project, "jobs") as pilot:
        with connect(project.database) as conn, transaction(conn):
            jobs.progress(conn, job.id, 30, 60, "training maple-1b")
        await until(pilot, lambda: "50%" in str(table(pilot).get_row_at(0)[3]))
        assert str(table(pilot).get_row_at(0)[-1]) == "training maple-1b"


async def test_the_log_of_the_job_under_the_cursor_is_followed(project: Project) -> None:
    newest = rows(project)[-1].id
    write_log(project, newest, "first line\n")
    write_log(project, newest - 1, "of another job\n")
    async with driven(project, "jobs") as pilot:
        tail = pilot.app.screen.query_one(LogTail)
        assert tail.lines[0] == "first line"
        with (project.folder / "logs" / f"job-{newest}.log").open("a") as log:
            log.write("\x1b[2Jsecond \x9b line\r\nhalf")
        tail.poll()
        assert list(tail.lines) == ["first line", "␛[2Jsecond \ufffd line", "half"]
        await pilot.press("down")
        await settled(pilot)
        assert tail.lines[0] == "of another job"


async def test_only_the_end_of_a_large_log_is_read(project: Project) -> None:
    newest = rows(project)[-1].id
    write_log(project, newest, "".join(f"line {number}\n" for number in range(200_000)))
    async with driven(project, "jobs") as pilot:
        lines = [line for line in pilot.app.screen.query_one(LogTail).lines if line]
        assert len(lines) <= MAX_LINES
        assert lines[-1] == "line 199999"


def test_the_end_of_a_file_begins_with_a_whole_line(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("".join(f"line {number}\n" for number in range(100_000)))
    lines = tail_of(log).splitlines()
    assert lines[-1] == "line 99999"
    assert all(line.startswith("line ") for line in lines)
    assert len(tail_of(log)) <= TAIL_BYTES
    assert tail_of(tmp_path / "none.log") == ""


async def test_the_log_fills_the_screen_and_opens_in_the_pager(project: Project) -> None:
    newest = rows(project)[-1].id
    write_log(project, newest, "what happened\n")
    messages: list[Message] = []
    async with driven(project, "jobs", messages=messages) as pilot:
        await pilot.press("l")
        assert isinstance(pilot.app.screen, LogScreen)
        assert pilot.app.screen.query_one(LogTail).lines[0] == "what happened"
        await pilot.press("o")
        await settled(pilot)
        await pilot.press("escape", "o")
        await settled(pilot)
    opened = [message.text for message in messages if isinstance(message, PagerRequested)]
    assert set(opened) == {"what happened\n"}


async def test_enter_shows_all_details_of_a_job(project: Project) -> None:
    messages: list[Message] = []
    async with driven(project, "jobs", messages=messages) as pilot:
        await pilot.press("down", "down", "enter")
        await settled(pilot)
        assert isinstance(pilot.app.screen, JobScreen)
        shown = "\n".join(str(line.render()) for line in pilot.app.screen.query(Static))
        assert "steps in 5:12" in shown
        await pilot.press("y")
        await settled(pilot)
        await pilot.press("escape")
        assert isinstance(pilot.app.screen, JobsScreen)
    (copied,) = {message.text for message in messages if isinstance(message, CopyRequested)}
    assert "state: ✓ done" in copied


async def test_a_click_selects_a_job_and_a_second_click_opens_it(project: Project) -> None:
    async with driven(project, "jobs") as pilot:
        await pilot.click(JobTable, offset=(10, 3))
        await settled(pilot)
        assert table(pilot).cursor_row == 2
        await pilot.click(JobTable, offset=(10, 3))
        await settled(pilot)
        assert isinstance(pilot.app.screen, JobScreen)


def test_nested_values_are_flattened() -> None:
    assert flattened({"a_b": {"c": 0.25, "d": [1, 2]}, "e": [{"f": 1}]}) == [
        ("a b c", "0.25"),
        ("a b d", "[1, 2]"),
        ("e 1", "f 1"),
    ]


async def test_a_project_without_jobs_says_what_to_press(tmp_path: Path) -> None:
    async with driven(scripted_project(tmp_path), "jobs") as pilot:
        empty = pilot.app.screen.query_one(".empty", Static)
        assert empty.display
        assert "Press escape" in str(empty.render())
        await pilot.press("p", "k", "R", "o", "l", "enter", "y")
        await settled(pilot)
        assert isinstance(pilot.app.screen, JobsScreen)


async def test_a_failed_job_shows_its_whole_error(project: Project) -> None:
    job = begin(project)
    error = "The disk is full: free some space. " * 4
    with connect(project.database) as conn:
        jobs.finish(conn, job.id, JobState.FAILED, "failed", error, {})
    async with driven(project, "jobs", size=(80, 24)) as pilot:
        says = pilot.app.screen.query_one("#says", Static)
        assert says.has_class("bad")
        assert str(says.render()) == error
        assert "! failed" in str(table(pilot).get_row_at(0)[2])


async def test_the_list_shows_only_jobs_that_have_the_typed_words(project: Project) -> None:
    every_job = rows(project)
    async with driven(project, "jobs") as pilot:
        await pilot.press("slash", *"curate", "space", *"done")
        await settled(pilot)
        shown = [job.id for job in table(pilot)._shown]
        assert shown == [job.id for job in reversed(every_job) if "curate" in job.kind]
        assert f"{len(shown)} of {len(every_job)} jobs" in top_bar(pilot)
        await pilot.press("enter")
        await settled(pilot)
        assert table(pilot).has_focus
        assert table(pilot).row_count == len(shown), "the filter stays"
        await pilot.press("slash", "space", *"nothing")
        await settled(pilot)
        assert table(pilot).row_count == 0
        assert "no job has all" in str(pilot.app.screen.query_one("#all").border_subtitle)
        await pilot.press("escape")
        await settled(pilot)
        assert table(pilot).row_count == len(every_job)
        assert isinstance(pilot.app.screen, JobsScreen), "escape leaves the filter first"


def top_bar(pilot: Pilot[None]) -> str:
    return str(pilot.app.screen.query_one("#top-bar", Static).content)


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        ("EVALUATE", {JobKind.EVALUATE}),
        ("maple-small/distilled distill", {JobKind.DISTILL, JobKind.EVALUATE}),
        ("threshold 0.6", {JobKind.SAMPLE}),
        ("done", set(JobKind) - {JobKind.VOTE, JobKind.EXPORT, JobKind.ROUND}),
        ("failed", set()),
    ],
)
def test_a_job_is_found_by_kind_state_model_and_message(
    words: str, kinds: set[JobKind], project: Project
) -> None:
    with connect(project.database, read_only=True) as conn:
        names = {model.id: model.name for model in models.all_of(conn)}
    shown = {job.kind for job in rows(project) if matches(job, words.lower().split(), names)}
    assert shown == kinds


async def test_a_request_is_confirmed(project: Project) -> None:
    job = begin(project)
    async with driven(project, "jobs") as pilot:
        await pilot.press("p")
        await settled(pilot)
        assert f"Job {job.id} pauses at its next safe point." in notices(pilot)
        await pilot.press("p")
        await settled(pilot)
        assert f"Job {job.id} continues." in notices(pilot)
