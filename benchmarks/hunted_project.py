"""A project on which commands run, and whose processes are killed: its files, processes, checks."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil

from benchmarks import integrity
from benchmarks.integrity import MARK, Faults, Journal
from benchmarks.terminal import Terminal
from store import questions
from store.connection import DATABASE, connect, transaction
from store.enums import AnswerType, Split
from store.records import question_key
from tests.projects import a_question, a_script, scripted_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

LMSI = (sys.executable, "-m", "lmsi_tui")
SIZES = (
    *("--pool", "48", "--eval", "12", "--set", "sample.m=8", "--set", "evaluate.ood=false"),
    *("--set", "evaluate.k=3", "--set", "finetune.epochs=1", "--set", "distill.epochs=1"),
    *("--set", "model.engine=llama.cpp"),
)
"""A demo in which every command takes seconds."""
ENDS_SECONDS = 60.0
"""How long the worker may live after the last job; it ends after two idle seconds."""


class HuntedProject:
    """A project and what is running on it."""

    def __init__(self, folder: Path, outside: Path) -> None:
        """Args:
        folder: of the project.
        outside: for files that are not part of it.
        """
        self.folder = folder
        self.outside = outside
        self._left: set[Path] = set()
        """Files in `scratch` that were reported."""
        self.scratch = outside / f"{folder.name}-tmp"
        self.scratch.mkdir(parents=True, exist_ok=True)
        config = outside / "config"
        config.mkdir(exist_ok=True)
        self.environment = os.environ | {
            MARK: str(folder.resolve()),
            # One thread, so that the undisturbed sums are the same; and the machine stays usable.
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(self.scratch),
            "XDG_CONFIG_HOME": str(config),
            "TEXTUAL_ANIMATIONS": "none",
        }
        self.log = (outside / f"{folder.name}.log").open("ab")

    def close(self) -> None:
        """Close the log of the commands."""
        self.log.close()

    @property
    def database(self) -> Path:
        """The project's database."""
        return self.folder / DATABASE

    def start(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own."""
        self.log.write(f"$ {' '.join(arguments)}\n".encode())
        self.log.flush()
        return subprocess.Popen(
            [*LMSI, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )

    def run(self, arguments: Sequence[str]) -> float:
        """Run a command undisturbed, and return its seconds.

        Raises:
            RuntimeError: it failed.
        """
        began = time.monotonic()
        process = self.start(arguments)
        if process.wait():
            raise RuntimeError(
                f"{' '.join(arguments)} ended with {process.returncode}: {self.log.name}"
            )
        return time.monotonic() - began

    def open_app(self, arguments: Sequence[str]) -> Terminal:
        """Open the app in a pseudo-terminal."""
        with _environment(self.environment):
            return Terminal([*LMSI, *arguments])

    def workers(self) -> list[psutil.Process]:
        """The project's workers: at most one has the lock, another may be about to end."""
        found = []
        for process in integrity.processes_of(self.folder):
            with contextlib.suppress(psutil.Error):
                if "engine.jobs.worker" in process.cmdline():
                    found.append(process)
        return found

    def kill_workers(self) -> int:
        """Kill -9 of the workers, but not of their children; returns how many were killed."""
        killed = 0
        for worker in self.workers():
            with contextlib.suppress(psutil.Error):
                worker.kill()
                worker.wait(10)
                killed += 1
        return killed

    def wait_for_rest(self) -> bool:
        """Wait until the worker has ended; False if it does not end."""
        until = time.monotonic() + ENDS_SECONDS
        while self.workers():
            if time.monotonic() > until:
                return False
            time.sleep(0.2)
        return True

    def check(self, journal: Journal, faults: Faults, roots: Sequence[int]) -> None:
        """Every check that must hold at any moment."""
        integrity.check_orphans(self.folder, roots, faults)
        if not self.database.exists():
            return
        journal.look()
        integrity.check_database(self.database, journal.read(), faults)
        integrity.check_files(self.folder, faults, at_rest=False)
        integrity.check_exports(self.folder, faults)

    def check_at_rest(self, journal: Journal, faults: Faults) -> None:
        """Every check, after the last job has ended and the worker has gone."""
        if not self.wait_for_rest():
            faults.add("stuck", "the worker does not end")
        self.check(journal, faults, ())
        integrity.check_jobs(self.database, faults, all_ended=True)
        integrity.check_files(self.folder, faults, at_rest=True)
        for path in self.scratch.iterdir():
            # torch makes an empty folder once, always under the same name.
            if not (path.name.startswith("torchinductor_") or path in self._left):
                faults.add("leftovers", str(path))
                self._left.add(path)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def make_demo(project: HuntedProject) -> None:
    """A small demo project."""
    project.run(["demo", str(project.folder), "--only-make", *SIZES])


def make_scripted(project: HuntedProject) -> None:
    """A project with a scripted model, whose answers are numbers and expressions."""
    scripted_project(project.folder, pool=200, changes={"sample": {"m": 16}})
    numbers = [a_question(number) for number in range(200)]
    measured = [a_question(number, Split.EVAL) for number in range(8)]
    expressions = []
    for number in range(1000, 1016):
        asked = a_question(number, answer_type=AnswerType.MATH, task="math")
        key = question_key(asked.task, asked.text, (), "")
        expressions.append(replace(asked, key=key))
    script = a_script([*numbers, *measured])
    rules = script["rules"]
    assert isinstance(rules, list)
    for question in expressions:
        half = f"\\frac{{{question.position}}}{{2}}"
        same = f"{question.position} \\cdot \\frac{{1}}{{2}}"
        rules.append(
            {
                "contains": question.text,
                "answers": {half: 3.0, same: 3.0, "x^2 + 1": 1.0, "1 + x^2": 1.0},
                "texts": [" {steps} The answer is $\\boxed{{{answer}}}$."],
                "steps": ["Halve it.", "Look."],
                "length": [0, 4],
            }
        )
    (project.folder / "models" / "script.json").write_text(json.dumps(script))
    with connect(project.database) as conn, transaction(conn):
        questions.add(conn, expressions, {})
