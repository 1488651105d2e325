"""The home screen: what every key requests, and what every state shows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Static

from engine.jobs.launch import process_start
from engine.project.folder import create_project
from engine.project.settings import Settings
from lmsi_tui.formatting.job_states import title
from lmsi_tui.home.snapshots import stage_of
from lmsi_tui.home.view_model import LoopStage, StageStatus
from lmsi_tui.screens.confirm import ConfirmScreen
from lmsi_tui.screens.home import HomeScreen
from lmsi_tui.screens.log import LogScreen
from lmsi_tui.screens.plan import PlanScreen
from lmsi_tui.shell.messages import (
    JobChangeRequested,
    JobRequested,
    ScreenRequested,
    StageRequested,
)
from lmsi_tui.widgets.panes.evaluation_pane import EvaluationPane
from lmsi_tui.widgets.panes.job_line import JobLine
from lmsi_tui.widgets.panes.sampling_pane import SamplingPane
from lmsi_tui.widgets.panes.stage_list import StageList
from lmsi_tui.widgets.panes.training_pane import TrainingPane
from store import jobs, models, paths, questions, votes
from store.connection import connect, transaction
from store.enums import Decision, JobKind, JobState, Phase, Split
from store.schema import ensure_schema
from tests.lmsi_tui.driving import driven, settled, until
from tests.projects import a_question, add_round, scripted_project
from tests.seed import NOW, POOL, TEACHER, add_metrics, at_work, running, seeded_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from textual.message import Message
    from textual.pilot import Pilot

    from engine.project.folder import Project
    from lmsi_tui.home.view_model import StageLine
    from store.records import Job, Run


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The seeded project, with a worker that only seems to run."""
    project = seeded_project(tmp_path / "story")
    with at_work(project):
        yield project


def home(pilot: Pilot[None]) -> HomeScreen:
    screen = pilot.app.screen_stack[0] if len(pilot.app.screen_stack) > 1 else pilot.app.screen
    assert isinstance(screen, HomeScreen)
    return screen


def lines(pilot: Pilot[None]) -> dict[LoopStage, StageLine]:
    return {line.stage: line for line in home(pilot).query_one(StageList).lines}


def job_text(pilot: Pilot[None]) -> str:
    status = home(pilot).query_one(JobLine).status
    assert status is not None
    return "\n".join((status.state, status.message, status.next))


def top_bar(pilot: Pilot[None]) -> str:
    return str(home(pilot).query_one("#top-bar", Static).render())


def rows(project: Project) -> list[Job]:
    with connect(project.database, read_only=True) as conn:
        return jobs.all_of(conn)


def begin(
    project: Project,
    kind: JobKind,
    message: str = "",
    done: int = 0,
    total: int = 0,
    phase: Phase | None = None,
    run: Run | None = None,
) -> Job:
    """A job that a worker has claimed."""
    with connect(project.database) as conn:
        job = running(conn, kind)
        if phase is not None:
            ids = (run.id, run.model_id) if run else (None, None)
            jobs.enter(conn, job.id, phase, *ids)
        jobs.progress(conn, job.id, done, total, message)
        conn.execute("UPDATE job SET heartbeat_at = ? WHERE id = ?", [NOW, job.id])
        return jobs.get(conn, job.id)


def posted(messages: list[Message], kind: type[Message]) -> list[Message]:
    """Each message of a kind once, however many widgets it bubbled through."""
    return list(
        {id(message): message for message in messages if isinstance(message, kind)}.values()
    )


# Texts.


