"""`lmsi-tui reader`: show rules, preview them, and put them in force."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from engine.answers import custom_rules
from lmsi_tui.cli.main import run
from store import jobs, reader_rules, votes
from store.connection import connect, transaction
from store.enums import AnswerType, JobKind
from tests.lmsi_tui.doubts import Doubt, doubts_project
from tests.projects import scripted_project

if TYPE_CHECKING:
    from pathlib import Path

    from engine.project.folder import Project

SPLIT = ("nyc", "nyc", "nyc", "big apple", "big apple", "big apple", "x", None)
SAME = ["--same", "NYC", "the Big Apple"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    doubts = [Doubt(SPLIT, kind=AnswerType.SPAN), Doubt(("\x1b[31mred",) * 8, kind=AnswerType.SPAN)]
    return doubts_project(tmp_path / "p", doubts)


def rows(project: Project) -> list[dict[str, object]]:
    with connect(project.database, read_only=True) as conn:
        return [row.rules for row in reader_rules.history(conn)]


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_preview_is_printed_and_nothing_is_written(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["reader", str(project.folder), *SAME, "--try"]) == 0
    stdout = capsys.readouterr().out
    assert "3 of 16 paths" in stdout
    assert "1 of 2 winners" in stdout
    assert "no winner -> nyc" in stdout
    assert "Nothing was changed" in stdout
    assert rows(project) == []


def test_a_preview_is_one_json_object(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reader", str(project.folder), *SAME, "--json"]) == 0
    (event,) = events(capsys)
    assert event["winners_changed"] == 1
    assert [(change["before"], change["after"]) for change in event["changed"]] == [(None, "nyc")]


def test_accepting_rules_adds_a_row_and_a_vote_job(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["reader", str(project.folder), *SAME, "--accept", "--detach", "--json"]) == 0
    (event,) = events(capsys)
    assert event["reader"] == "span/2+1"
    assert rows(project) == [{"same": [["nyc", "big apple"]]}]
    with connect(project.database, read_only=True) as conn:
        assert [job.kind for job in jobs.all_of(conn)] == [JobKind.VOTE]
    assert run(["reader", str(project.folder)]) == 0
    assert "nyc = big apple" in capsys.readouterr().out


def test_rules_shown_as_json_can_be_given_again_and_reset(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = {
        "patterns": ["(?i)so: (?P<answer>.+)"],
        "units": ["km"],
        "same": [["nyc", "big apple"]],
    }
    detached = ["--accept", "--detach"]
    given = ["--type", "span", f"--rules={json.dumps(rules)}", *detached]
    assert run(["reader", str(project.folder), *given]) == 0
    capsys.readouterr()
    assert run(["reader", str(project.folder), "--json"]) == 0
    (event,) = events(capsys)
    (shown,) = event["readers"]
    assert shown["rules"] == rules
    assert run(["reader", str(project.folder), "--reset", *detached]) == 0
    assert rows(project)[-1] == {}
    with connect(project.database, read_only=True) as conn:
        assert custom_rules.in_force(conn) == {}
        assert len(votes.for_run(conn, 1)) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--pattern", "(open"], "is not a regular expression"),
        (["--pattern", "x"], "does not mark the answer"),
        (["--same", "a", ""], "is not an answer"),
        (["--accept"], "No rule is given"),
        (["--reset", *SAME], "do not combine them"),
        (["--rules", "{"], "The rules are invalid"),
        (["--rules", '{"same": [["a"]]}'], "The rules are invalid"),
    ],
)
def test_unusable_rules_are_reported_in_one_sentence(
    project: Project, capsys: pytest.CaptureFixture[str], given: list[str], words: str
) -> None:
    assert run(["reader", str(project.folder), *given]) == 2
    stderr = capsys.readouterr().err
    assert words in stderr
    assert stderr.count("\n") == 1
    assert rows(project) == []


def make_outdated(project: Project) -> None:
    """As if `span/0` had read `nyc` as `york`."""
    with connect(project.database) as conn, transaction(conn):
        conn.execute("UPDATE reading SET reader = 'span/0'")
        conn.execute("UPDATE reading SET answer = 'york' WHERE answer = 'nyc'")
        conn.execute(
            "UPDATE vote SET reader = 'span/0', winner = 'york',"
            ' tally = \'[["york", 4], ["big apple", 3], ["x", 1]]\''
            " WHERE tally LIKE '%nyc%'"
        )


def test_status_reader_and_other_stages_say_that_votes_are_outdated(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", str(project.folder)]) == 0
    assert "lmsi-tui vote" not in capsys.readouterr().out
    make_outdated(project)
    assert run(["status", str(project.folder)]) == 0
    stdout = capsys.readouterr().out
    assert "span/0" in stdout
    assert "`lmsi-tui vote`" in stdout
    assert run(["status", str(project.folder), "--json"]) == 0
    (event,) = events(capsys)
    (outdated,) = event["outdated_votes"]
    assert (outdated["reader"], outdated["votes"]) == ("span/0", 1)
    assert run(["reader", str(project.folder)]) == 0
    stdout = capsys.readouterr().out
    assert "york -> no winner" in stdout
    assert run(["reader", str(project.folder), "--json"]) == 0
    (event,) = events(capsys)
    (preview,) = event["outdated"]
    changes = {change["before"]: change["after"] for change in preview["changed"]}
    assert changes["york"] is None


def test_vote_says_which_winners_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = scripted_project(tmp_path / "q")
    assert run(["sample", str(project.folder)]) == 0
    with connect(project.database) as conn, transaction(conn):
        conn.execute("UPDATE vote SET reader = 'number/0'")
        conn.execute("UPDATE vote SET winner = '77' WHERE winner = '5'")
    capsys.readouterr()
    assert run(["vote", str(project.folder)]) == 0
    stdout = capsys.readouterr().out
    assert "before: number/0" in stdout
    assert "1 winner changed" in stdout
    assert "77 -> 5" in stdout
    assert run(["vote", str(project.folder)]) == 0
    assert "changed" not in capsys.readouterr().out
