"""Several processes at one database, and processes that are killed while they write."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from store import jobs, paths
from store.connection import connect
from store.enums import JobKind
from store.schema import ensure_schema

if TYPE_CHECKING:
    from tests.store.conftest import Seeded

ROOT = Path(__file__).parents[2]
ROUNDS = 20

PREAMBLE = """
import os, sys
from pathlib import Path
from store import jobs, paths, votes
from store.connection import connect, transaction
from store.enums import Decision, EndReason
from store.records import Reading, Vote
from store.records import ReasoningPath as Sampled
from store.schema import ensure_schema
database = Path(sys.argv[1])
def path(question, index, size=3000):
    return Sampled(0, 0, question, index, str(index) * size, tuple(range(50)), EndReason.END, 1.0)
reading = Reading(0, "number/1", "7", "7", None)
def ready():
    print("ready", flush=True)
    sys.stdin.readline()
"""

MAKE = "ready(); ensure_schema(database)"

WRITE_THE_SAME = """
with connect(database) as conn:
    ready()
    added = 0
    for index in range(300):
        with transaction(conn):
            added += paths.add(conn, 1, [path(1, index, 10)], [reading])
            jobs.progress(conn, 1, index, 300, "sampling")
    print(added)
"""

CLAIM = """
with connect(database) as conn:
    ready()
    claimed = []
    while job := jobs.claim(conn, os.getpid(), 1):
        claimed.append(job.id)
    print(*claimed)
"""

# Three paths, their readings and a vote belong together; what is printed was committed.
WRITE_UNTIL_KILLED = """
index = int(sys.argv[2])
with connect(database) as conn:
    while True:
        with transaction(conn):
            paths.add(conn, 1, [path(q, index) for q in (1, 2, 3)], [reading] * 3)
            votes.put(conn, [Vote(1, 1, 10**9, index + 1, (("7", index + 1),), 0, "7",
                                  Decision.OPEN, "number/1")])
        index += 1
        print(index, flush=True)
"""

WRITE_UNTIL_FULL = """
import resource
from store.errors import WorkFailed
written = 0
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
try:
    with connect(database) as conn:
        while True:
            paths.add(conn, 1, [path(1, written)], [reading])
            written += 1
except WorkFailed as failure:
    print(written, failure)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + script, *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def together(script: str, database: Path, count: int) -> list[str]:
    """Run a script in processes that begin at the same moment; what each printed."""
    running = [start(script, database) for _ in range(count)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0] * count, ended
    return [output for output, _ in ended]


def check_whole(database: Path) -> None:
    with closing(sqlite3.connect(database)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert conn.execute("PRAGMA foreign_key_check").fetchall() == []


def test_processes_that_create_the_database_at_once_create_it_once(tmp_path: Path) -> None:
    database = tmp_path / "lmsi.db"
    together(MAKE, database, 3)
    check_whole(database)
    ensure_schema(database)


def test_two_processes_that_write_the_same_paths_store_each_once(seeded: Seeded) -> None:
    jobs.enqueue(seeded.conn, JobKind.SAMPLE, {})
    added = [int(output) for output in together(WRITE_THE_SAME, seeded.database, 2)]
    assert sum(added) == 300
    assert paths.counts(seeded.conn, seeded.run.id).paths == 300
    check_whole(seeded.database)


def test_two_processes_never_claim_the_same_job(seeded: Seeded) -> None:
    queued = [jobs.enqueue(seeded.conn, JobKind.SAMPLE, {"n": n})[0].id for n in range(200)]
    outputs = together(CLAIM, seeded.database, 2)
    claimed = [int(number) for output in outputs for number in output.split()]
    assert sorted(claimed) == queued


def test_kill_9_in_the_middle_of_writing_loses_nothing_and_tears_nothing(seeded: Seeded) -> None:
    chance = random.Random(0)
    run, questions = seeded.run.id, [question.id for question in seeded.pool]
    stored = 0
    for _ in range(ROUNDS):
        writer = start(WRITE_UNTIL_KILLED, seeded.database, stored)
        assert writer.stdout is not None
        printed = [writer.stdout.readline() for _ in range(chance.randint(1, 150))]
        os.kill(writer.pid, signal.SIGKILL)
        rest, errors = writer.communicate()
        assert (writer.returncode, errors) == (-signal.SIGKILL, "")
        printed += rest.splitlines()
        with connect(seeded.database, read_only=True) as conn:
            answers = paths.answers_by_question(conn, run, questions)
            ((drawn,),) = conn.execute("SELECT drawn FROM vote")
        stored = drawn
        assert stored >= int(printed[-1])
        assert answers == {id_: dict.fromkeys(range(stored), "7") for id_ in questions}
    assert seeded.database.stat().st_size > 4 << 20, "the rounds should have met checkpoints"
    check_whole(seeded.database)


def test_kill_9_during_creation_leaves_a_database_that_can_be_created(tmp_path: Path) -> None:
    for number in range(5):
        database = tmp_path / f"{number}.db"
        maker = start(MAKE, database)
        assert maker.stdout is not None
        assert maker.stdin is not None
        maker.stdout.readline()
        maker.stdin.write("\n")
        maker.stdin.flush()
        while not database.exists():
            assert maker.poll() is None
        os.kill(maker.pid, signal.SIGKILL)
        maker.communicate()
        ensure_schema(database)
        check_whole(database)


def test_a_full_disk_keeps_what_was_committed(seeded: Seeded) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    writer = start(WRITE_UNTIL_FULL, seeded.database)
    output, errors = writer.communicate(timeout=60)
    assert errors == ""
    written, sentence = output.split(maxsplit=1)
    assert int(written) > 10
    assert "nothing stored is lost" in sentence
    assert paths.counts(seeded.conn, seeded.run.id).paths == int(written)
    check_whole(seeded.database)
