"""The audit in review through its keys: blind, and then told what it has shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from textual.widgets import Input, Static

from engine.review import audit
from engine.statistics.confidence_sequence import TARGET_PRECISION
from lmsi_tui.formatting.numbers import percent
from lmsi_tui.screens.reviewing.answer_input import AnswerInput
from lmsi_tui.widgets.reviewing.question_table import QuestionTable
from store import paths, queue, reviews
from store.connection import connect, transaction
from store.enums import AnswerType, Queue, Verdict
from store.records import Review
from tests.lmsi_tui.decisions import (
    ACCEPTED,
    FOUR,
    enter_text,
    press,
    question,
    review,
    said,
    shown,
    toasts,
)
from tests.lmsi_tui.doubts import Doubt, doubts_project, standing, written
from tests.lmsi_tui.driving import driven

if TYPE_CHECKING:
    from pathlib import Path

    from textual.pilot import Pilot

    from engine.project.folder import Project


@pytest.fixture
def accepted(tmp_path: Path) -> Project:
    return doubts_project(tmp_path / "accepted", ACCEPTED)


def vote_of(pilot: Pilot[None]) -> str:
    """What the vote says about the open question."""
    opened = review(pilot).desk.opened
    assert opened is not None
    assert opened.winner is not None
    return opened.winner


async def test_an_audit_shows_nothing_of_the_vote_before_it_is_judged(accepted: Project) -> None:
    async with driven(accepted, "review", size=(200, 50)) as pilot:
        await press(pilot, "b")
        seen = shown(pilot)
        hidden = vote_of(pilot)
        assert hidden not in seen
        assert "Step" not in seen
        # No key shows it, either.
        for key in ("tab", "g", "l", "m", "a", "n", "slash", "left", "right"):
            await press(pilot, key)
            assert hidden not in shown(pilot)
            assert "Step" not in shown(pilot)
        heard = cast("Static", review(pilot).query_one("#said")).render()
        assert hidden not in str(heard)
        await press(pilot, "t")
        await enter_text(pilot, hidden)
        assert f"✓ right: the vote says {hidden} too" in said(pilot, "said")
        assert "Step" in shown(pilot)
        assert "1 of 1 agree" in said(pilot, "where")
    (row,) = written(accepted)
    assert (row.queue, row.verdict, row.answer) == (Queue.AUDIT, Verdict.TYPED, hidden)


async def test_an_audit_that_differs_says_so_and_goes_on(accepted: Project) -> None:
    async with driven(accepted, "review") as pilot:
        await press(pilot, "b", "1")
        assert isinstance(pilot.app.screen, AnswerInput)
        assert pilot.app.screen.query_one(Input).value == "1"
        await enter_text(pilot, "100")
        first = question(pilot)
        assert "✗ wrong: you say 100, the vote says" in said(pilot, "said")
        assert "0 of 1 agree" in said(pilot, "where")
        await press(pilot, "1", "x", "t")
        assert "You have judged this one" in toasts(pilot)
        assert question(pilot) == first
        await press(pilot, "space")
        assert question(pilot) != first
        await press(pilot, "x")
        assert "0 of 2 agree" in said(pilot, "where")
        await press(pilot, "enter", "space")
        assert "All 3 accepted questions are audited" in shown(pilot)
        assert "0 of 2 agree" in said(pilot, "where")
    assert [(one.queue, one.verdict) for one in written(accepted)] == [
        (Queue.AUDIT, Verdict.TYPED),
        (Queue.AUDIT, Verdict.NONE),
        (Queue.AUDIT, Verdict.SKIP),
    ]


async def test_an_undone_audit_is_blind_again(accepted: Project) -> None:
    async with driven(accepted, "review", size=(200, 50)) as pilot:
        await press(pilot, "b", "t")
        await enter_text(pilot, "100")
        hidden = vote_of(pilot)
        assert hidden in shown(pilot)
        await press(pilot, "u")
        assert hidden not in shown(pilot)
        assert "0 of 0 agree" in said(pilot, "where")


async def test_an_audit_picks_an_option_by_its_number(tmp_path: Path) -> None:
    choice = Doubt(("B",) * 8, "Which shines?", AnswerType.CHOICE, ("a stone", "the sun"), "arc")
    project = doubts_project(tmp_path / "choice", [choice])
    async with driven(project, "review") as pilot:
        await press(pilot, "b")
        assert "2  B the sun" in shown(pilot)
        assert "█" not in shown(pilot)
        await press(pilot, "3")
        assert "There is no option 3" in toasts(pilot)
        await press(pilot, "2")
        assert "✓ right: the vote says B the sun too" in said(pilot, "said")
    (row,) = written(project)
    assert (row.verdict, row.answer) == (Verdict.TYPED, "B")


async def test_the_audit_goes_through_a_random_order_without_a_gap(tmp_path: Path) -> None:
    many = [Doubt((str(number),) * 4, f"Say {number}?") for number in range(100, 112)]
    project = doubts_project(tmp_path / "many", many, m=4)
    order = []
    async with driven(project, "review") as pilot:
        await press(pilot, "b", "n")
        assert "none may be left out" in toasts(pilot)
        for _ in many:
            order.append(question(pilot))
            await press(pilot, "space")
    assert sorted(order) == [one.text for one in many]
    assert order != sorted(order)


@pytest.fixture
def repeating(tmp_path: Path) -> Project:
    """Forty accepted questions; those that come first in the audit are judged, and a repeat is
    due."""
    many = [Doubt(("yes",) * 8, f"Is {n} a number?", AnswerType.YES_NO) for n in range(40)]
    project = doubts_project(tmp_path / "repeating", many)
    with connect(project.database) as conn, transaction(conn):
        run = paths.runs(conn)[0]
        for id_ in list(queue.audit_order(conn, run.id))[:38]:
            reviews.add(conn, judgement(id_, run.id, "yes"))
    return project


def judgement(question_id: int, run_id: int, answer: str) -> Review:
    return Review(
        id=0,
        question_id=question_id,
        run_id=run_id,
        queue=Queue.AUDIT,
        verdict=Verdict.TYPED,
        answer=answer,
        other=None,
        undoes=None,
        seconds=2.0,
        created_at=1.0,
    )


def known(project: Project) -> audit.Audit:
    with connect(project.database, read_only=True) as conn:
        run = paths.runs(conn)[0]
        return audit.of_store(conn, run, threshold=project.settings.sample.threshold)


async def test_an_audit_tells_the_precision_with_its_interval_after_each_decision(
    accepted: Project,
) -> None:
    async with driven(accepted, "review") as pilot:
        await press(pilot, "b")
        assert said(pilot, "known") == ""
        await press(pilot, "x")
        precision = known(accepted).precision
        assert precision is not None
        assert precision.wrong == 1
        between = f"({percent(precision.low)} to {percent(precision.high)} %, whenever you stop)"
        assert f"Of 3 accepted, 0.0 % are right {between}" in said(pilot, "known")
        assert "No threshold is certified at 95.0 % yet" in said(pilot, "known")
        await press(pilot, "u")
        assert said(pilot, "known") == ""


async def test_an_audit_tells_how_many_clean_audits_certify_a_threshold(repeating: Project) -> None:
    _, following = known(repeating).certified_so_far(TARGET_PRECISION)
    async with driven(repeating, "review") as pilot:
        await press(pilot, "b")
        if following is None:
            assert "is certified at 95.0 %, and so is everything" in said(pilot, "known")
        else:
            assert f"{following.clean_needed} clean audit" in said(pilot, "known")


async def test_a_repeat_is_asked_without_a_word_and_as_blind_as_the_first_time(
    repeating: Project,
) -> None:
    (again, *_) = known(repeating).repeats
    async with driven(repeating, "review") as pilot:
        await press(pilot, "b", "1", "space")
        assert question(pilot) == again.text
        assert "the vote says" not in said(pilot, "said")
        assert "What is right?" in said(pilot, "said")
        assert "39 of 40" in said(pilot, "where")
        await press(pilot, "2")
        assert "✗ wrong: you say no, the vote says yes" in said(pilot, "said")
        found = known(repeating)
        told = f"{found.consistency.same} of {found.consistency.repeated} judged the same"
        assert found.consistency.repeated == 1
        assert told in said(pilot, "known")
        # A first judgement is what the precision is made of.
        assert found.judged[again.id]
        await press(pilot, "u")
        assert question(pilot) == again.text
        assert "What is right?" in said(pilot, "said")
        await press(pilot, "1", "space")
        assert question(pilot) != again.text
    rows = [one for one in standing(repeating) if one.question_id == again.id]
    assert [one.answer for one in rows] == ["yes", "yes"]


async def test_the_list_is_left_for_the_audit(tmp_path: Path) -> None:
    project = doubts_project(tmp_path / "both", [*FOUR, *ACCEPTED])
    async with driven(project, "review", size=(200, 50)) as pilot:
        await press(pilot, "l", "b")
        assert review(pilot).query_one(QuestionTable).region.height == 0
        hidden = vote_of(pilot)
        assert hidden not in shown(pilot)
        await press(pilot, "x", "b", "1")
    assert [(one.queue, one.verdict) for one in written(project)] == [
        (Queue.AUDIT, Verdict.NONE),
        (Queue.TRIAGE, Verdict.ANSWER),
    ]