async def test_every_stage_shows_its_count_and_its_last_result(project: Project) -> None:
    with connect(project.database, read_only=True) as conn:
        (run,) = (run for run in paths.runs(conn) if run.split is Split.POOL)
        pool_votes = votes.for_run(conn, run.id)
        kept = sum(vote.decision is Decision.KEEP for vote in pool_votes)
        drawn = sum(vote.drawn for vote in pool_votes)
    async with driven(project, now=NOW) as pilot:
        shown = lines(pilot)
        assert list(shown) == list(LoopStage)
        assert shown[LoopStage.QUESTIONS].count == str(POOL)
        assert shown[LoopStage.QUESTIONS].note == "60 to measure"
        assert shown[LoopStage.SAMPLE].count == f"{drawn} paths"
        assert shown[LoopStage.SAMPLE].note.startswith("48/48 settled · saved")
        assert shown[LoopStage.VOTE].count == f"{100 * kept / POOL:.1f} % ≥ 0.6"
        assert shown[LoopStage.REVIEW].count == f"{POOL - kept - 3} doubtful"
        assert shown[LoopStage.REVIEW].note == "3 decided · 3 audited"
        assert shown[LoopStage.TRAINING_SET].note.startswith("human-assisted")
        assert shown[LoopStage.FINETUNE].note == f"{TEACHER}/lmsi"
        assert "±" in shown[LoopStage.FINETUNE].count
        assert shown[LoopStage.EVALUATE].count == "4 of 4 models"
        assert {line.status for line in shown.values()} == {StageStatus.DONE, StageStatus.PARTLY}
        assert shown[LoopStage.REVIEW].status is StageStatus.PARTLY
        assert "✓ job 6 · evaluate · done" in job_text(pilot)
        assert "Press w to see the results." in job_text(pilot)
        assert "story ▸ round 1" in top_bar(pilot)
        assert f"{TEACHER}/base · scripted" in top_bar(pilot)


async def test_the_loop_shows_the_outcome_of_the_last_round(project: Project) -> None:
    tuned = {"sampled": f"{TEACHER}/base", "trained": f"{TEACHER}/lmsi"}
    async with driven(project, now=NOW) as pilot:
        assert not pilot.app.screen.query_one("#loop").border_subtitle
    add_round(project, **tuned, won=2, lost=1, n=20)
    async with driven(project, now=NOW) as pilot:
        subtitle = str(pilot.app.screen.query_one("#loop").border_subtitle)
        assert subtitle == "round 1 undecided · 1 alarm · in use: the base"
    add_round(project, **tuned, won=15, lost=1, n=20)
    async with driven(project, now=NOW) as pilot:
        subtitle = str(pilot.app.screen.query_one("#loop").border_subtitle)
        assert subtitle == f"round 2 accepted · 1 alarm · in use: {TEACHER}/lmsi"


async def test_an_empty_project_says_what_to_press(tmp_path: Path) -> None:
    empty = create_project(tmp_path / "empty", Settings())
    ensure_schema(empty.database)
    async with driven(empty) as pilot:
        assert {line.status for line in lines(pilot).values()} == {StageStatus.EMPTY}
        assert "No jobs yet" in job_text(pilot)
        assert "Press i to import questions" in job_text(pilot)
        for key in "pkl":
            await pilot.press(key)
        assert len(pilot.app._notifications) == 3
        assert rows(empty) == []


async def test_the_next_step_follows_from_the_state_of_the_project(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "p")
    with at_work(project):
        async with driven(project) as pilot:
            assert "Press s to sample 12 questions." in job_text(pilot)
            with connect(project.database) as conn, transaction(conn):
                questions.add(conn, [a_question(number) for number in range(13)], {})
            await until(pilot, lambda: "Press s to sample 13 questions." in job_text(pilot))


async def test_a_later_decision_marks_the_training_set_as_outdated(project: Project) -> None:
    with connect(project.database) as conn:
        conn.execute("UPDATE training_set SET created_at = 0")
    async with driven(project) as pilot:
        assert lines(pilot)[LoopStage.TRAINING_SET].status is StageStatus.PARTLY
        assert lines(pilot)[LoopStage.TRAINING_SET].note == "older than the last review"
        assert "Press c to freeze the training set again" in job_text(pilot)


async def test_a_model_of_an_older_set_is_not_called_done(project: Project) -> None:
    with connect(project.database) as conn:
        conn.execute("UPDATE model SET training_set = 'older' WHERE training_set IS NOT NULL")
    async with driven(project) as pilot:
        assert lines(pilot)[LoopStage.FINETUNE].note == f"{TEACHER}/lmsi, on an older set"
        assert "Press f to fine-tune" in job_text(pilot)


# Keys.

PLANNED = [
    ("s", JobKind.SAMPLE),
    ("v", JobKind.VOTE),
    ("c", JobKind.CURATE),
    ("f", JobKind.FINETUNE),
    ("d", JobKind.DISTILL),
    ("e", JobKind.EVALUATE),
    ("x", JobKind.EXPORT),
    ("g", JobKind.ROUND),
]


