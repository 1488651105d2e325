"""Fill the disk at each kind of write, and see what is said and what is left.

    python -m benchmarks.full_disk [--only STAGE …]

Linux only: a small project lies on a file system of its own, in memory. Each stage runs with
nothing free, with a part of what it needs, and on a read-only file system. Then there is room
again, and the same command has to finish. Temporary files and the configuration are on the same
disk.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from engine.jobs.launch import worker_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

DISK = 512 * 2**20
"""Bytes of the file system; more than the project and everything that it writes."""
PARTS = (0.0, 0.1, 0.3, 0.6, 0.9)
"""Free space, as a share of what the stage needs when there is enough."""
QUICK = ("sample.m=8", "evaluate.k=2", "finetune.epochs=1", "distill.epochs=1")
ARTIFACTS = ("adapters", "models", "exports")
LEFTOVER = re.compile(r"\.part$|\.old$|\.new$|\.\d+$")
A_FAULT = re.compile(r"Traceback|nternal error|: None\b")
SAYS_IT = {"full": "full", "read-only": "writ|read-only|locked"}

IMPORTED = "".join(
    f'{{"question": "Tom has {n} eggs and buys {n + 3}. How many has he now?"}}\n'
    for n in range(2000)
)
REVIEW = """
import sys, time
from pathlib import Path
from engine.project.folder import open_project
from store import paths, questions, reviews
from store.connection import connect, transaction
from store.enums import Queue, Split, Verdict
from store.errors import LmsiError
from store.records import Review
try:
    with connect(open_project(Path(sys.argv[1])).database) as conn:
        run = paths.runs(conn)[0]
        for question in questions.by_split(conn, Split.POOL) * 40:
            with transaction(conn):
                reviews.add(conn, Review(
                    0, question.id, run.id, Queue.TRIAGE, Verdict.SKIP, None, None, None,
                    1.0, time.time(),
                ))
except LmsiError as failure:
    print(failure, file=sys.stderr)
    sys.exit(failure.exit_code)
