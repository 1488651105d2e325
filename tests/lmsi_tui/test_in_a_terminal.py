"""The whole loop by key presses alone, in a real terminal, on the real demo.

The assertions are about the store: exactly the decisions that were pressed, and each stage run
once. Then the app is killed in the middle of a fine-tune, and opened again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from engine.jobs.launch import is_alive
from engine.project.folder import open_project
from store import jobs, paths, questions, reviews, votes
from store.connection import connect
from store.enums import JobKind, JobState, Queue, Split, Verdict
from store.queue import QueueFilter, Sort, order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engine.project.folder import Project
    from store.records import Job, Run

TMUX = shutil.which("tmux") or ""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TMUX, reason="needs tmux, a real terminal"),
]

PATIENCE = 600.0
"""Timeout in seconds; a fine-tune takes minutes."""
SIZES = (
    *("--pool", "120", "--eval", "40"),
    *("--set", "sample.m=16", "--set", "evaluate.k=4", "--set", "sample.threshold=0.6"),
)
"""A demo that takes minutes and leaves enough doubtful questions."""
SHORT = ("--set", "finetune.epochs=1", "--set", "distill.epochs=1")
LONG = ("--set", "finetune.epochs=8")
"""A fine-tune long enough to be running when the app is opened again."""


class Tmux:
    """A terminal of 120 by 36 that runs one command, on its own tmux server."""

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "tmux")

    def _do(self, *words: str) -> str:
        # The terminal has its own size; a size in the environment would override it.
        environment = {
            name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")
        }
        ran = subprocess.run(
            [TMUX, "-S", self._socket, "-f", "/dev/null", *words],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        return ran.stdout

    def start(self, *command: str) -> None:
        """Run a program in the terminal."""
        self._do("new-session", "-d", "-x", "120", "-y", "36", "-s", "lmsi", *command)

    @property
    def screen(self) -> str:
        """The text on the terminal."""
        return self._do("capture-pane", "-p", "-t", "lmsi")

    @property
    def pid(self) -> int:
        """The process id of the app."""
        return int(self._do("display-message", "-p", "-t", "lmsi", "#{pane_pid}"))

    @property
    def is_running(self) -> bool:
        """Whether the app is still running."""
        return bool(self._do("list-sessions"))

    def press(self, *keys: str) -> None:
        """Send keys, by tmux's names."""
        self._do("send-keys", "-t", "lmsi", *keys)

    def write(self, text: str) -> None:
        """Send text without interpreting it as keys."""
        self._do("send-keys", "-t", "lmsi", "-l", text)

    def shows(self, *words: str) -> None:
        """Wait until the terminal shows all of these."""
        until(lambda: all(word in self.screen for word in words), lambda: self.screen)

    def close(self) -> None:
        """Kill the server and the command in it."""
        self._do("kill-server")


def until(holds: Callable[[], bool], shown: Callable[[], str] = lambda: "") -> None:
    """Wait for another process, polling ten times a second."""
    end = time.monotonic() + PATIENCE
    never = threading.Event()
    while not holds():
        assert time.monotonic() < end, shown()
        never.wait(0.1)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Tmux]:
    made = Tmux(tmp_path)
    yield made
    made.close()


def start_demo(terminal: Tmux, folder: Path, *settings: str) -> Project:
    terminal.start(sys.executable, "-m", "lmsi_tui", "demo", str(folder), *SIZES, *settings)
    terminal.shows("Questions", "Sample", "Distill")
    return open_project(folder)


def do_stage(terminal: Tmux, project: Project, key: str, kind: JobKind) -> Job:
    """Press the key of a stage, see its plan, start it, and wait until it is done."""
    before = {job.id for job in all_jobs(project)}
    terminal.press(key)
    terminal.shows("plan", "Enter starts")
    terminal.press("Enter")
    until(lambda: ended(project, before) is not None, lambda: terminal.screen)
    job = ended(project, before)
    assert job is not None
    assert (job.kind, job.state) == (kind, JobState.DONE), job.error
    return job


def all_jobs(project: Project) -> list[Job]:
    with connect(project.database, read_only=True) as conn:
        return jobs.all_of(conn)


def ended(project: Project, before: set[int]) -> Job | None:
    done = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)
    for job in all_jobs(project):
        if job.id not in before and job.state in done:
            return job
    return None


def pool_run(project: Project) -> Run:
    with connect(project.database, read_only=True) as conn:
        (run,) = [run for run in paths.runs(conn) if run.split is Split.POOL]
    return run