@pytest.mark.parametrize(("key", "kind"), PLANNED)
async def test_a_lower_case_key_shows_the_plan_and_starts_nothing(
    project: Project, key: str, kind: JobKind
) -> None:
    before = rows(project)
    messages: list[Message] = []
    async with driven(project, messages=messages) as pilot:
        await pilot.press(key)
        await settled(pilot)
        assert isinstance(pilot.app.screen, PlanScreen)
        assert pilot.app.screen.kind is kind
        assert posted(messages, StageRequested) == [StageRequested(kind)]
        await pilot.press("escape")
        assert isinstance(pilot.app.screen, HomeScreen)
    assert rows(project) == before


@pytest.mark.parametrize(("key", "kind"), [("F", JobKind.FINETUNE), ("D", JobKind.DISTILL)])
async def test_an_upper_case_key_starts_immediately(
    project: Project, key: str, kind: JobKind
) -> None:
    messages: list[Message] = []
    async with driven(project, messages=messages) as pilot:
        await pilot.press(key)
        await settled(pilot)
        assert isinstance(pilot.app.screen, HomeScreen)
        assert posted(messages, JobRequested) == [JobRequested(kind, {"settings": {}})]
        job = rows(project)[-1]
        assert (job.kind, job.params, job.state) == (kind, {"settings": {}}, JobState.QUEUED)
        await until(pilot, lambda: f"job {job.id}" in job_text(pilot))
        assert "Waiting for the worker" in job_text(pilot)


@pytest.mark.parametrize(
    ("key", "mode"), [("r", "review"), ("t", "training-set"), ("w", "results"), ("j", "jobs")]
)
async def test_a_key_switches_the_screen(project: Project, key: str, mode: str) -> None:
    messages: list[Message] = []
    async with driven(project, messages=messages) as pilot:
        await pilot.press(key)
        await settled(pilot)
        assert pilot.app.current_mode == mode
        if mode != "jobs":
            assert posted(messages, ScreenRequested) == [ScreenRequested(mode)]
        await pilot.press("escape")
        await settled(pilot)
        assert pilot.app.current_mode == "home"


async def test_arrows_and_enter_open_a_stage(project: Project) -> None:
    messages: list[Message] = []
    async with driven(project, messages=messages) as pilot:
        await pilot.press("down", "enter")
        await settled(pilot)
        assert posted(messages, StageRequested) == [StageRequested(JobKind.SAMPLE)]
        await pilot.press("escape", "down", "down", "enter")
        await settled(pilot)
        assert posted(messages, ScreenRequested) == [ScreenRequested("review")]


async def test_p_pauses_reverts_the_pause_and_resumes(project: Project) -> None:
    job = begin(project, JobKind.SAMPLE, f"sampling {TEACHER}/base", 20, POOL)
    messages: list[Message] = []
    async with driven(project, messages=messages, now=NOW) as pilot:
        await pilot.press("p")
        await settled(pilot)
        assert rows(project)[-1].state is JobState.PAUSING
        await until(pilot, lambda: "pausing" in job_text(pilot))
        assert "Press p to keep running" in job_text(pilot)
        await pilot.press("p")
        await settled(pilot)
        assert rows(project)[-1].state is JobState.RUNNING
        with connect(project.database) as conn:
            jobs.finish(conn, job.id, JobState.PAUSED, "paused", None, {})
        await until(pilot, lambda: "Press p to resume, k to stop." in job_text(pilot))
        assert lines(pilot)[LoopStage.SAMPLE].status is StageStatus.PAUSED
        await pilot.press("p")
        await settled(pilot)
        assert rows(project)[-1].state is JobState.QUEUED
        states = [
            message.state
            for message in posted(messages, JobChangeRequested)
            if isinstance(message, JobChangeRequested)
        ]
        assert states == [JobState.PAUSING, JobState.QUEUED, JobState.QUEUED]


async def test_a_queued_job_can_be_paused_and_stopped(project: Project) -> None:
    with connect(project.database) as conn, transaction(conn):
        jobs.enqueue(conn, JobKind.FINETUNE, {"settings": {}})
    async with driven(project) as pilot:
        await pilot.press("p")
        await settled(pilot)
        assert rows(project)[-1].state is JobState.PAUSED
        await until(pilot, lambda: "Press p to resume" in job_text(pilot))
        await pilot.press("k", "y")
        await settled(pilot)
        assert rows(project)[-1].state is JobState.CANCELLED
        await until(pilot, lambda: "cancelled" in job_text(pilot))


