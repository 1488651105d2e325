"""Kill -9 of worker and command at random moments: no finished path is lost or duplicated."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from engine.project.folder import open_project
from store import examples, jobs, paths, questions
from store.connection import connect
from store.enums import JobKind, JobState, Split
from tests.projects import command, scripted_project

pytestmark = pytest.mark.slow

KILLS = 20

Stored = dict[tuple[str, str, int], tuple[str, tuple[int, ...]]]


def stored_paths(database: Path) -> Stored:
    """Every stored path by run, question and index; asserts that there are no duplicates."""
    with connect(database, read_only=True) as conn:
        keys = {
            question.id: question.key
            for split in Split
            for question in questions.by_split(conn, split)
        }
        stored: Stored = {}
        for run in paths.runs(conn):
            for question_id, key in keys.items():
                for path, _ in paths.for_question(conn, run.id, question_id):
                    place = (run.key, key, path.index)
                    assert place not in stored
                    stored[place] = (path.text, path.token_ids)
    return stored


def workers_of(folder: Path) -> list[psutil.Process]:
    """The workers of this project; only this test starts any."""
    workers = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            line = process.cmdline()
            if "engine.jobs.worker" in line and str(folder.resolve()) in line:
                workers.append(process)
    return workers


def kill_in(seconds: float, arguments: list[str], folder: Path) -> bool:
    """Start a command; kill it and the worker after some seconds. False if it ended before."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lmsi_tui", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        for worker in workers_of(folder):
            with suppress(psutil.Error):
                worker.kill()
                worker.wait(10)
        process.communicate()
        return True
    assert process.returncode == 0
    return False


def killed_again_and_again(folder: Path, arguments: list[str], typical: float, seed: int) -> int:
    """Run a command to its end through kills at random moments; returns the number of kills."""
    rng = random.Random(seed)
    before: Stored = {}
    kills = 0
    # It takes a second or two until work begins, so most kills wait at least that long; a few
    # come at once.
    while kills < KILLS:
        wait = rng.uniform(0.05, 1.0) if rng.random() < 0.2 else rng.uniform(1.0, typical)
        if not kill_in(wait, arguments, folder):
            break
        kills += 1
        if (folder / "lmsi.db").exists() and (folder / "lmsi.db").stat().st_size:
            after = stored_paths(folder / "lmsi.db")
            assert before.items() <= after.items(), "a finished path was lost or changed"
            before = after
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert before.items() <= stored_paths(folder / "lmsi.db").items()
    return kills


def test_killed_sampling_ends_with_the_same_training_set(tmp_path: Path) -> None:
    sizes = {"pool": 1500, "evaluation": 4, "changes": {"sample": {"m": 32}}}
    calm = scripted_project(tmp_path / "calm", **sizes)  # type: ignore[arg-type]
    hunted = scripted_project(tmp_path / "hunted", **sizes)  # type: ignore[arg-type]
    kills = 0
    for stage in (JobKind.SAMPLE, JobKind.CURATE):
        assert command(stage, calm.folder).returncode == 0
        kills += killed_again_and_again(
            hunted.folder, [stage, str(hunted.folder)], 2.5, seed=len(stage)
        )
    assert kills >= 5
    # Where a wave of paths begins depends on what is stored, so a few paths more or fewer may be
    # sampled beyond those that decide. The paths themselves do not depend on it.
    first, second = stored_paths(hunted.database), stored_paths(calm.database)
    assert {first[place] == second[place] for place in first.keys() & second.keys()} == {True}
    assert len(first.keys() & second.keys()) > 0.99 * len(second)
    sets = []
    for project in (calm, hunted):
        with connect(project.database, read_only=True) as conn:
            sets.append(examples.sets(conn)[-1])
            assert {job.state for job in jobs.all_of(conn)} == {JobState.DONE}
    assert sets[0].key == sets[1].key


def test_the_demo_survives_twenty_kills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--pool", "160", "--eval", "60", "--set", "evaluate.k=4", "--set", "sample.m=16"]
    sizes += ["--set", "finetune.epochs=1", "--set", "distill.epochs=1"]

    def demo(folder: Path) -> list[str]:
        return ["demo", str(folder), "--headless", "--json", *sizes]

    began = time.monotonic()
    calm = command(*demo(tmp_path / "calm"))
    assert calm.returncode == 0, calm.stderr
    typical = max(3.0, (time.monotonic() - began) / 6)

    kills = killed_again_and_again(tmp_path / "hunted", demo(tmp_path / "hunted"), typical, 7)

    whole, hunted = (stored_paths(tmp_path / name / "lmsi.db") for name in ("calm", "hunted"))
    pool_run = {key[0] for key in whole} & {key[0] for key in hunted}
    common = [place for place in whole.keys() & hunted.keys() if place[0] in pool_run]
    same = sum(whole[place] == hunted[place] for place in common)
    with capsys.disabled():
        print(
            f"\n{kills} kills; {len(common)} paths sampled in both runs, "
            f"{same / len(common):.2%} of them identical"
        )
    assert kills == KILLS
    with connect(open_project(tmp_path / "hunted").database, read_only=True) as conn:
        (job,) = jobs.all_of(conn)
        assert job.state is JobState.DONE


HUNTED = """
import random, signal, sys, threading
from dataclasses import replace
from pathlib import Path
from tests.engine.training.test_loop import SETTINGS, Listener, trained

random = random.Random(int(sys.argv[2]))

class Hunted(Listener):
    left = random.randint(1, 10)

    def begin(self, title, total, done=0):
        print(done, total, flush=True)

    def look(self):
        self.left -= 1
        if self.left == 0:
            threading.Thread(target=kill, args=[random.uniform(0, 0.03)], daemon=True).start()

def kill(seconds):
    threading.Event().wait(seconds)
    signal.raise_signal(signal.SIGKILL)

trained(Path(sys.argv[1]), replace(SETTINGS, epochs=40.0), progress=Hunted())
"""
"""A single-threaded training that writes a checkpoint at each step and is killed at a random moment
a few steps after it starts."""

FINE_TUNE_KILLS = 10


def test_killed_fine_tuning_gives_the_same_adapter_bit_for_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.engine.tiny import tiny_model
    from tests.engine.training.test_loop import SETTINGS, are_identical, trained, weights

    settings = replace(SETTINGS, epochs=40.0)
    undisturbed = trained(tmp_path / "quiet", settings)
    hunted = tmp_path / "hunted"
    tiny_model(hunted / "base")
    begun = []
    for seed in range(FINE_TUNE_KILLS):
        ended = subprocess.run(
            [sys.executable, "-c", HUNTED, str(hunted), str(seed)],
            cwd=Path(__file__).parents[1],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        begun.append(int(ended.stdout.split()[0]))
    with capsys.disabled():
        print(f"\n{FINE_TUNE_KILLS} kills; the starts resumed after steps {begun}")
    assert len(set(begun)) > FINE_TUNE_KILLS / 2
    assert 0 < begun[-1] < undisturbed.steps
    assert replace(trained(hunted, settings), seconds=0) == replace(undisturbed, seconds=0)
    assert are_identical(weights(tmp_path / "quiet" / "out"), weights(hunted / "out"))
