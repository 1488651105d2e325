"""Run the loop on a real model and real questions, and measure what it gains.

    python -m benchmarks.real --quick                          # a look in ten minutes
    python -m benchmarks.real --model MODEL --questions FILE --task TASK --student SMALLER
    make real MODEL=path QUESTIONS=file TASK=task STUDENT=path QUICK=1

The model is a Hugging Face folder or a GGUF file; by default SmolLM2-135M-Instruct, which a small
package holds. FILE is a question file with known answers, by default a sample of SVAMP. Its first
questions become the pool, without their answers, and the next ones measure. All work is done by
the command line, so it can be stopped at any moment: the same command goes on. If the pilot says
that LMSI cannot help, it ends there; `--past-pilot` goes on.

Then the same model is trained on as many paths that no vote selected (the control), and the tables
are printed and written to `real.md`. The known answers of the pool are read again only for that: to
count how many of the kept labels are right.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.control import drop_control_job, train_controls
from benchmarks.package_model import package_model
from benchmarks.real_tables import tables
from engine.evaluation.pilot_verdict import Usefulness
from engine.importing.questions import read_questions
from engine.jobs.launch import ENVIRONMENT
from engine.project.folder import SETTINGS, Project, open_project
from engine.project.settings import changed
from lmsi_tui.cli.options import settings_from
from store import models, questions
from store.atomic_file import atomic_file
from store.connection import connect, transaction
from store.enums import Split, Stage
from store.errors import BadInput, LmsiError, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.importing.questions import Imported
    from store.records import Model

QUESTIONS = Path(__file__).parent / "data" / "svamp.jsonl"
PAUSED = 130
"""Exit code of a command that was interrupted and can be continued."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is sampled, trained and measured."""

    pool: int
    evaluation: int
    settings: tuple[str, ...]


COMMON = ('curate.formats=["few-shot-cot"]', "sample.cap=4")
"""Trained in the format that is measured, with few paths of many questions: all four formats take
three times as long."""
FULL = Sizes(300, 400, (*COMMON, "sample.m=16", "finetune.epochs=2", "distill.epochs=2"))
QUICK = Sizes(
    40, 40, (*COMMON, "sample.m=8", "evaluate.k=4", "finetune.epochs=1", "distill.epochs=1")
)


class Stopped(Exception):
    """The loop ends early; the message says why, and the exit code is 0 or that of the command."""

    def __init__(self, reason: str, exit_code: int = 0) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class Stages:
    """The commands that were run in a project, with their seconds over all sittings.

    The times of a sitting that was killed are missing; those of one that was interrupted are not.
    """

    def __init__(self, folder: Path) -> None:
        self.project = folder
        self._file = folder / "real.json"
        stored = json.loads(self._file.read_text()) if self._file.exists() else {}
        self.seconds: dict[str, float] = stored.get("seconds", {})
        self._done: list[str] = stored.get("done", [])

    @contextmanager
    def timed(self, name: str) -> Iterator[bool]:
        """Add the seconds of a stage; yields whether it is to be done. No exception: it is done."""
        if name in self._done:
            yield False
            return
        print(f"\n── {name}", file=sys.stderr, flush=True)
        start = time.monotonic()
        try:
            yield True
            self._done.append(name)
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start
            with atomic_file(self._file) as file:
                file.write_text(json.dumps({"seconds": self.seconds, "done": self._done}))

    def run(self, command: str, *options: str) -> None:
        """Run a command of lmsi-tui in the project, unless it is done."""
        with self.timed(" ".join((command, *options))) as todo:
            if todo:
                lmsi(command, str(self.project), *options)


def lmsi(*arguments: str) -> None:
    """Run a command of lmsi-tui; its output is the user's.

    Raises:
        Stopped: it was interrupted.
        WorkFailed: it failed.
    """
    code = subprocess.run([sys.executable, "-m", "lmsi_tui", *arguments], check=False).returncode
    if code == PAUSED:
        raise Stopped("Paused: the same command goes on.", PAUSED)
    if code:
        raise WorkFailed(f"`lmsi-tui {' '.join(arguments)}` failed (exit code {code}).")


def main() -> None:
    """Run the loop as far as it was not run yet, and print the tables."""
    args = _arguments()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # the control is trained in this process
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the seconds are kept then, too
    try:
        text = run(args)
    except KeyboardInterrupt:
        sys.exit(PAUSED)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_code)
    except LmsiError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print(text)