async def test_k_stops_the_job_after_a_confirmation(project: Project) -> None:
    begin(project, JobKind.FINETUNE, f"training {TEACHER}", 3, 10)
    async with driven(project, now=NOW) as pilot:
        await pilot.press("k")
        assert isinstance(pilot.app.screen, ConfirmScreen)
        await pilot.press("n")
        assert rows(project)[-1].state is JobState.RUNNING
        await pilot.press("k", "y")
        await settled(pilot)
        assert rows(project)[-1].state is JobState.CANCELLING
        await until(pilot, lambda: "Stopping at the next safe point" in job_text(pilot))
        await pilot.press("k")
        assert isinstance(pilot.app.screen, HomeScreen), "it is being stopped already"


@pytest.mark.parametrize("key", ["l", "L"])
async def test_the_log_is_one_key_away(project: Project, key: str) -> None:
    job = begin(project, JobKind.FINETUNE)
    async with driven(project, now=NOW) as pilot:
        await pilot.press(key)
        assert isinstance(pilot.app.screen, LogScreen)
        assert pilot.app.screen.job_id == job.id


async def test_hints_name_rebound_keys(
    tmp_path: Path,
) -> None:
    project = scripted_project(tmp_path / "p")
    async with driven(project) as pilot:
        pilot.app.set_keymap({"home.sample": "z"})
        home(pilot).reload()
        await settled(pilot)
        assert "Press z to sample" in job_text(pilot)
        await pilot.press("z")
        await settled(pilot)
        assert isinstance(pilot.app.screen, PlanScreen)


# Live panes.


async def test_a_sampling_job_shows_its_pane(project: Project) -> None:
    job = begin(project, JobKind.SAMPLE, f"sampling {TEACHER}/base", 31, POOL)
    with connect(project.database) as conn, transaction(conn):
        conn.execute("DELETE FROM vote WHERE question_id > 31")
        jobs.metrics_add(conn, job.id, 300, {"paths_per_second": 4.0, "tokens_per_second": 512.0})
    async with driven(project, now=NOW) as pilot:
        pane = home(pilot).query_one(SamplingPane)
        assert pane.display
        assert pane.snapshot is not None
        assert (pane.snapshot.settled, pane.snapshot.total) == (31, POOL)
        assert pane.snapshot.paths_per_second == 4.0
        assert pane.snapshot.seconds_left is not None
        assert pane.snapshot.seconds_left > 0
        assert pane.snapshot.latest
        assert lines(pilot)[LoopStage.SAMPLE].status is StageStatus.RUNNING
        assert lines(pilot)[LoopStage.SAMPLE].note.startswith("31/48 settled")
        assert "512 tok/s" in top_bar(pilot)
        assert not home(pilot).query_one(TrainingPane).display
        with connect(project.database) as conn, transaction(conn):
            jobs.metrics_add(conn, job.id, 400, {"paths_per_second": 8.0})
        await until(
            pilot, lambda: pane.snapshot is not None and pane.snapshot.paths_per_second == 8.0
        )


async def test_a_training_shows_its_pane(project: Project) -> None:
    job = begin(project, JobKind.FINETUNE)
    with connect(project.database) as conn:
        add_metrics(conn, job, 80, 120, 1.4, 0.4)
        me = (os.getpid(), process_start(os.getpid()), job.id)
        conn.execute("UPDATE job SET pid = ?, started_ticks = ? WHERE id = ?", me)
    async with driven(project, now=NOW) as pilot:
        pane = home(pilot).query_one(TrainingPane)
        assert pane.display
        shown = pane.snapshot
        assert shown is not None
        assert (shown.step, shown.steps) == (80, 120)
        assert len(shown.loss) == 80
        assert [step for step, _ in shown.validation] == [12, 24, 36, 48, 60, 72]
        assert shown.seconds_left is not None
        assert shown.memory is not None, "this process is the worker"
        with connect(project.database) as conn, transaction(conn):
            jobs.progress(conn, job.id, 81, 120, f"training {TEACHER}")
            jobs.metrics_add(conn, job.id, 81, {"loss": 0.5})
        await until(pilot, lambda: pane.snapshot is not None and pane.snapshot.step == 81)
        assert len(pane.snapshot.loss) == 81 if pane.snapshot else False