def reviewed(project: Project) -> list[tuple[Queue, Verdict, int, str | None]]:
    with connect(project.database, read_only=True) as conn:
        return [
            (row.queue, row.verdict, row.question_id, row.answer)
            for row in reviews.history(conn, pool_run(project).id)
        ]


def test_the_whole_loop_by_key_presses(terminal: Tmux, tmp_path: Path) -> None:
    project = start_demo(terminal, tmp_path / "demo", *SHORT)
    do_stage(terminal, project, "s", JobKind.SAMPLE)
    expected = review_five(terminal, project)
    assert reviewed(project) == expected

    terminal.press("Escape")
    terminal.shows("Questions", "Distill")
    do_stage(terminal, project, "c", JobKind.CURATE)
    do_stage(terminal, project, "f", JobKind.FINETUNE)
    do_stage(terminal, project, "e", JobKind.EVALUATE)
    do_stage(terminal, project, "d", JobKind.DISTILL)
    do_stage(terminal, project, "e", JobKind.EVALUATE)
    terminal.press("q")
    until(lambda: not terminal.is_running, lambda: terminal.screen)

    kinds = [job.kind for job in all_jobs(project)]
    assert kinds == ["sample", "curate", "finetune", "evaluate", "distill", "evaluate"]
    assert reviewed(project) == expected


def review_five(terminal: Tmux, project: Project) -> list[tuple[Queue, Verdict, int, str | None]]:
    """Accept a majority, pick another answer, type one, skip one, and take the skip back."""
    run = pool_run(project)
    with connect(project.database, read_only=True) as conn:
        doubtful = list(order(conn, run.id, QueueFilter(), Sort.MARGIN))
        votes_of = {row.question_id: row for row in votes.for_run(conn, run.id)}
        texts = {row.id: row.text for row in questions.by_split(conn, Split.POOL)}
    assert len(doubtful) >= 6, "the demo leaves some questions doubtful"
    has_majority = [id_ for id_ in doubtful if votes_of[id_].winner is not None]
    accepted = has_majority[0]

    def sees(id_: int) -> None:
        terminal.shows(" ".join(texts[id_].split()[:5]))

    terminal.press("r")
    sees(doubtful[0])
    for id_ in doubtful[1 : doubtful.index(accepted) + 1]:
        terminal.press("n")
        sees(id_)
    terminal.press("a")
    left = [id_ for id_ in doubtful if id_ != accepted]
    at = doubtful.index(accepted)
    other, typed, skipped = left[at], left[at + 1], left[at + 2]
    sees(other)
    terminal.press("2")
    sees(typed)
    terminal.press("t")
    terminal.shows("type")
    terminal.write("1234")
    terminal.press("Enter")
    sees(skipped)
    terminal.press("Space")
    sees(left[at + 3])
    terminal.press("u")
    sees(skipped)
    until(lambda: len(reviewed(project)) == 5, lambda: terminal.screen)
    return [
        (Queue.TRIAGE, Verdict.MAJORITY, accepted, None),
        (Queue.TRIAGE, Verdict.ANSWER, other, votes_of[other].tally[1][0]),
        (Queue.TRIAGE, Verdict.TYPED, typed, "1234"),
        (Queue.TRIAGE, Verdict.SKIP, skipped, None),
        (Queue.TRIAGE, Verdict.UNDO, skipped, None),
    ]


def test_a_restarted_app_shows_the_running_fine_tune(terminal: Tmux, tmp_path: Path) -> None:
    project = start_demo(terminal, tmp_path / "demo", *LONG)
    do_stage(terminal, project, "s", JobKind.SAMPLE)
    do_stage(terminal, project, "c", JobKind.CURATE)
    terminal.press("F")
    until(
        lambda: any(row.kind is JobKind.FINETUNE and row.done for row in all_jobs(project)),
        lambda: terminal.screen,
    )

    os.kill(terminal.pid, signal.SIGKILL)
    until(lambda: not terminal.is_running)
    job = all_jobs(project)[-1]
    assert job.state is JobState.RUNNING
    assert job.pid is not None
    assert job.started_ticks is not None
    assert is_alive(job.pid, job.started_ticks), "the worker outlives the app"

    terminal.start(sys.executable, "-m", "lmsi_tui", str(project.folder))
    terminal.shows("fine-tune", "running")
    until(lambda: all_jobs(project)[-1].state is JobState.DONE, lambda: terminal.screen)
    assert len([row for row in all_jobs(project) if row.kind is JobKind.FINETUNE]) == 1
    terminal.press("q")
    until(lambda: not terminal.is_running, lambda: terminal.screen)
