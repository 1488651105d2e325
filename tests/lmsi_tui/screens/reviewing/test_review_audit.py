"""The audit on the review screen: blind before the judgment, summarized after it."""

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
    shown,
    text_of,
    toasts,
)
from tests.lmsi_tui.doubts import Doubt, active, doubts_project, written
from tests.lmsi_tui.driving import driven

if TYPE_CHECKING:
    from pathlib import Path

    from textual.pilot import Pilot

    from engine.project.folder import Project


@pytest.fixture
def accepted(tmp_path: Path) -> Project:
    return doubts_project(tmp_path / "accepted", ACCEPTED)


def vote_of(pilot: Pilot[None]) -> str:
    """The winner of the open question's vote."""
    opened = review(pilot).session.opened
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
        status = cast("Static", review(pilot).query_one("#status")).render()
        assert hidden not in str(status)
        await press(pilot, "t")
        await enter_text(pilot, hidden)
        assert f"✓ right: the vote is {hidden}, too" in text_of(pilot, "status")
        assert "Step" in shown(pilot)
        assert "1 of 1 agree" in text_of(pilot, "where")
    (row,) = written(accepted)
    assert (row.queue, row.verdict, row.answer) == (Queue.AUDIT, Verdict.TYPED, hidden)


async def test_an_audit_that_differs_says_so_and_continues(accepted: Project) -> None:
    async with driven(accepted, "review") as pilot:
        await press(pilot, "b", "1")
        assert isinstance(pilot.app.screen, AnswerInput)
        assert pilot.app.screen.query_one(Input).value == "1"
        await enter_text(pilot, "100")
        first = question(pilot)
        assert "✗ wrong: you say 100, the vote is" in text_of(pilot, "status")
        assert "0 of 1 agree" in text_of(pilot, "where")
        await press(pilot, "1", "x", "t")
        assert "Already judged" in toasts(pilot)
        assert question(pilot) == first
        await press(pilot, "space")
        assert question(pilot) != first
        await press(pilot, "x")
        assert "0 of 2 agree" in text_of(pilot, "where")
        await press(pilot, "enter", "space")
        assert "All 3 accepted questions are audited" in shown(pilot)
        assert "0 of 2 agree" in text_of(pilot, "where")
    assert [(row.queue, row.verdict) for row in written(accepted)] == [
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
        assert "0 of 0 agree" in text_of(pilot, "where")


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
        assert "✓ right: the vote is B the sun, too" in text_of(pilot, "status")
    (row,) = written(project)
    assert (row.verdict, row.answer) == (Verdict.TYPED, "B")


async def test_the_audit_goes_through_a_random_order_without_a_gap(tmp_path: Path) -> None:
    many = [Doubt((str(number),) * 4, f"Say {number}?") for number in range(100, 112)]
    project = doubts_project(tmp_path / "many", many, m=4)
    order = []
    async with driven(project, "review") as pilot:
        await press(pilot, "b", "n")
        assert "cannot be left out" in toasts(pilot)
        for _ in many:
            order.append(question(pilot))
            await press(pilot, "space")
    assert sorted(order) == [doubt.text for doubt in many]
    assert order != sorted(order)


@pytest.fixture
def repeating(tmp_path: Path) -> Project:
    """Forty accepted questions; the first 38 of the audit are judged, and a repeat is due."""
    many = [Doubt(("yes",) * 8, f"Is {n} a number?", AnswerType.YES_NO) for n in range(40)]
    project = doubts_project(tmp_path / "repeating", many)
    with connect(project.database) as conn, transaction(conn):
        run = paths.runs(conn)[0]
        for id_ in list(queue.audit_order(conn, run.id))[:38]:
            reviews.add(conn, judgment(id_, run.id, "yes"))
    return project


def judgment(question_id: int, run_id: int, answer: str) -> Review:
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


def audit_of(project: Project) -> audit.Audit:
    with connect(project.database, read_only=True) as conn:
        run = paths.runs(conn)[0]
        return audit.of_store(conn, run, threshold=project.settings.sample.threshold)


async def test_an_audit_shows_the_precision_with_its_interval_after_each_decision(
    accepted: Project,
) -> None:
    async with driven(accepted, "review") as pilot:
        await press(pilot, "b")
        assert text_of(pilot, "audit") == ""
        await press(pilot, "x")
        precision = audit_of(accepted).precision
        assert precision is not None
        assert precision.wrong == 1
        interval = f"{percent(precision.low)} to {percent(precision.high)} %"
        text = " ".join(text_of(pilot, "audit").split())
        assert "1 of 3 accepted labels judged, too few for an estimate" in text
        assert f"{interval} are right" in text
        assert "0.0 % are right (" not in text
        assert "No threshold is certified at 95.0 % yet" in text_of(pilot, "audit")
        await press(pilot, "u")
        assert text_of(pilot, "audit") == ""


async def test_an_audit_shows_how_many_correct_audits_certify_a_threshold(
    repeating: Project,
) -> None:
    _, following = audit_of(repeating).certified_so_far(TARGET_PRECISION)
    async with driven(repeating, "review") as pilot:
        await press(pilot, "b")
        if following is None:
            assert "is certified at 95.0 %, which covers everything" in text_of(pilot, "audit")
        else:
            assert f"{following.clean_needed} more correct audit" in text_of(pilot, "audit")


async def test_a_repeat_is_unannounced_and_as_blind_as_the_first_audit(
    repeating: Project,
) -> None:
    (again, *_) = audit_of(repeating).repeats
    async with driven(repeating, "review") as pilot:
        await press(pilot, "b", "1", "space")
        assert question(pilot) == again.text
        assert "the vote is" not in text_of(pilot, "status")
        assert "What is the right answer?" in text_of(pilot, "status")
        assert "39 of 40" in text_of(pilot, "where")
        await press(pilot, "2")
        assert "✗ wrong: you say no, the vote is yes" in text_of(pilot, "status")
        result = audit_of(repeating)
        consistency = result.consistency
        assert consistency.repeated == 1
        assert f"{consistency.same} of {consistency.repeated} judged the same" in text_of(
            pilot, "audit"
        )
        # The precision is estimated from first judgments.
        assert result.judged[again.id]
        await press(pilot, "u")
        assert question(pilot) == again.text
        assert "What is the right answer?" in text_of(pilot, "status")
        await press(pilot, "1", "space")
        assert question(pilot) != again.text
    rows = [row for row in active(repeating) if row.question_id == again.id]
    assert [row.answer for row in rows] == ["yes", "yes"]


async def test_the_audit_closes_the_list(tmp_path: Path) -> None:
    project = doubts_project(tmp_path / "both", [*FOUR, *ACCEPTED])
    async with driven(project, "review", size=(200, 50)) as pilot:
        await press(pilot, "l", "b")
        assert review(pilot).query_one(QuestionTable).region.height == 0
        hidden = vote_of(pilot)
        assert hidden not in shown(pilot)
        await press(pilot, "x", "b", "1")
    assert [(row.queue, row.verdict) for row in written(project)] == [
        (Queue.AUDIT, Verdict.NONE),
        (Queue.TRIAGE, Verdict.ANSWER),
    ]