"""


@dataclass
class Stage:
    """A command that writes, and how it went."""

    name: str
    arguments: tuple[str, ...]
    needs: int = 0
    """Bytes that it adds to the disk at its peak."""
    tried: int = 0
    said: int = 0
    """Failures that were one sentence about the disk."""
    fitted: int = 0
    """Runs that needed less than at first, and ended well."""
    faults: list[str] = field(default_factory=list)


def main() -> None:
    """Print a table; exit with 1 if there was a fault."""
    if os.geteuid() != 0 and "LMSI_OWN_MOUNTS" not in os.environ:
        # An own name space, in which a user may mount.
        os.environ["LMSI_OWN_MOUNTS"] = "1"
        same = [sys.executable, "-m", "benchmarks.full_disk", *sys.argv[1:]]
        sys.exit(_system("unshare", "--user", "--map-root-user", "--mount", *same))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="STAGE")
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory() as scratch, mounted(Path(scratch) / "disk") as disk:
        stages = _stages(disk / "project", Path(scratch))
        before = Path(scratch) / "before"
        make = _run(disk, "demo", disk / "project", "--headless", "--only-make", *_sizes())
        assert make.returncode == 0, make.stderr
        for stage in stages:
            _copy(disk, before)
            whole = _calm(stage, disk)
            if not only or stage.name in only:
                after = Path(scratch) / "after"
                _copy(disk, after)
                for part in PARTS:
                    _copy(before, disk)
                    _with_little_room(stage, disk, part, whole)
                _copy(before, disk)
                _read_only(stage, disk)
                _copy(after, disk)
                print(stage, file=sys.stderr, flush=True)
    _print([stage for stage in stages if stage.tried])
    sys.exit(any(stage.faults for stage in stages))


def _sizes() -> list[str]:
    sizes = ["--pool", "60", "--eval", "20"]
    for change in QUICK:
        sizes += ["--set", change]
    return sizes


def _stages(project: Path, scratch: Path) -> list[Stage]:
    questions = scratch / "more.jsonl"
    questions.write_text(IMPORTED)
    script = scratch / "review.py"
    script.write_text(REVIEW)
    at = str(project)
    return [
        Stage("sample", ("sample", at)),
        Stage("vote", ("vote", at)),
        Stage("review decisions", (str(script), at)),
        Stage("reader rule", ("reader", at, "--type", "number", "--unit", "zorkmids", "--accept")),
        Stage("curate", ("curate", at)),
        Stage("finetune", ("finetune", at)),
        Stage("distill", ("distill", at)),
        Stage("evaluate", ("evaluate", at)),
        Stage("export adapter", ("export", "adapter", at)),
        Stage("export training-set", ("export", "training-set", at)),
        Stage("report", ("report", at, "--format", "html", "--out", f"{at}/exports/report.html")),
        Stage(
            "import",
            ("import", str(questions), "--project", at, "--split", "pool", "--task", "number"),
        ),
        Stage("demo (new project)", ("demo", f"{at}-2", "--headless", "--only-make", *_sizes())),
    ]


@contextmanager
def mounted(disk: Path) -> Iterator[Path]:
    """A file system of `DISK` bytes in memory, mounted at `disk`."""
    disk.mkdir()
    assert _system("mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)) == 0
    try:
        yield disk
    finally:
        _system("umount", "--lazy", str(disk))


def _system(program: str, *arguments: str) -> int:
    """Run a program of the system; its exit code."""
    found = shutil.which(program)
    assert found is not None, f"{program} is missing"
    return subprocess.run([found, *arguments], check=False).returncode


def _run(disk: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command of lmsi-tui, or a script, and wait until the worker has ended too."""
    words = [str(argument) for argument in arguments]
    python = [sys.executable] if words[0].endswith(".py") else [sys.executable, "-m", "lmsi_tui"]
    environment = os.environ | {"TMPDIR": str(disk), "XDG_CONFIG_HOME": str(disk / "config")}
    ended = subprocess.run(
        [*python, *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=900,
    )
    for project in disk.glob("project*"):
        while worker_runs(project):
            time.sleep(0.2)
    return ended


def _calm(stage: Stage, disk: Path) -> dict[str, int]:
    """Run with enough room: sets what the stage needs, and returns the files it leaves."""
    before = _used(disk)
    peak = [before]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak.append(_used(disk))

    watching = threading.Thread(target=watch)
    watching.start()
    ended = _run(disk, *stage.arguments)
    done.set()
    watching.join()
    assert ended.returncode == 0, f"{stage.name}: {ended.stderr}"
    stage.needs = max(peak) - before
    return _artifacts(disk)


def _with_little_room(stage: Stage, disk: Path, part: float, whole: dict[str, int]) -> None:
    before = _artifacts(disk)
    filler = disk / "filler"
    _fill(filler, int(part * stage.needs))
    ended = _run(disk, *stage.arguments)
    filler.unlink()
    label = f"{part:.0%} free"
    _judge(stage, ended, "full", label)
    for name, size in _artifacts(disk).items():
        if before.get(name) != size and whole.get(name) != size:
            stage.faults.append(f"{label}: {name} is half-written ({size} bytes)")
    _check_database(stage, disk, label)
    again = _run(disk, *stage.arguments)
    if again.returncode:
        stage.faults.append(f"{label}: with room again: {again.stderr[-300:]}")
    _check_database(stage, disk, label)
    left = [str(path) for path in disk.rglob(".*") if LEFTOVER.search(path.name)]
    if left:
        stage.faults.append(f"{label}: left behind: {left}")


def _read_only(stage: Stage, disk: Path) -> None:
    while _system("mount", "-o", "remount,ro", str(disk)):
        time.sleep(0.2)  # a process that is ending still has a file open
    ended = _run(disk, *stage.arguments)
    assert _system("mount", "-o", "remount,rw", str(disk)) == 0
    _judge(stage, ended, "read-only", "read-only")
    _check_database(stage, disk, "read-only")


def _judge(stage: Stage, ended: subprocess.CompletedProcess[str], cause: str, label: str) -> None:
    """Count a run: it ended well, it failed with a sentence, or it has a fault."""
    stage.tried += 1
    said = ended.stderr.strip().rsplit("\n", 1)[-1]
    if A_FAULT.search(ended.stderr):
        stage.faults.append(f"{label}: {ended.stderr[-500:]}")
    elif ended.returncode == 0 and cause == "full":
        stage.fitted += 1
    elif ended.returncode in (1, 2) and re.search(SAYS_IT[cause], said):
        stage.said += 1
    else:
        stage.faults.append(f"{label}: exit code {ended.returncode}: {said[-300:]}")


def _check_database(stage: Stage, disk: Path, label: str) -> None:
    for database in disk.glob("project*/lmsi.db"):
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as conn:
            ((answer,),) = conn.execute("PRAGMA integrity_check").fetchall()
        if answer != "ok":
            stage.faults.append(f"{label}: {database.name}: {answer}")


def _artifacts(disk: Path) -> dict[str, int]:
    """Sizes of the visible files of models, adapters and exports, by name."""
    return {
        str(path.relative_to(disk)): path.stat().st_size
        for project in disk.glob("project*")
        for folder in ARTIFACTS
        for path in (project / folder).rglob("*")
        if path.is_file()
        and not any(
            name.startswith(".") or name.endswith(".unfinished")  # a training on its way
            for name in path.relative_to(disk).parts
        )
    }


def _used(disk: Path) -> int:
    usage = os.statvfs(disk)
    return (usage.f_blocks - usage.f_bfree) * usage.f_frsize


def _fill(filler: Path, free: int) -> None:
    """Write zeros until only `free` bytes are free."""
    usage = os.statvfs(filler.parent)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, usage.f_bavail * usage.f_frsize - free))


def _copy(source: Path, target: Path) -> None:
    """Make the folder `target` equal to `source`."""
    target.mkdir(exist_ok=True)
    for path in target.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(source, target, dirs_exist_ok=True)


def _print(stages: list[Stage]) -> None:
    table = Table("stage", "writes (KiB)", "tried", "failed with a sentence", "fitted", "faults")
    for stage in stages:
        table.add_row(
            stage.name,
            f"{stage.needs / 1024:,.0f}",
            *(str(count) for count in (stage.tried, stage.said, stage.fitted, len(stage.faults))),
        )
    Console().print(table)
    for stage in stages:
        for fault in stage.faults:
            print(f"{stage.name}: {fault}")


if __name__ == "__main__":
    main()
