"""Replays of stored paths: what they count, and that they change nothing."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from engine.sampling import early_stop_replay
from engine.voting import majority
from lmsi_tui.cli.main import run
from store import paths, questions
from store.connection import connect
from store.enums import Decision, EarlyStop, Split
from tests.projects import command, scripted_project

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

M = 16
PATHS = st.lists(st.sampled_from(["1", "1", "1", "2", "3", None]), min_size=M, max_size=M)


@given(PATHS, st.sampled_from(["0", "0.28", "0.5", "0.75", "0.9", "1"]), st.integers(1, 8))
def test_exact_changes_neither_decision_nor_kept_answer(
    answers: list[str | None], threshold: str, cap: int
) -> None:
    row = early_stop_replay.replay(
        [answers], m=M, rule=EarlyStop.EXACT, threshold=threshold, cap=cap, epsilon=0.01
    )
    assert row.changed == 0
    assert 0 < row.drawn <= M


@given(PATHS, st.sampled_from(list(EarlyStop)), st.sampled_from(["0", "0.5", "0.9"]))
def test_a_replay_samples_at_least_what_the_vote_uses(
    answers: list[str | None], rule: EarlyStop, threshold: str
) -> None:
    outcome, drawn = early_stop_replay.decide(
        answers, m=M, rule=rule, threshold=threshold, cap=4, epsilon=0.01
    )
    vote = majority.count_vote(
        answers,
        run_id=0,
        question_id=0,
        m=M,
        rule=rule,
        threshold=threshold,
        cap=4,
        epsilon=0.01,
        reader="",
    )
    assert vote.drawn <= drawn <= M
    if rule is not EarlyStop.FAST:
        assert outcome[0] is vote.decision
    assert outcome[0] in (Decision.KEEP, Decision.REJECT)


def test_fast_saves_more_and_may_change_a_decision() -> None:
    turns = [["1"] * 6 + ["2"] * 10, ["1"] * 16, ["1", "2", "3", "4"] * 4]
    rows = {
        rule: early_stop_replay.replay(turns, m=16, rule=rule, threshold="0.5", cap=4, epsilon=0.05)
        for rule in EarlyStop
    }
    assert rows[EarlyStop.OFF].saved == 0
    assert rows[EarlyStop.FAST].saved > rows[EarlyStop.EXACT].saved > 0
    assert rows[EarlyStop.FAST].changed == 1
    low, high = rows[EarlyStop.FAST].changed_interval
    assert low < 1 / 3 < high


def test_the_command_prints_every_rule_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = scripted_project(
        tmp_path / "p", pool=12, changes={"sample": {"m": 16, "cap": 2, "early_stop": "off"}}
    )
    assert command("sample", project.folder).returncode == 0
    before = hashlib.sha256(project.database.read_bytes()).hexdigest()
    args = ["vote", str(project.folder), "--replay", "--threshold", "0.5", "--threshold", "3/4"]
    assert run([*args, "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    lines = [event for event in events if event["event"] == "replay"]
    assert [(line["threshold"], line["rule"]) for line in lines] == [
        (threshold, rule) for threshold in ("0.5", "3/4") for rule in ("off", "exact", "fast")
    ]
    assert {line["questions"] for line in lines} == {12}
    assert all(line["changed"] == 0 for line in lines if line["rule"] == "exact")
    assert lines[1]["saved"] > 0
    assert run([*args, "--rule", "exact", "--m", "4"]) == 0
    out = capsys.readouterr().out
    assert "12 of 12 sampled questions" in out
    assert "all 4 paths" in out
    table = out.partition("Ways to count")[0]
    assert len(table.splitlines()) == 4
    assert hashlib.sha256(project.database.read_bytes()).hexdigest() == before
    # A replay counts the same decisions as a vote over the same paths.
    with connect(project.database, read_only=True) as conn:
        pool = questions.by_split(conn, Split.POOL)
        (run_,) = paths.runs(conn)
        answers = paths.answers_by_question(conn, run_.id, [question.id for question in pool])
        kept = sum(max(Counter(given.values()).values()) >= 8 for given in answers.values())
    assert lines[0]["kept"] in (kept, kept - 1)  # a tie is not kept


def test_questions_that_stopped_early_are_counted_but_not_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = scripted_project(tmp_path / "p", pool=12, changes={"sample": {"m": 16, "cap": 4}})
    assert command("sample", project.folder).returncode == 0
    assert run(["vote", str(project.folder), "--replay", "--m", "8"]) == 0
    out = capsys.readouterr().out
    assert "of 12 sampled questions" in out
    assert "all 8 paths" in out
