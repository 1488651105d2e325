"""A job as one line."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from textual.app import App, ComposeResult

from lmsi_tui.formatting.job_results import job_text
from lmsi_tui.formatting.job_states import COLORS, SIGNS
from lmsi_tui.widgets.job_table import (
    MAX_JOBS,
    JobList,
    JobTable,
    job_row,
    moment,
    progress_of,
    took,
)
from store.enums import JobKind, JobState
from store.records import Job
from tests.nasty import FORBIDDEN, NASTY

if TYPE_CHECKING:
    from textual.pilot import Pilot

NOW = 1_790_000_000.0
JOB = Job(
    id=7,
    kind=JobKind.FINETUNE,
    params={},
    key="k",
    state=JobState.RUNNING,
    done=30,
    total=60,
    message="training",
    error=None,
    result={},
    pid=1,
    started_ticks=1,
    created_at=NOW - 100,
    started_at=NOW - 90,
    heartbeat_at=NOW,
    finished_at=None,
)


def test_a_row_shows_kind_progress_and_duration() -> None:
    cells = [str(cell) for cell in job_row(JOB, NOW, 40)]
    assert cells[:4] == ["7", "fine-tune", "▶ running", "▰▰▰▰▱▱▱▱  50%"]
    assert cells[5:] == ["1:30", "training"]


@pytest.mark.parametrize("state", JobState)
def test_every_state_has_a_sign_a_word_and_a_color(state: JobState) -> None:
    cell = str(job_row(replace(JOB, state=state), NOW, 40)[2])
    assert cell == f"{SIGNS[state]} {state}"
    assert state in COLORS


def test_progress_is_shown_only_where_it_is_known() -> None:
    assert progress_of(replace(JOB, total=0), bar=True) == ""
    assert progress_of(replace(JOB, state=JobState.DONE), bar=True) == ""
    assert progress_of(replace(JOB, done=99), bar=False) == "100%"


def test_a_queued_job_has_no_duration() -> None:
    assert took(replace(JOB, state=JobState.QUEUED), NOW) == ""
    assert took(replace(JOB, started_at=None), NOW) == ""
    assert took(replace(JOB, finished_at=NOW - 30), NOW) == "1:00"


def test_a_time_of_another_day_is_a_date() -> None:
    assert ":" in moment(NOW, NOW)
    assert moment(NOW - 3 * 86400, NOW).count(".") == 2
    assert moment(None, NOW) == ""


@pytest.mark.parametrize(
    ("kind", "result"),
    [
        (JobKind.SAMPLE, {"questions": "many"}),
        (JobKind.FINETUNE, {"trained_before": False}),
        (JobKind.DISTILL, {"a": 3}),
        (JobKind.EVALUATE, {"evaluations": [3]}),
    ],
)
def test_a_result_of_another_version_is_ignored(kind: JobKind, result: dict[str, object]) -> None:
    assert job_text(replace(JOB, kind=kind, result=result)) == "training"


class Alone(App[None]):
    """The table and nothing else."""

    def compose(self) -> ComposeResult:
        yield JobTable()


async def shown(pilot: Pilot[None], *jobs: Job) -> JobTable:
    table = pilot.app.query_one(JobTable)
    table.show(JobList(jobs, NOW))
    await pilot.pause()
    return table


async def test_the_cursor_stays_on_its_job_when_another_starts() -> None:
    async with Alone().run_test() as pilot:
        old = [replace(JOB, id=number) for number in (3, 2, 1)]
        table = await shown(pilot, *old)
        table.move_cursor(row=1)
        await shown(pilot, replace(JOB, id=4), *old)
        assert table.job is not None
        assert table.job.id == 2


async def test_only_the_newest_jobs_are_shown() -> None:
    async with Alone().run_test() as pilot:
        table = await shown(
            pilot, *(replace(JOB, id=number) for number in range(MAX_JOBS + 50, 0, -1))
        )
        assert table.row_count == MAX_JOBS
        assert table.job is not None
        assert table.job.id == MAX_JOBS + 50


async def test_an_empty_list_has_no_job_under_the_cursor() -> None:
    async with Alone().run_test() as pilot:
        assert (await shown(pilot)).job is None
        await shown(pilot, JOB)
        assert (await shown(pilot)).job is None


@pytest.mark.parametrize("name", NASTY)
async def test_hostile_texts_of_a_job_are_escaped(name: str) -> None:
    async with Alone().run_test(size=(80, 10)) as pilot:
        table = await shown(pilot, replace(JOB, message=NASTY[name], error=NASTY[name] or None))
        assert FORBIDDEN & set(str(table.get_row_at(0)[-1])) == set()
