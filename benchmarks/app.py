"""How fast the app is beside a worker at full load, on a project of 1.6 million paths.

    python -m benchmarks.app                      # makes the project first: some minutes, 2 GB
    python -m benchmarks.app --questions 5000     # a look

In a real pseudo-terminal, while the project's worker samples with pebble-l on every core:

* time from process start to the first painted screen, beside an empty Textual app (the peer),
  started in turn;
* time from there to an open review queue (`lmsi-tui review`);
* time from a key to what it paints in review;
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
"""Questions of the demo's own that the worker still has to sample: its load for the whole time."""
BATCH = 2000
EMPTY = """
from textual.app import App
from textual.widgets import Static
class Empty(App):
    def compose(self):
        yield Static("nothing else")
Empty().run()
"""
AIMS = {
    "first paint / empty app": 1.5,
    "queue after paint, s": 0.15,
    "p95, ms": 50,
    "memory, MB": 150,
}


def main() -> int:
    """Make the project where it is not there, then measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--starts", type=int, default=15)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--project", type=Path)
    parser.add_argument("--idle", action="store_true", help="without the worker's load")
    asked = parser.parse_args()
    folder = asked.project or Path(tempfile.gettempdir()) / f"lmsi-bench-{asked.questions}"
    project = large_project(folder, asked.questions)
    if not asked.idle:
        keep_busy(project)
    try:
        measure(project, asked.starts, asked.keys)
    finally:
        stop_work(project)
    return 0


# The project.


def large_project(folder: Path, count: int) -> Project:
    """A demo with `count` more questions of 16 paths each, voted on; made once."""
    if (folder / "made").exists():
        return open_project(folder)
    began = time.monotonic()
    project = make_demo(folder, pool=WORK_LEFT, evaluation=20)
    project = replace(
        project,
        settings=replace(project.settings, sample=replace(project.settings.sample, m=M)),
    )
    (folder / "lmsi.toml").write_text(
        (folder / "lmsi.toml").read_text().replace("m = 32", f"m = {M}")
    )
    dice = random.Random(0)
    with connect(project.database) as conn:
        run = _run(project, conn)
        for start in range(0, count, BATCH):
            with transaction(conn):
                _fill(conn, run, range(start, min(count, start + BATCH)), dice)
    (folder / "made").touch()
    print(f"made {count:,} questions x {M} paths in {time.monotonic() - began:.0f} s", flush=True)
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


def _fill(conn: sqlite3.Connection, run: Run, numbers: range, dice: random.Random) -> None:
    """Questions with their paths, readings and votes; a third of them are doubtful."""
    asked = [_question(number) for number in numbers]
    questions.add(conn, asked, {})
    by_key = dict(
        conn.execute("SELECT key, id FROM question WHERE position >= ?", [10_000_000 + numbers[0]])
    )
    reader = extraction.reader_name(AnswerType.NUMBER)
    counted = []
    for question in asked:
        id_ = by_key[question.key]
        sure = 0.75 if dice.random() < 2 / 3 else 0.2
        said = [
            str(18)
            if dice.random() < sure
            else str(dice.randint(3, 40))
            if dice.random() < 0.97
            else None
            for _ in range(M)
        ]
        for index, answer in enumerate(said):
            text = _path(dice, answer)
            cursor = conn.execute(
                'INSERT INTO path (run_id, question_id, "index", text, token_ids, "end",'
                " finished_at) VALUES (?, ?, ?, ?, ?, 'end', 1790000000.0)",
                (run.id, id_, index, text, pack_tokens(range(60))),
            )
            conn.execute(
                "INSERT INTO reading VALUES (?, ?, ?, ?, ?)",
                (cursor.lastrowid, reader, answer, answer, None if answer else "no-answer"),
            )
        counted.append(
            majority.count_vote(
                said,
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
    votes.put(conn, counted)


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


def _path(dice: random.Random, answer: str | None) -> str:
    steps = [
        f" The parcels weigh {dice.randint(2, 9)} x {dice.randint(3, 40)} kilograms together.",
        f" With the cart that is {dice.randint(20, 200)} kilograms.",
        f" The driver adds {dice.randint(50, 90)} kilograms to it.",
    ]
    return "".join(steps[: dice.randint(1, 3)]) + (
        f" The answer is {answer}." if answer else " ..."
    )


# The load.


def keep_busy(project: Project) -> None:
    """Let the worker sample, and wait until it does."""
    with connect(project.database) as conn:
        with transaction(conn):
            job, _ = jobs.enqueue(conn, JobKind.SAMPLE, {"settings": {}})
        ensure_worker(project.folder)
        known = len(jobs.metrics(conn, job.id))
        while len(jobs.metrics(conn, job.id)) < known + 3:
            if jobs.get(conn, job.id).state not in (JobState.QUEUED, JobState.RUNNING):
                raise SystemExit(f"the load ended: {jobs.get(conn, job.id)}")
            time.sleep(0.5)
        rates = {one.name: one.value for one in jobs.metrics(conn, job.id)[-4:]}
        print(f"the worker samples: {rates['paths_per_second']:.1f} paths/s", flush=True)


def stop_work(project: Project) -> None:
    """Pause the job, so that the next measurement can go on with it."""
    with connect(project.database) as conn, transaction(conn):
        for job in jobs.unfinished(conn):
            jobs.request(conn, job.id, JobState.PAUSING)


# The measurements.


def measure(project: Project, starts: int, keys: int) -> None:
    """Print every figure with what it should be."""
    # As an installed program is: its modules are not compiled again at every start.
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
        for name, (command, painted) in arms.items():
            terminal = Terminal(command)
            times[name].append(terminal.until(painted) - terminal.began)
            terminal.close()
    middle = {name: statistics.median(some) for name, some in times.items()}
    for name, some in times.items():
        print(
            f"{name:8} {middle[name]:.3f} s   from {min(some):.3f} to {max(some):.3f}, n {starts}"
        )
    ratios = [home / empty for home, empty in zip(times["home"], times["empty"], strict=True)]
    say("first paint / empty app", statistics.median(ratios))
    say("queue after paint, s", middle["review"] - middle["home"])

    terminal = Terminal([*app, "review", str(project.folder)])
    terminal.until(is_review)
    terminal.drain(2.0)
    spent = []
    for number in range(keys):
        before = position(terminal.text)
        pressed = terminal.press(b" " if number % 4 else b"1")
        spent.append(1000 * (terminal.until(partial(moved, before)) - pressed))
        terminal.drain(0.15)
    spent.sort()
    memory = psutil.Process(terminal.pid).memory_full_info()
    terminal.close()
    print(
        f"key to paint: median {statistics.median(spent):.1f} ms, n {keys}, worst {spent[-1]:.1f}"
    )
    say("p95, ms", spent[int(0.95 * (len(spent) - 1))])
    say("memory, MB", memory.uss / 1e6)
    print(f"(resident, shared pages included: {memory.rss / 1e6:.0f} MB)")


def say(name: str, value: float) -> None:
    """A figure beside its aim."""
    aim = AIMS[name]
    print(
        f"{name:26} {value:8.2f}   aim {aim:g}   {'met' if value <= aim else 'MISSED'}", flush=True
    )


def is_home(text: str) -> bool:
    """Whether the loop's stages are painted."""
    return "Questions" in text and "Distil" in text


def position(text: str) -> tuple[str, str]:
    """Where in the queue the screen is, and the beginning of the question below it."""
    found = re.search(r"([\d,]+) of ([\d,]+)", text)
    lines = text.splitlines()
    return (found[0] if found else "", lines[1].strip() if len(lines) > 1 else "")


def is_review(text: str) -> bool:
    """Whether a doubtful question is painted, with its paths."""
    return all(position(text)) and "path 1 of" in text


def moved(before: tuple[str, str], text: str) -> bool:
    """Whether another question is painted."""
    return is_review(text) and position(text)[1] != before[1]


if __name__ == "__main__":
    sys.exit(main())
