"""Measure the app beside a worker at full load, on a project of 1.6 million paths.

    python -m benchmarks.app                      # first makes the project: some minutes, 2 GB
    python -m benchmarks.app --questions 5000     # a quick run

In a pseudo-terminal, while the project's worker samples with pebble-l on every core:

* time from process start to the first painted screen, compared with an empty Textual app; the two
  start in turns;
* additional time to an open review queue (`lmsi-tui review`);
* time from a key press to its effect on the screen in review;
* memory of the app's process.
"""

from __future__ import annotations

import argparse
import compileall
import random
import re
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.terminal import Terminal
from engine.answers import extraction
from engine.demo.project import make_demo
from engine.jobs.launch import ensure_worker
from engine.project.folder import Project, open_project
from engine.project.job_context import Progress, Work
from engine.sampling.runs import open_pool_run
from engine.voting import majority
from store import jobs, models, questions, votes
from store.connection import connect, transaction
from store.enums import AnswerType, JobKind, JobState, Split
from store.paths import pack_tokens
from store.records import Question, Run, question_key

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[1]
M = 16
WORK_LEFT = 4000
"""Questions of the demo that the worker still has to sample: its load during the measurement."""
BATCH = 2000
EMPTY = """
from textual.app import App
from textual.widgets import Static
class Empty(App):
    def compose(self):
        yield Static("nothing else")
Empty().run()
"""
TARGETS = {
    "first paint / empty app": 1.5,
    "queue after paint, s": 0.15,
    "p95, ms": 50,
    "memory, MB": 150,
}