def _arguments() -> argparse.Namespace:
    lines = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(description=lines[0])
    parser.add_argument("--model", type=Path, help="a Hugging Face folder or a GGUF file")
    parser.add_argument("--student", type=Path, help="a smaller model to distill into")
    parser.add_argument("--questions", type=Path, default=QUESTIONS, help="with known answers")
    parser.add_argument("--task", default="svamp", help="a preset or an answer type")
    parser.add_argument("--pool", type=int, help=f"questions to learn from ({FULL.pool})")
    parser.add_argument(
        "--eval",
        type=int,
        dest="evaluation",
        help=f"questions to measure on ({FULL.evaluation})",
    )
    parser.add_argument("--quick", action="store_true", help="a look in ten minutes")
    parser.add_argument("--past-pilot", action="store_true", help="go on if the pilot says no")
    parser.add_argument("--no-control", action="store_true", help="do not train the control")
    parser.add_argument("--folder", type=Path, help="of the project (build/real/MODEL)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.NAME=VALUE",
        help="a setting of a new project; repeatable",
    )
    return parser.parse_args()


def run(args: argparse.Namespace) -> str:
    """Run the loop in a project; returns the tables as Markdown."""
    model = args.model or package_model(Path("build/real/models"))
    name = model.absolute().name.removesuffix(".gguf")
    folder = args.folder or Path("build/real") / (f"{name}-quick" if args.quick else name)
    sizes = QUICK if args.quick else FULL
    pool, evaluation = args.pool or sizes.pool, args.evaluation or sizes.evaluation
    known = read_questions(
        args.questions, task=args.task, split=Split.EVAL, limit=pool + evaluation
    )
    project = make_project(folder, model, args.student, name, (*sizes.settings, *args.set))
    add_questions(project, known, pool)
    stages = Stages(folder)
    teacher = project.settings.model.teacher
    run_pilot(stages, teacher, past=args.past_pilot, count=QUICK.evaluation if args.quick else 0)
    stages.run("evaluate", "--model", teacher)
    stages.run("sample")
    stages.run("curate")
    stages.run("finetune")
    for trained in trained_models(project, Stage.LMSI):
        stages.run("evaluate", "--model", trained.name)
    if project.settings.model.students:
        stages.run("distill")
    if not args.no_control:
        with stages.timed("control") as todo:
            if todo:
                train_control(project)
    for trained in trained_models(project, Stage.CONTROL):
        stages.run("evaluate", "--model", trained.name)
    for student in project.settings.model.students:
        stages.run("evaluate", "--model", student)
    for trained in trained_models(project, Stage.DISTILLED):
        stages.run("evaluate", "--model", trained.name)
    text = tables(project, known, stages.seconds)
    (folder / "real.md").write_text(text + "\n")
    return text


def make_project(
    folder: Path, model: Path, student: Path | None, name: str, options: tuple[str, ...]
) -> Project:
    """Make the project, or open it.

    Raises:
        BadInput: it has other settings or another student.
    """
    if not (folder / SETTINGS).exists():
        command = ["init", str(folder), "--model", str(model), "--name", name]
        command += ["--student", str(student)] if student else []
        lmsi(*command, *(part for option in options for part in ("--set", option)))
    project = open_project(folder)
    if changed(project.settings, settings_from(options)) != project.settings:
        raise BadInput(
            f"{folder} has other settings than {' '.join(options)}: edit its {SETTINGS}, or give "
            "another --folder."
        )
    if bool(student) != bool(project.settings.model.students):
        raise BadInput(f"{folder} was made with another --student: give another --folder.")
    return project


def add_questions(project: Project, known: Imported, pool: int) -> None:
    """Store the first questions as the pool, without answers, and the others to measure on.

    Raises:
        BadInput: the file has too few questions.
    """
    if len(known.questions) <= pool:
        raise BadInput(
            f"There are {len(known.questions)} questions, and {pool} of them are for the pool: "
            "give fewer with --pool."
        )
    rows = [
        dataclasses.replace(question, split=Split.POOL if position < pool else Split.EVAL)
        for position, question in enumerate(known.questions)
    ]
    with connect(project.database) as conn, transaction(conn):
        questions.add(conn, rows, known.gold)


def run_pilot(stages: Stages, teacher: str, *, past: bool, count: int) -> None:
    """Run the pilot; on a no, end the loop with its reason.

    Raises:
        Stopped: the pilot says that LMSI cannot help.
    """
    limit = ("--questions", str(count)) if count else ()
    stages.run("pilot", *limit)
    command = [sys.executable, "-m", "lmsi_tui", "pilot", str(stages.project), *limit, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    outlooks = [each["outlook"] for each in (result, *result["students"])]
    if all(outlook["answer"] == Usefulness.NO for outlook in outlooks) and not past:
        reasons = dict.fromkeys(reason for outlook in outlooks for reason in outlook["obstacles"])
        raise Stopped(
            f"The loop ends here, because the pilot says that LMSI cannot help {teacher} with "
            f"these questions ({', '.join(reasons)}). --past-pilot (PAST_PILOT=1) goes on."
        )


def trained_models(project: Project, stage: Stage) -> list[Model]:
    """The models of a stage, oldest first."""
    with connect(project.database, read_only=True) as conn:
        return [model for model in models.all_of(conn) if model.stage is stage]


def train_control(project: Project) -> None:
    """Train the controls."""
    drop_control_job(project.folder)
    for _ in train_controls(project):
        pass


if __name__ == "__main__":
    main()
