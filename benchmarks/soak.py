"""Kill -9 at random moments over every kind of work, and check the project after each kill.

    python -m benchmarks.soak --kills 200               # half an hour on two cores
    python -m benchmarks.soak --kills 20 --seed 3

Two projects of the same questions are made: one runs every command undisturbed, which also measures
how long each takes; the other is hunted. A command is started as a user starts it, and after a
random part of its duration the command, the worker, the app, or several of them are killed. Before
anything is started again, the project is checked (`benchmarks/integrity.py`). At the end each
command completes, and what is promised to be the same as in the undisturbed project is compared.

The journal of finished things is beside the projects, not in them. Only processes that the storm
started are killed, by their id. A second pair of projects has a scripted model, which is quick and
whose paths are promised to be the same bit for bit, and answers that math-verify compares in a
process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import integrity
from benchmarks.hunted_project import HuntedProject, make_demo, make_scripted
from benchmarks.integrity import CHECKS, Faults, Journal
from benchmarks.kinds_of_work import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.terminal import Terminal

APP_SECONDS = 6.0
"""Within which the app is killed once its first screen is drawn."""
STARTS = 0.15
"""Share of the apps that are killed while they start."""
RESTART_SECONDS = 60.0
"""How long the app may take to start a killed worker again."""
WORKER_KILLS = 3
"""Kills of the worker under one command, which gives up after five crashes without progress."""


@dataclass(slots=True)
class Row:
    """A line of the table."""

    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    completed: int = 0
    seconds: float = 0.0
    """Of the last command in which nothing was killed."""
    faults: Faults = field(default_factory=Faults)


class Hunt:
    """Kills of one kind of work until its share is used up."""

    def __init__(
        self, kind: Kind, project: HuntedProject, journal: Journal, row: Row, rng: random.Random
    ) -> None:
        self.kind, self.project, self.journal = kind, project, journal
        self.row, self.rng = row, rng
        self.piece = 0
        self.disturbed = False
        """Whether something was killed in this piece of work."""

    @property
    def kills(self) -> int:
        """How often something was killed."""
        return self.row.kills.total()

    def until(self, kills: int) -> None:
        """Kill this often altogether, then let the work end and check the project at rest."""
        while self.kills < kills:
            if self.kind.app:
                self._disturb_app()
            elif self._disturb_command():
                self._completed()
        self.finish()

    def finish(self) -> None:
        """Let the piece of work end without disturbance, and check the project at rest."""
        if self.kind.name == "app, review":
            self.project.check_at_rest(self.journal, self.row.faults)
            return
        try:
            self.row.starts += 1
            self.project.run(self.kind.arguments(self.project, self.piece))
        except RuntimeError as error:
            self.row.faults.add("stuck", str(error))
        self._completed()

    def _completed(self) -> None:
        self.row.completed += 1
        self.piece += 1
        self.disturbed = False
        self.project.check_at_rest(self.journal, self.row.faults)

    def _moment(self, seconds: float) -> float:
        """A random moment of the work; a few come while the command starts."""
        return self.rng.uniform(0.02, 0.6 if self.rng.random() < 0.1 else seconds)

    def _disturb_command(self) -> bool:
        """Start the command, and kill something; True if it completed before."""
        arguments = self.kind.arguments(self.project, self.piece)
        command = self.project.start(arguments)
        began, undisturbed = time.monotonic(), not self.disturbed
        self.row.starts += 1
        for _ in range(WORKER_KILLS):
            with contextlib.suppress(subprocess.TimeoutExpired):
                if command.wait(self._moment(self.row.seconds)):
                    self.row.faults.add(
                        "stuck", f"{' '.join(arguments)} ended with {command.returncode}"
                    )
                if undisturbed:  # the machine may be busier or less busy than it was
                    self.row.seconds = time.monotonic() - began
                return True
            target = self.rng.choice(
                ("command", "worker", "both") if self.kind.worker else ("command",)
            )
            if target == "worker":
                if self.project.kill_workers():
                    self._killed("worker", [command.pid])
                continue
            command.kill()
            command.wait()
            if target == "both" and self.project.kill_workers():
                self._killed("both", [])
            else:
                self._killed("command", [worker.pid for worker in self.project.workers()])
            return False
        command.kill()
        command.wait()
        self._killed("command", [worker.pid for worker in self.project.workers()])
        return False

    def _disturb_app(self) -> None:
        """Queue work if the kind has some, open the app, press keys, and kill something."""
        project = self.project
        arguments = self.kind.arguments(project, self.piece)
        if self.kind.worker:
            project.run([*arguments, "--detach"])
            arguments = [str(project.folder)]
        app = project.open_app(arguments)
        self.row.starts += 1
        if self.rng.random() < STARTS:
            app.drain(self.rng.uniform(0.02, 2.0))
        else:
            app.until(lambda text: "help" in text)  # in the footer of every screen
            self._press_keys(app, self._moment(self.row.seconds))
        target = self.rng.choice(("app", "worker", "both") if self.kind.worker else ("app",))
        if target == "worker":
            if project.kill_workers():
                self._killed("worker", [app.pid])
                self._wait_for_worker(app)
            app.close()
            return
        app.close()
        if target == "both" and project.kill_workers():
            self._killed("both", [])
        else:
            self._killed("app", [worker.pid for worker in project.workers()])
        if self.kind.worker and self.rng.random() < 0.25:
            self.finish()

    def _press_keys(self, app: Terminal, seconds: float) -> None:
        end = time.monotonic() + seconds
        for key in itertools.cycle(self.kind.app):
            app.drain(min(0.15, max(0.0, end - time.monotonic())))
            if time.monotonic() > end:
                return
            if key != " ":
                app.press(key.encode())

    def _wait_for_worker(self, app: Terminal) -> None:
        """The open app starts a killed worker again, if a job is waiting for one."""
        until = time.monotonic() + RESTART_SECONDS
        while time.monotonic() < until:
            app.drain(0.3)
            faults = Faults()
            integrity.check_jobs(self.project.database, faults, all_ended=False)
            if not faults:
                return
        self.row.faults.add("stuck", "the app does not start the worker again")

    def _killed(self, target: str, roots: Sequence[int]) -> None:
        self.row.kills[target] += 1
        self.disturbed = True
        self.project.check(self.journal, self.row.faults, roots)


@dataclass(frozen=True, slots=True)
class Pair:
    """An undisturbed project and a hunted one, which are made alike."""

    calm: HuntedProject
    hunted: HuntedProject
    journal: Journal
    """Of the hunted one."""
    kinds: Sequence[Kind]
    """That work on it."""
    exact: bool
    """Whether all that both projects have is promised to be the same."""


@contextlib.contextmanager
def pair(outside: Path, kinds: Sequence[Kind], *, scripted: bool) -> Iterator[Pair]:
    """Two new projects, and a journal of the second one.

    Args:
        outside: folder for the projects and the journal.
        kinds: of the whole storm.
        scripted: whether the model is scripted.
    """
    names = ("calm-scripted", "hunted-scripted") if scripted else ("calm", "hunted")
    calm, hunted = (HuntedProject(outside / name, outside) for name in names)
    own = [kind for kind in kinds if kind.scripted is scripted]
    with contextlib.closing(calm), contextlib.closing(hunted):
        if own:
            for project in (calm, hunted):
                (make_scripted if scripted else make_demo)(project)
        with Journal(hunted.database, outside / f"journal-{names[1]}.jsonl") as journal:
            yield Pair(calm, hunted, journal, own, scripted)


def storm(
    kills: int, seed: int, outside: Path, kinds: Sequence[Kind] = KINDS
) -> tuple[dict[str, Row], list[str]]:
    """The whole storm.

    Args:
        kills: how many, over all kinds.
        seed: of the moments and targets.
        outside: a new folder for the projects, the journals and the logs.
        kinds: of work, in the order in which they run.

    Returns:
        A row for each kind, and a sentence for each pair of projects that was compared.
    """
    rng = random.Random(seed)
    rows = {kind.name: Row() for kind in kinds}
    whole = sum(kind.weight for kind in kinds)
    compared = []
    with pair(outside, kinds, scripted=False) as own, pair(outside, kinds, scripted=True) as quick:
        pairs = [each for each in (own, quick) if each.kinds]
        for each in pairs:
            for kind in each.kinds:
                rows[kind.name].seconds = undisturbed(each.calm, kind)
        hunts = [
            Hunt(kind, each.hunted, each.journal, rows[kind.name], rng)
            for kind in kinds
            for each in pairs
            if kind in each.kinds
        ]
        # The first piece of work of every kind first: only it is compared.
        for part in (0.5, 1.0):
            for hunt in hunts:
                hunt.until(max(1, round(kills * part * hunt.kind.weight / whole)))
                found = {check: some for check, some in hunt.row.faults.found.items() if some}
                print(
                    f"{hunt.kind.name}: {hunt.kills} kills, {hunt.row.completed} completed, "
                    f"faults: {found or 'none'}",
                    flush=True,
                )
            if part == 0.5:
                compared = [compare(each, rows[each.kinds[0].name].faults) for each in pairs]
    return rows, compared


def undisturbed(calm: HuntedProject, kind: Kind) -> float:
    """Do the first piece of work of a kind, and return its seconds."""
    if kind.app:
        return APP_SECONDS
    seconds = calm.run(kind.arguments(calm, 0))
    calm.wait_for_rest()
    print(f"undisturbed {kind.name}: {seconds:.1f} s", flush=True)
    return seconds


def compare(each: Pair, faults: Faults) -> str:
    """What the undisturbed project has, and the hunted one must have, too.

    Where a wave of paths begins depends on what is stored, so a few paths more or fewer may be
    sampled beyond those that decide; a path that both have is the same.
    """
    first = dict(integrity.facts(each.calm.database))
    second = dict(integrity.facts(each.hunted.database))
    common = [name for name in first if name.startswith("path ") and name in second]
    same = sum(first[name] == second[name] for name in common)
    compared: tuple[str, ...] = ("question ",)
    if each.exact or same == len(common):
        compared = ("question ", "example ")
        first |= integrity.votes(each.calm.database)
        second |= integrity.votes(each.hunted.database)
        compared += ("vote ",)
    for name, hash_ in first.items():
        differs = second.get(name) != hash_
        if differs and (name.startswith(compared) or (each.exact and name in common)):
            faults.add("differs", name)
    return (
        f"{each.hunted.folder.name}: {same:,} of {len(common):,} paths that both projects have are "
        f"identical; compared besides: {', '.join(sorted(word.strip() for word in compared))}"
    )


def table(rows: dict[str, Row]) -> str:
    """The rows as Markdown."""
    lines = [
        f"| kind of work | seconds | kills | of the command, worker, app, both | starts "
        f"| completed | {' | '.join(CHECKS)} |",
        f"|---|{'---:|' * (5 + len(CHECKS))}",
    ]
    total = Row()
    for name, row in rows.items():
        lines.append(_line(name, row, f"{row.seconds:.1f}"))
        total.kills += row.kills
        total.starts += row.starts
        total.completed += row.completed
        for check, found in row.faults.found.items():
            total.faults.add(check, *found)
    return "\n".join([*lines, _line("all", total, "")])


def _line(name: str, row: Row, seconds: str) -> str:
    targets = ", ".join(str(row.kills[target]) for target in ("command", "worker", "app", "both"))
    counts = " | ".join(str(len(row.faults.found[check])) for check in CHECKS)
    return (
        f"| {name} | {seconds} | {row.kills.total()} | {targets} | {row.starts} "
        f"| {row.completed} | {counts} |"
    )


def main() -> bool:
    """Run the storm and print its table; true if there was a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    names = [kind.name for kind in KINDS]
    parser.add_argument("--only", action="append", choices=names, help="repeatable; in this order")
    parser.add_argument("--keep", action="store_true", help="keep the projects and logs")
    args = parser.parse_args()
    outside = Path(tempfile.mkdtemp(prefix="lmsi-soak-"))
    print(f"projects, journals and logs: {outside}", flush=True)
    kinds = [kind for kind in KINDS if kind.name in (args.only or names)]
    rows, compared = storm(args.kills, args.seed, outside, kinds)
    print(table(rows), *compared, sep="\n")
    faulty = any(row.faults for row in rows.values())
    for name, row in rows.items():
        for check, found in row.faults.found.items():
            for sentence in found[:20]:
                print(f"{name}: {check}: {sentence}")
    if not (faulty or args.keep):
        shutil.rmtree(outside)
    return faulty


if __name__ == "__main__":
    sys.exit(main())