def main() -> int:
    """Make the project if necessary, then measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--starts", type=int, default=15)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--project", type=Path)
    parser.add_argument("--idle", action="store_true", help="without a busy worker")
    args = parser.parse_args()
    folder = args.project or Path(tempfile.gettempdir()) / f"lmsi-bench-{args.questions}"
    project = large_project(folder, args.questions)
    if not args.idle:
        keep_busy(project)
    try:
        measure(project, args.starts, args.keys)
    finally:
        stop_work(project)
    return 0


# The project.


def large_project(folder: Path, count: int) -> Project:
    """A demo with `count` additional questions of 16 paths each and their votes; made once."""
    if (folder / "made").exists():
        return open_project(folder)
    start_time = time.monotonic()
    project = make_demo(folder, pool=WORK_LEFT, evaluation=20)
    project = replace(
        project,
        settings=replace(project.settings, sample=replace(project.settings.sample, m=M)),
    )
    (folder / "lmsi.toml").write_text(
        (folder / "lmsi.toml").read_text().replace("m = 32", f"m = {M}")
    )
    rng = random.Random(0)
    with connect(project.database) as conn:
        run = _run(project, conn)
        for start in range(0, count, BATCH):
            with transaction(conn):
                _fill(conn, run, range(start, min(count, start + BATCH)), rng)
    (folder / "made").touch()
    print(
        f"made {count:,} questions x {M} paths in {time.monotonic() - start_time:.0f} s", flush=True
    )
    return project


def _run(project: Project, conn: sqlite3.Connection) -> Run:
    with transaction(conn):
        job, _ = jobs.enqueue(conn, JobKind.VOTE, {"settings": {}})
    jobs.claim(conn, 1, 1)
    work = Work(project, conn, Progress(conn, job.id), {"settings": {}})
    teacher = models.by_name(conn, project.settings.model.teacher)
    assert teacher is not None
    run = open_pool_run(work, teacher)
    with transaction(conn):
        jobs.finish(conn, job.id, JobState.CANCELLED, "not part of the measurement", None, {})
    return run


def _fill(conn: sqlite3.Connection, run: Run, numbers: range, rng: random.Random) -> None:
    """Add questions with their paths, readings and votes; a third of the votes are doubtful."""
    new_questions = [_question(number) for number in numbers]
    questions.add(conn, new_questions, {})
    by_key = dict(
        conn.execute("SELECT key, id FROM question WHERE position >= ?", [10_000_000 + numbers[0]])
    )
    reader = extraction.reader_name(AnswerType.NUMBER)
    new_votes = []
    for question in new_questions:
        id_ = by_key[question.key]
        share = 0.75 if rng.random() < 2 / 3 else 0.2
        answers = [
            str(18)
            if rng.random() < share
            else str(rng.randint(3, 40))
            if rng.random() < 0.97
            else None
            for _ in range(M)
        ]
        for index, answer in enumerate(answers):
            text = _path(rng, answer)
            cursor = conn.execute(
                'INSERT INTO path (run_id, question_id, "index", text, token_ids, "end",'
                " finished_at) VALUES (?, ?, ?, ?, ?, 'end', 1790000000.0)",
                (run.id, id_, index, text, pack_tokens(range(60))),
            )
            conn.execute(
                "INSERT INTO reading VALUES (?, ?, ?, ?, ?)",
                (cursor.lastrowid, reader, answer, answer, None if answer else "no-answer"),
            )
        new_votes.append(
            majority.count_vote(
                answers,
                run_id=run.id,
                question_id=id_,
                m=M,
                rule=run.early_stop,
                threshold=run.threshold,
                cap=run.cap,
                epsilon=run.epsilon,
                reader=reader,
            )
        )
    votes.put(conn, new_votes)


def _question(number: int) -> Question:
    text = (
        f"Parcel {number} weighs {number % 37 + 3} kilograms. A cart takes {number % 5 + 2} such "
        "parcels and weighs 12 kilograms itself. How much do the loaded cart and a driver of "
        f"{number % 40 + 50} kilograms weigh together?"
    )
    return Question(
        id=0,
        key=question_key("pebble", text, (), ""),
        split=Split.POOL,
        source="parcels",
        position=10_000_000 + number,
        task="pebble",
        answer_type=AnswerType.NUMBER,
        text=text,
    )


def _path(rng: random.Random, answer: str | None) -> str:
    steps = [
        f" The parcels weigh {rng.randint(2, 9)} x {rng.randint(3, 40)} kilograms together.",
        f" With the cart that is {rng.randint(20, 200)} kilograms.",
        f" The driver adds {rng.randint(50, 90)} kilograms to it.",
    ]
    return "".join(steps[: rng.randint(1, 3)]) + (f" The answer is {answer}." if answer else " ...")


# The load.


def keep_busy(project: Project) -> None:
    """Start a sampling job, and wait until the worker samples."""
    with connect(project.database) as conn:
        with transaction(conn):
            job, _ = jobs.enqueue(conn, JobKind.SAMPLE, {"settings": {}})
        ensure_worker(project.folder)
        before = len(jobs.metrics(conn, job.id))
        while len(jobs.metrics(conn, job.id)) < before + 3:
            if jobs.get(conn, job.id).state not in (JobState.QUEUED, JobState.RUNNING):
                raise SystemExit(f"the job ended: {jobs.get(conn, job.id)}")
            time.sleep(0.5)
        rates = {metric.name: metric.value for metric in jobs.metrics(conn, job.id)[-4:]}
        print(f"the worker samples: {rates['paths_per_second']:.1f} paths/s", flush=True)


def stop_work(project: Project) -> None:
    """Pause the job, so that the next measurement can resume it."""
    with connect(project.database) as conn, transaction(conn):
        for job in jobs.unfinished(conn):
            jobs.request(conn, job.id, JobState.PAUSING)


# The measurements.


def measure(project: Project, starts: int, keys: int) -> None:
    """Print every measurement with its target."""
    # As in an installed package, modules are not compiled again at every start.
    for package in ("store", "engine", "lmsi_tui"):
        compileall.compile_dir(ROOT / package, quiet=1)
    app = [sys.executable, "-m", "lmsi_tui"]
    arms: dict[str, tuple[Sequence[str], Callable[[str], bool]]] = {
        "empty": ([sys.executable, "-c", EMPTY], lambda text: "nothing else" in text),
        "home": ([*app, str(project.folder)], is_home),
        "review": ([*app, "review", str(project.folder)], is_review),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(starts):
        for name, (command, is_painted) in arms.items():
            terminal = Terminal(command)
            times[name].append(terminal.until(is_painted) - terminal.started)
            terminal.close()
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    for name, seconds in times.items():
        print(
            f"{name:8} {medians[name]:.3f} s   from {min(seconds):.3f} to {max(seconds):.3f}, "
            f"n {starts}"
        )
    ratios = [home / empty for home, empty in zip(times["home"], times["empty"], strict=True)]
    print_result("first paint / empty app", statistics.median(ratios))
    print_result("queue after paint, s", medians["review"] - medians["home"])

    terminal = Terminal([*app, "review", str(project.folder)])
    terminal.until(is_review)
    terminal.drain(2.0)
    latencies = []
    for number in range(keys):
        before = position(terminal.text)
        pressed = terminal.press(b" " if number % 4 else b"1")
        latencies.append(1000 * (terminal.until(partial(moved, before)) - pressed))
        terminal.drain(0.15)
    latencies.sort()
    memory = psutil.Process(terminal.pid).memory_full_info()
    terminal.close()
    print(
        f"key to paint: median {statistics.median(latencies):.1f} ms, n {keys}, "
        f"worst {latencies[-1]:.1f}"
    )
    print_result("p95, ms", latencies[int(0.95 * (len(latencies) - 1))])
    print_result("memory, MB", memory.uss / 1e6)
    print(f"(resident, shared pages included: {memory.rss / 1e6:.0f} MB)")


def print_result(name: str, value: float) -> None:
    """Print a measurement and its target."""
    target = TARGETS[name]
    print(
        f"{name:26} {value:8.2f}   target {target:g}   {'met' if value <= target else 'MISSED'}",
        flush=True,
    )


def is_home(text: str) -> bool:
    """Whether the stages of the home screen are painted."""
    return "Questions" in text and "Distil" in text


def position(text: str) -> tuple[str, str]:
    """The position in the queue, and the first line of the question."""
    match = re.search(r"([\d,]+) of ([\d,]+)", text)
    lines = text.splitlines()
    return (match[0] if match else "", lines[1].strip() if len(lines) > 1 else "")


def is_review(text: str) -> bool:
    """Whether a question is painted with its paths."""
    return all(position(text)) and "path 1 of" in text


def moved(before: tuple[str, str], text: str) -> bool:
    """Whether a different question is painted."""
    return is_review(text) and position(text)[1] != before[1]


if __name__ == "__main__":
    sys.exit(main())
