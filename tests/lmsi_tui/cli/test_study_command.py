"""`lmsi-tui study arms`: its plan, its arguments, and a whole study by the worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from engine.demo.project import make_demo
from engine.jobs import curate, sample
from lmsi_tui.cli.main import run as typed
from store import jobs
from store.connection import connect
from store.enums import Arm, JobKind, JobState
from tests.projects import claimed, command
from tests.seed import seeded_project

if TYPE_CHECKING:
    from pathlib import Path


SETTINGS: dict[str, dict[str, object]] = {
    "sample": {"m": 6, "threshold": "0.3", "cap": 2},
    "finetune": {"epochs": 1},
    "evaluate": {"k": 3, "ood": False},
    "model": {"teacher": "pebble-s/base", "students": []},
}


def test_the_plan_lists_the_chosen_arms_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_demo(tmp_path / "demo", pool=6, evaluation=4, changes=SETTINGS)
    chosen = ["study", "arms", str(project.folder), "--arms", "random", "--plan"]
    assert typed(chosen) == 2
    assert "lmsi-tui curate" in capsys.readouterr().err
    with connect(project.database) as conn:
        for kind, stage in ((JobKind.SAMPLE, sample.run), (JobKind.CURATE, curate.run)):
            work = claimed(conn, project, kind)
            stage(work)
            jobs.finish(conn, work.progress.job_id, JobState.DONE, "done", None, {})
        before = jobs.all_of(conn)
    assert typed(chosen) == 0
    assert "random: " in capsys.readouterr().out
    assert typed([*chosen, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert [arm["arm"] for arm in planned["arms"]] == [Arm.VOTED, Arm.RANDOM]
    assert planned["problem"] is None
    with connect(project.database, read_only=True) as conn:
        assert jobs.all_of(conn) == before


@pytest.mark.parametrize("arms", ["voted,unvotd", "", ","])
def test_an_unknown_arm_is_refused_with_those_that_exist(
    arms: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = seeded_project(tmp_path / "story")
    assert typed(["study", "arms", str(project.folder), "--arms", arms]) == 2
    assert "first-tokens" in capsys.readouterr().err


@pytest.mark.slow
def test_a_whole_study_ends_with_what_the_vote_adds(tmp_path: Path) -> None:
    folder = make_demo(tmp_path / "demo", pool=12, evaluation=8, changes=SETTINGS).folder
    for stage in ("sample", "curate"):
        assert command(stage, folder).returncode == 0
    first = command("study", "arms", folder, "--json")
    assert first.returncode == 0, first.stderr
    event = json.loads(first.stdout.splitlines()[-1])
    assert [each["arm"] for each in event["arms"]] == list(Arm)
    assert all(set(row["gains"]) == set(Arm) for row in event["gains"])
    again = command("study", "arms", folder)
    assert again.returncode == 0, again.stderr
    assert event["says"][0] in again.stdout
    report = command("report", folder)
    assert event["says"][0] in " ".join(report.stdout.split())
