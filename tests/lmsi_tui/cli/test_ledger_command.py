"""`lmsi-tui ledger` prints the rounds and what became of each question."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lmsi_tui.cli.main import run
from store import questions
from store.connection import connect
from store.enums import Split
from tests.engine.evaluation.test_ledger import BASE, POOL, rounds_of
from tests.projects import TEACHER, scripted_project

if TYPE_CHECKING:
    from pathlib import Path

    from engine.project.folder import Project

FLIPPED = {**BASE, 2: "777", 5: "777", 8: "777"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("rounds")
    project = scripted_project(folder, pool=POOL, changes={"sample": {"m": 8}})
    with connect(project.database) as conn:
        rounds_of(project, conn, BASE, FLIPPED)
    return project


def printed(project: Project, capfd: pytest.CaptureFixture[str], *options: str) -> list[str]:
    capfd.readouterr()
    assert run(["ledger", str(project.folder), *options]) == 0
    return capfd.readouterr().out.splitlines()


def test_the_table_shows_rounds_classes_and_the_flipped_question_first(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    head, first, second, alarm, classes, *rows = printed(project, capfd)
    assert head.split() == ["#", "model", "kept", "held", "flipped", "lost", "gained", "noise"]
    assert first.split() == ["1", TEACHER, "12/12"]
    assert second.split() == ["2", "scripted/lmsi-1", "12/12", "9", "3", "0", "0", "0.0"]
    assert "3 of 12 questions" in alarm
    assert classes == "9 solved · 3 learnable · 0 hopeless · 3 flipped"
    assert len(rows) == POOL
    assert rows[0].split()[:8] == ["learnable", "2", "100", "%•", "≠", "777", "100", "%•"]
    assert "Which number comes before 3" in rows[0]
    assert all(len(line) <= 76 for line in (head, first, second))


def test_questions_are_filtered_and_limited(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    assert len(printed(project, capfd, "--flips")) == 8
    assert len(printed(project, capfd, "--class", "hopeless")) == 5
    *_, last = printed(project, capfd, "--class", "solved", "--limit", "2")
    assert last == "7 more than shown (--limit)."


def test_json_has_an_event_for_each_round_and_question(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    events = [json.loads(line) for line in printed(project, capfd, "--json", "--limit", "1")]
    assert [event["event"] for event in events] == [
        "ledger-round",
        "ledger-round",
        "ledger",
        "ledger-question",
    ]
    assert events[0]["changes"] is None
    assert events[1]["changes"]["flipped"] == 3
    assert events[2]["solved"] == 9
    with connect(project.database, read_only=True) as conn:
        third = questions.by_split(conn, Split.POOL)[2]
    assert events[3]["key"] == third.key
    assert [vote["answer"] for vote in events[3]["votes"]] == ["2", "777"]


def test_without_votes_the_command_says_what_to_do(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    project = scripted_project(tmp_path)
    assert run(["ledger", str(project.folder)]) == 2
    assert "lmsi-tui sample" in capfd.readouterr().err
