"""The commands that show what is in a project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from store import jobs
from store.connection import connect
from store.enums import JobState
from tests.projects import command, scripted_project

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("option", ["--pause", "--cancel"])
def test_a_job_that_has_ended_cannot_be_paused_or_cancelled_and_that_is_said(
    option: str, tmp_path: Path
) -> None:
    project = scripted_project(tmp_path / "p", pool=1, evaluation=0)
    assert command("sample", project.folder).returncode == 0
    asked = command("jobs", project.folder, option, 1)
    assert asked.returncode == 0
    assert "Job 1 is done already" in asked.stdout + asked.stderr
    with connect(project.database, read_only=True) as conn:
        assert jobs.state(conn, 1) is JobState.DONE