async def test_a_finished_training_is_shown_completely(project: Project) -> None:
    job = begin(project, JobKind.FINETUNE)
    with connect(project.database) as conn, transaction(conn):
        add_metrics(conn, job, 120, 120, 1.4, 0.4)
        jobs.enter(conn, job.id, Phase.CONVERSION, None, None)
        jobs.progress(conn, job.id, 0, 0, "writing the GGUF and comparing it")
    async with driven(project, now=NOW) as pilot:
        shown = home(pilot).query_one(TrainingPane).snapshot
        assert shown is not None
        assert (shown.step, shown.steps, shown.seconds_left) == (120, 120, None)


async def test_an_evaluation_shows_the_accuracy_so_far(project: Project) -> None:
    message = f"measuring {TEACHER}/lmsi on eval: few-shot-cot, 8 paths"
    with connect(project.database) as conn:
        model = models.by_name(conn, f"{TEACHER}/lmsi")
        assert model is not None
        (run,) = (run for run in paths.runs(conn) if (run.model_id, run.m) == (model.id, 8))
        conn.execute("DELETE FROM evaluation_answer")
        conn.execute(
            "DELETE FROM evaluation WHERE model_id = ? AND method IN ('sc', 'single')", [model.id]
        )
    begin(project, JobKind.EVALUATE, message, 30, 60, Phase.MEASURING, run)
    async with driven(project, now=NOW) as pilot:
        pane = home(pilot).query_one(EvaluationPane)
        assert pane.display
        shown = pane.snapshot
        assert shown is not None
        assert (shown.done, shown.total) == (30, 60)
        assert message in job_text(pilot)
        running_rows = [row for row in shown.rows if row.so_far]
        assert [row.model for row in running_rows] == [f"{TEACHER}/lmsi"] * 2
        assert {row.n for row in running_rows} == {60}
        first = running_rows[0]
        beside = [row for row in shown.rows if row.label == first.label]
        assert beside[0].model == f"{TEACHER}/base", "the model before comes first"
        assert shown.rows[0].label == first.label, "what runs comes first"


async def test_the_name_of_a_model_does_not_change_what_is_shown(
    project: Project,
) -> None:
    name = "x on y: few-shot-cot, greedy"
    with connect(project.database) as conn:
        model = models.by_name(conn, f"{TEACHER}/lmsi")
        assert model is not None
        conn.execute("UPDATE model SET name = ? WHERE id = ?", [name, model.id])
        (run,) = (run for run in paths.runs(conn) if (run.model_id, run.m) == (model.id, 8))
    begin(project, JobKind.ROUND, f"measuring {name} on eval", 30, 60, Phase.MEASURING, run)
    async with driven(project, now=NOW) as pilot:
        shown = home(pilot).query_one(EvaluationPane).snapshot
        assert shown is not None
        assert {row.model for row in shown.rows if row.so_far} == {name}
        assert {row.n for row in shown.rows if row.so_far} == {60}


async def test_the_final_accuracy_so_far_equals_the_evaluation(
    project: Project,
) -> None:
    from engine.evaluation.accuracy import score
    from lmsi_tui.home.snapshots import _so_far

    with connect(project.database) as conn:
        all_models = models.all_of(conn)
        for run in paths.runs(conn):
            if run.split is Split.EVAL:
                eval_questions = questions.by_split(conn, Split.EVAL)
                final = score(conn, run, eval_questions, keep=False)
                so_far = _so_far(conn, run, all_models)
                assert [(row.n, row.correct) for row in so_far] == [
                    (row.n, row.correct) for row in final
                ]


async def test_a_failed_job_says_why_and_what_to_press(project: Project) -> None:
    job = begin(project, JobKind.FINETUNE)
    with connect(project.database) as conn:
        jobs.finish(conn, job.id, JobState.FAILED, "failed", "Memory [/b] ran out.", {})
        conn.execute("UPDATE job SET finished_at = ? WHERE id = ?", [NOW, job.id])
    async with driven(project, now=NOW) as pilot:
        assert "Memory [/b] ran out." in job_text(pilot)
        assert "Press p to retry, l for the log." in job_text(pilot)
        assert lines(pilot)[LoopStage.FINETUNE].status is StageStatus.FAILED
        await pilot.press("p")
        await settled(pilot)
        assert rows(project)[-1].state is JobState.QUEUED
        assert rows(project)[-1].kind is JobKind.FINETUNE


async def test_a_silent_worker_is_reported(project: Project) -> None:
    begin(project, JobKind.FINETUNE, f"training {TEACHER}", 3, 10)
    async with driven(project, now=NOW + 90) as pilot:
        assert "for 90 seconds" in job_text(pilot)


async def test_queued_jobs_are_counted(project: Project) -> None:
    begin(project, JobKind.FINETUNE)
    with connect(project.database) as conn, transaction(conn):
        jobs.enqueue(conn, JobKind.DISTILL, {"settings": {}})
    async with driven(project, now=NOW) as pilot:
        assert "running · 1 waiting" in job_text(pilot)


ROUND_AT = [
    (Phase.SAMPLING, JobKind.SAMPLE, SamplingPane, LoopStage.SAMPLE),
    (Phase.EXTRACTION, JobKind.VOTE, SamplingPane, LoopStage.VOTE),
    (Phase.CURATION, JobKind.CURATE, SamplingPane, LoopStage.TRAINING_SET),
    (None, JobKind.CURATE, SamplingPane, LoopStage.TRAINING_SET),
    (Phase.MEASURING, JobKind.EVALUATE, EvaluationPane, LoopStage.EVALUATE),
    (Phase.TRAINING, JobKind.FINETUNE, TrainingPane, LoopStage.FINETUNE),
    (Phase.CONVERSION, JobKind.FINETUNE, TrainingPane, LoopStage.FINETUNE),
    (Phase.SCORING, JobKind.DISTILL, TrainingPane, LoopStage.DISTILL),
]


@pytest.mark.parametrize(("phase", "kind", "pane", "place"), ROUND_AT)
async def test_a_round_shows_its_current_stage(
    project: Project,
    phase: Phase | None,
    kind: JobKind,
    pane: type[SamplingPane | EvaluationPane | TrainingPane],
    place: LoopStage,
) -> None:
    job = begin(project, JobKind.ROUND, "at work", 1, 2, phase)
    assert stage_of(job) is kind
    async with driven(project, now=NOW) as pilot:
        assert [pane for pane in home(pilot).query("SnapshotPane") if pane.display] == [
            home(pilot).query_one(pane)
        ]
        assert lines(pilot)[place].status is StageStatus.RUNNING
        assert live_title_of(pilot) == f"whole loop · {title(kind)}"


def live_title_of(pilot: Pilot[None]) -> str:
    return str(home(pilot).query_one("#live").border_title)


@pytest.mark.parametrize("kind", list(JobKind))
async def test_the_right_pane_is_titled_after_the_job_that_it_shows(
    kind: JobKind, project: Project
) -> None:
    job = begin(project, kind, "at work", 1, 2, None)
    with connect(project.database) as conn:
        jobs.finish(conn, job.id, JobState.DONE, "done", None, {})
    async with driven(project, now=NOW) as pilot:
        assert live_title_of(pilot) == title(kind)


# A real worker.


async def test_a_sampling_from_the_first_key_to_its_end(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "p")
    async with driven(project) as pilot:
        assert lines(pilot)[LoopStage.SAMPLE].status is StageStatus.EMPTY
        await pilot.press("s")
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        await until(pilot, lambda: rows(project)[-1].state is JobState.DONE)
        await until(pilot, lambda: lines(pilot)[LoopStage.SAMPLE].status is StageStatus.DONE)
        assert lines(pilot)[LoopStage.SAMPLE].note.startswith("12/12 settled")
        assert "Press c to freeze the training set" in job_text(pilot)
        assert home(pilot).query_one(SamplingPane).display
    (job,) = rows(project)
    assert (job.kind, job.params) == (JobKind.SAMPLE, {"settings": {}})


@pytest.mark.parametrize("size", [(40, 16), (60, 20), (80, 24), (120, 36), (200, 50), (220, 60)])
async def test_the_screen_fits(project: Project, size: tuple[int, int]) -> None:
    begin(project, JobKind.SAMPLE, f"sampling {TEACHER}/base", 20, POOL)
    async with driven(project, size=size, now=NOW) as pilot:
        loop, live = home(pilot).query_one("#loop"), home(pilot).query_one("#live")
        assert loop.region.right <= size[0]
        assert home(pilot).query_one(StageList).size.height >= 8, "every stage has a line"
        assert live.region.bottom == size[1] - 1
        if size[0] < 72:
            assert live.region.y == loop.region.bottom
        else:
            assert loop.region.height == size[1] - 2
            assert live.region.right == size[0]
            assert live.region.width >= size[0] // 2
