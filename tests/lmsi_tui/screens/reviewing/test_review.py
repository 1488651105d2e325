"""The review screen: every key stores the decision that it names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Input

from engine.review.decisions import ruling_of
from lmsi_tui.reviewing.queue import QueueSelection
from lmsi_tui.screens.reviewing.answer_input import AnswerInput
from lmsi_tui.screens.reviewing.find_panel import FindPanel
from lmsi_tui.screens.reviewing.same_answer import SameAnswer
from lmsi_tui.shell.messages import CopyRequested, PagerRequested
from lmsi_tui.widgets.charts.vote_bar import VoteBar
from lmsi_tui.widgets.reviewing.path_group import PathGroup
from lmsi_tui.widgets.reviewing.question_table import QuestionTable
from store import paths, reviews
from store.connection import connect, transaction
from store.enums import AnswerType, Queue, Verdict
from store.errors import WorkFailed
from store.queue import Scope, Sort
from store.records import Review
from tests.lmsi_tui.decisions import (
    ACCEPTED,
    FOUR,
    enter_text,
    id_of,
    press,
    question,
    review,
    shown,
    text_of,
    toasts,
)
from tests.lmsi_tui.doubts import Doubt, active, add_doubts, doubts_project, written
from tests.lmsi_tui.driving import driven, settled, until
from tests.projects import scripted_project
from tests.seed import at_work, seeded_project

if TYPE_CHECKING:
    from pathlib import Path

    from textual.message import Message

    from engine.project.folder import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return doubts_project(tmp_path / "doubts", FOUR)


# Deciding.


@pytest.mark.parametrize(
    ("keys", "verdict", "answer"),
    [
        (["1"], Verdict.ANSWER, "10"),
        (["2"], Verdict.ANSWER, "600"),
        (["3"], Verdict.ANSWER, "12"),
        (["x"], Verdict.NONE, None),
        (["space"], Verdict.SKIP, None),
        (["enter"], Verdict.ANSWER, "10"),
        (["right", "enter"], Verdict.ANSWER, "600"),
        (["right", "left", "enter"], Verdict.ANSWER, "10"),
        (["g", "enter"], Verdict.ANSWER, "12"),
    ],
    ids=str,
)
async def test_a_key_decides_and_opens_the_next_question(
    keys: list[str], verdict: Verdict, answer: str | None, project: Project
) -> None:
    async with driven(project, "review") as pilot:
        assert question(pilot) == FOUR[0].text
        await press(pilot, *keys)
        assert question(pilot) == FOUR[1].text
    (row,) = written(project)
    assert (row.question_id, row.queue) == (id_of(project, 0), Queue.TRIAGE)
    assert (row.verdict, row.answer, row.other, row.undoes) == (verdict, answer, None, None)
    assert row.seconds >= 0


async def test_a_majority_is_accepted_and_a_tie_has_none(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "a")
        assert question(pilot) == FOUR[0].text
        assert "no majority" in toasts(pilot)
        await press(pilot, "n", "a")
        assert question(pilot) == FOUR[2].text
    (row,) = written(project)
    assert (row.question_id, row.verdict) == (id_of(project, 1), Verdict.MAJORITY)


async def test_a_key_without_an_answer_decides_nothing(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "9")
        assert "no answer 9" in toasts(pilot)
        assert question(pilot) == FOUR[0].text
    assert written(project) == []


async def test_paths_without_an_answer_cannot_be_called_right(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "g", "g", "enter")
        assert review(pilot).query_one("#left", PathGroup).path.key == "∅"  # type: ignore[union-attr]
        assert "have no answer" in toasts(pilot)
    assert written(project) == []


async def test_a_typed_answer_is_stored_normalized(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "t")
        await enter_text(pilot, " 1,250.0 pages")
        assert question(pilot) == FOUR[1].text
    (row,) = written(project)
    assert (row.verdict, row.answer) == (Verdict.TYPED, "1250")


async def test_an_invalid_typed_answer_is_refused(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "t")
        await enter_text(pilot, "a great many")
        assert isinstance(pilot.app.screen, AnswerInput)
        assert "Not an answer: type a number" in shown(pilot)
        await press(pilot, "escape")
        assert question(pilot) == FOUR[0].text
    assert written(project) == []


async def test_a_typed_answer_that_equals_one_of_the_paths_is_reported(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "t")
        await enter_text(pilot, "600")
        assert "answer 2 of that question" in toasts(pilot)
    (row,) = written(project)
    assert (row.verdict, row.answer) == (Verdict.TYPED, "600")


async def test_two_of_several_answers_are_merged(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "m")
        assert isinstance(pilot.app.screen, SameAnswer)
        await press(pilot, "3", "2")
        assert question(pilot) == FOUR[0].text
        opened = review(pilot).session.opened
        assert opened is not None
        assert [(group.answer, group.count) for group in opened.groups] == [("600", 4), ("10", 3)]
        await press(pilot, "a")
    same, majority = written(project)
    assert (same.verdict, same.answer, same.other) == (Verdict.SAME, "600", "12")
    assert majority.verdict is Verdict.MAJORITY
    assert ruling_of(active(project)).representative("12") == "600"


async def test_the_two_are_chosen_with_arrows_and_enter_too(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "m", "enter", "enter", "down", "enter", "down", "enter")
    (row,) = written(project)
    assert (row.answer, row.other) == ("600", "12")


async def test_the_only_two_answers_are_merged_immediately(tmp_path: Path) -> None:
    project = doubts_project(tmp_path / "two", [Doubt(("0.5", "1", "0.5", "1"))], m=4)
    async with driven(project, "review") as pilot:
        await press(pilot, "m")
        await press(pilot, "m")
        assert "no two answers" in toasts(pilot)
    (row,) = written(project)
    assert (row.verdict, row.answer, row.other) == (Verdict.SAME, "0.5", "1")


async def test_every_decision_can_be_changed(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "1", "p", "2")
    first, second = written(project)
    assert first.question_id == second.question_id
    decision = ruling_of(active(project)).decision
    assert decision is not None
    assert decision.answer == "600"


# Undo.


async def test_all_decisions_of_the_session_can_be_undone(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "1", "x", "space", "m", "1", "2", "a")
        assert question(pilot) == ""
        made = written(project)
        assert [row.verdict for row in made] == [
            Verdict.ANSWER,
            Verdict.NONE,
            Verdict.SKIP,
            Verdict.SAME,
            Verdict.MAJORITY,
        ]
        for number in (3, 3, 2, 1, 0):
            await press(pilot, "u")
            assert question(pilot) == FOUR[number].text
        assert active(project) == []
        await press(pilot, "u")
        assert "Nothing to undo" in toasts(pilot)
    rows = written(project)
    assert rows[:5] == made
    assert [row.verdict for row in rows[5:]] == [Verdict.UNDO] * 5
    assert [row.undoes for row in rows[5:]] == [row.id for row in reversed(made)]


async def test_an_undo_goes_back_to_the_other_queue(tmp_path: Path) -> None:
    project = doubts_project(tmp_path / "both", [*FOUR, *ACCEPTED])
    async with driven(project, "review") as pilot:
        await press(pilot, "1", "b")
        audited = question(pilot)
        await press(pilot, "x", "b", "u")
        assert review(pilot).session.auditing
        assert question(pilot) == audited
        seen = re.search(r"\b23\b", shown(pilot).replace(audited, ""))
        assert seen is None or audited != ACCEPTED[2].text
        await press(pilot, "u")
        assert not review(pilot).session.auditing
        assert question(pilot) == FOUR[0].text
    assert active(project) == []


async def test_a_question_that_a_filter_hides_comes_back_by_undo(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "1", "slash")
        await enter_text(pilot, "third")
        assert question(pilot) == FOUR[2].text
        await press(pilot, "u")
        assert question(pilot) == FOUR[0].text
    assert active(project) == []


# Moving.


async def test_questions_can_be_viewed_without_deciding(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "n", "n")
        assert question(pilot) == FOUR[2].text
        assert "3 of 4" in text_of(pilot, "where")
        await press(pilot, "p")
        assert question(pilot) == FOUR[1].text
        await press(pilot, "p", "p", "p")
        assert question(pilot) == FOUR[0].text
    assert written(project) == []


async def test_every_path_of_every_answer_can_be_seen(project: Project) -> None:
    async with driven(project, "review") as pilot:
        left = review(pilot).query_one("#left", PathGroup)
        right = review(pilot).query_one("#right", PathGroup)

        def seen(pane: PathGroup) -> tuple[str, int, int]:
            assert pane.path is not None
            return pane.path.answer, pane.path.place, pane.path.of

        assert (seen(left), seen(right)) == (("10", 1, 3), ("600", 1, 3))
        await press(pilot, "tab", "tab")
        assert "Step 6 of 10." in shown(pilot)
        assert seen(left) == ("10", 3, 3)
        await press(pilot, "tab")
        assert seen(left) == ("10", 1, 3)
        await press(pilot, "shift+tab")
        assert seen(left) == ("10", 3, 3)
        await press(pilot, "right", "tab")
        assert (seen(left), seen(right)) == (("10", 3, 3), ("600", 2, 3))
        await press(pilot, "g")
        assert seen(right) == ("12", 1, 1)
        await press(pilot, "g")
        assert seen(right) == ("no answer", 1, 1)
        await press(pilot, "g")
        assert seen(right) == ("600", 2, 3)


async def test_the_first_difference_is_marked_in_both(project: Project) -> None:
    async with driven(project, "review") as pilot:
        for side in ("left", "right"):
            path = review(pilot).query_one(f"#{side}", PathGroup).path
            assert path is not None
            assert path.marked == 0
        assert shown(pilot).count("◂") == 2


async def test_an_answer_is_chosen_with_the_mouse(project: Project) -> None:
    async with driven(project, "review") as pilot:
        bar = review(pilot).query_one(VoteBar)
        third = bar.render().plain.index("12") + 1
        await pilot.click(VoteBar, offset=(third, 0))
        await settled(pilot)
        path = review(pilot).query_one("#left", PathGroup).path
        assert path is not None
        assert path.answer == "12"


async def test_a_text_is_copied_and_opened(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGER", "true")
    messages: list[Message] = []
    async with driven(project, "review", messages=messages) as pilot:
        await press(pilot, "tab", "y", "o")
    (copied,) = {id(sent): sent for sent in messages if isinstance(sent, CopyRequested)}.values()
    assert (copied.text, copied.what) == ("Step 2 of 10. The answer is 10.", "the path")
    (opened,) = {id(sent): sent for sent in messages if isinstance(sent, PagerRequested)}.values()
    assert FOUR[0].text in opened.text
    assert opened.text.endswith("Step 2 of 10. The answer is 10.")


async def test_the_top_bar_shows_position_pace_and_time_left(project: Project) -> None:
    async with driven(project, "review") as pilot:
        assert "1 of 4" in text_of(pilot, "where")
        await press(pilot, "1", "space")
        line = text_of(pilot, "where")
        assert "3 of 4" in line
        assert "2 decided" in line
        assert "/min" in line
        assert "left" in line


async def test_a_decision_is_shown_with_a_sign(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "2", "p")
        assert "✓ decided: 600 is right" in text_of(pilot, "status")
        assert "✓2" in shown(pilot)
        await press(pilot, "x", "p")
        assert "✗ decided: no answer is right" in text_of(pilot, "status")
        await press(pilot, "space", "p")
        assert "○ skipped" in text_of(pilot, "status")


# Filtering.


async def test_the_queue_is_filtered_and_sorted(tmp_path: Path) -> None:
    project = doubts_project(tmp_path / "all", [*FOUR, *ACCEPTED])
    async with driven(project, "review") as pilot:
        screen = review(pilot)

        async def find(**values: str) -> list[int]:
            await press(pilot, "slash")
            for name, value in values.items():
                pilot.app.screen.query_one(f"#{name}").value = value  # type: ignore[attr-defined]
            await pilot.pause()
            pilot.app.screen.query_one("#words").focus()
            await press(pilot, "enter")
            assert screen.session.queue is not None
            return list(screen.session.queue.ids)

        ids = [id_of(project, number) for number in range(4)]
        assert await find(words="question", sort=Sort.GROUP) == [ids[3], ids[2], ids[1]]
        assert text_of(pilot, "filter") == "“question” · largest group first"
        assert await find(words="", low="3/8", high="0.4") == [ids[0], ids[2]]
        assert text_of(pilot, "filter") == "agreement 0.375 to 0.4 · largest group first"
        await press(pilot, "slash", "ctrl+r")
        assert screen.selection == QueueSelection()
        assert len(await find(scope=Scope.ALL, reviewed="no")) == len(FOUR) + len(ACCEPTED)
        assert text_of(pilot, "filter") == "all votes · not reviewed · lowest margin first"


async def test_an_invalid_share_is_refused(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "slash")
        for low, high in (("x", "1"), ("0.7", "0.5"), ("0", "2")):
            pilot.app.screen.query_one("#low", Input).value = low
            pilot.app.screen.query_one("#high", Input).value = high
            await press(pilot, "enter")
            assert isinstance(pilot.app.screen, FindPanel)
            assert "two shares from 0 to 1" in shown(pilot)
        await press(pilot, "escape")
        assert review(pilot).selection == QueueSelection()


async def test_position_and_filter_survive_leaving(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "slash")
        await enter_text(pilot, "question")
        await press(pilot, "n")
        assert question(pilot) == FOUR[2].text
        await press(pilot, "j", "escape")
        pilot.app.switch_mode("review")
        await settled(pilot)
        assert question(pilot) == FOUR[2].text
        assert "“question”" in text_of(pilot, "filter")


async def test_the_list_opens_a_question_and_hides(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "l")
        table = review(pilot).query_one(QuestionTable)
        assert table.region.height > 0
        assert FOUR[3].text in shown(pilot)
        await press(pilot, "1")
        assert "Press enter" in toasts(pilot)
        await press(pilot, "down", "down", "enter")
        assert table.region.height == 0
        assert question(pilot) == FOUR[2].text
        await press(pilot, "1")
    (row,) = written(project)
    assert row.question_id == id_of(project, 2)


async def test_beside_the_list_the_question_follows_the_cursor(project: Project) -> None:
    async with driven(project, "review", size=(200, 50)) as pilot:
        await press(pilot, "l", "down", "down")
        assert question(pilot) == FOUR[2].text
        await press(pilot, "x")
        table = review(pilot).query_one(QuestionTable)
        assert question(pilot) == FOUR[3].text
        assert table.question_id == id_of(project, 3)
        assert "✗" in table.line(2).plain
        await pilot.click(QuestionTable, offset=(5, 1))
        await settled(pilot)
        assert question(pilot) == FOUR[0].text


async def test_five_thousand_questions_are_scrolled(tmp_path: Path) -> None:
    many = [Doubt(("1", "2"), f"Number {number}?") for number in range(5000)]
    project = doubts_project(tmp_path / "many", many, m=2)
    async with driven(project, "review", size=(200, 50)) as pilot:
        assert "1 of 5,000" in text_of(pilot, "where")
        await press(pilot, "l", "end")
        assert question(pilot) == "Number 4999?"
        assert "5,000 of 5,000" in text_of(pilot, "where")
        await press(pilot, "pageup", "home", "down")
        assert question(pilot) == "Number 1?"


# Other processes.


async def test_a_decision_of_another_process_is_shown_and_its_question_skipped(
    project: Project,
) -> None:
    async with driven(project, "review") as pilot:
        with connect(project.database) as conn, transaction(conn):
            run = paths.runs(conn)[0]
            for number in (0, 1):
                reviews.add(
                    conn,
                    Review(
                        id=0,
                        question_id=id_of(project, number),
                        run_id=run.id,
                        queue=Queue.TRIAGE,
                        verdict=Verdict.ANSWER,
                        answer=FOUR[number].answers[0],
                        other=None,
                        undoes=None,
                        seconds=1.0,
                        created_at=1.0,
                    ),
                )
        # A key press before the next poll must not overwrite the other decision.
        review(pilot).action_answer(1)
        await settled(pilot)
        assert "Another process has changed this question" in toasts(pilot)
        assert question(pilot) == FOUR[0].text
        assert "✓ decided: 10 is right" in text_of(pilot, "status")
        assert len(written(project)) == 2
        await press(pilot, "2")
        assert question(pilot) == FOUR[2].text
    assert [row.answer for row in written(project)] == ["10", "1", "600"]


async def test_polling_shows_a_decision_of_another_process(project: Project) -> None:
    async with driven(project, "review") as pilot:
        async with driven(project, "review") as other:
            await press(other, "2")
        await until(pilot, lambda: "✓ decided: 600 is right" in text_of(pilot, "status"))
        assert question(pilot) == FOUR[0].text


async def test_a_growing_queue_is_read_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmsi_tui.screens.reviewing.queue_screen.REREAD_SECONDS", 0.0)
    async with driven(project, "review") as pilot:
        await press(pilot, "n")
        with connect(project.database, read_only=True) as conn:
            run = paths.runs(conn)[0]
        add_doubts(project, [Doubt(("3", "4") * 4, "A new tie?")], run, start=4)
        await until(pilot, lambda: "of 5" in text_of(pilot, "where"))
        assert question(pilot) == FOUR[1].text


# Empty queues.


async def test_before_the_first_vote_the_queue_says_that_there_are_none(tmp_path: Path) -> None:
    project = doubts_project(tmp_path / "started", [])
    async with driven(project, "review") as pilot:
        assert "No votes yet" in shown(pilot)
        assert "then s to sample" in shown(pilot)


async def test_an_empty_queue_says_what_to_press(tmp_path: Path) -> None:
    unsampled = scripted_project(tmp_path / "unsampled")
    with at_work(unsampled):
        async with driven(unsampled, "review") as pilot:
            assert "then s to sample" in shown(pilot)
            await press(
                pilot, "1", "a", "x", "space", "u", "n", "p", "b", "l", "l", "m", "t", "tab"
            )
    accepted = doubts_project(tmp_path / "accepted", ACCEPTED)
    async with driven(accepted, "review") as pilot:
        assert "No vote is doubtful." in shown(pilot)
        assert "Press b to audit" in shown(pilot)
        await press(pilot, "1", "a", "x", "space", "u", "n", "p", "l", "enter", "l", "m", "y", "o")
    assert written(accepted) == []


async def test_a_finished_queue_says_so_and_lets_you_look_back(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "1", "1", "1", "1")
        assert "All 4 doubtful questions are done." in shown(pilot)
        await press(pilot, "p")
        assert question(pilot) == FOUR[3].text
    async with driven(project, "review") as pilot:
        assert "All 4 doubtful questions are done." in shown(pilot)


async def test_a_filter_without_matches_says_how_to_change_it(project: Project) -> None:
    async with driven(project, "review") as pilot:
        await press(pilot, "slash")
        await enter_text(pilot, "zebra")
        assert "No question matches the filter." in shown(pilot)
        assert "Press / to change it." in shown(pilot)


@pytest.mark.parametrize("size", [(40, 12), (80, 24), (220, 60)], ids=str)
async def test_every_key_works_at_every_size(size: tuple[int, int], tmp_path: Path) -> None:
    project = seeded_project(tmp_path / "story")
    with at_work(project):
        async with driven(project, "review", size=size) as pilot:
            before = len(written(project))
            await press(pilot, "tab", "g", "right", "left", "down", "up", "l", "l", "n", "p")
            await press(pilot, "slash", "escape", "m", "escape", "t", "escape", "b", "b")
            await press(pilot, "1", "2", "x", "space", "u")
            assert pilot.app.is_running
            assert len(written(project)) == before + 5


# Formulas, which are compared in another process.


@pytest.fixture
def formulas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """`x+1` and `1+x` are equal, and nothing else is."""
    monkeypatch.setattr(
        "engine.answers.formulas.math_equality.math_equal", lambda a, b: {a, b} == {"x+1", "1+x"}
    )
    return doubts_project(
        tmp_path / "formulas",
        [
            Doubt(("x+1", "2x", "1+x", "2x"), "Which doubt?", AnswerType.MATH, task="math"),
            Doubt(("x+1",) * 3 + ("1+x",), "Which is kept?", AnswerType.MATH, task="math"),
        ],
        m=4,
    )


async def test_paths_of_equal_formulas_are_one_group(formulas: Project) -> None:
    async with driven(formulas, "review") as pilot:
        assert question(pilot) == "Which doubt?"
        path = review(pilot).query_one("#left", PathGroup).path
        assert path is not None
        assert (path.answer, path.count, path.of) == ("x+1", 2, 2)
        await press(pilot, "t")
        await enter_text(pilot, "1+x")
        assert "answer 1 of that question" in toasts(pilot)


async def test_an_audit_of_a_formula_is_compared_too(formulas: Project) -> None:
    async with driven(formulas, "review") as pilot:
        await press(pilot, "b", "t")
        await enter_text(pilot, "1+x")
        assert "✓ right: the vote is x+1, too" in text_of(pilot, "status")
        assert "1 of 1 agree" in text_of(pilot, "where")


async def test_a_full_disk_is_reported_and_the_question_stays(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise WorkFailed("The disk is full: free some space.")

    async with driven(project, "review") as pilot:
        await press(pilot, "2")
        monkeypatch.setattr("store.reviews.add", fails)
        await press(pilot, "1")
        assert question(pilot) == FOUR[1].text
        await press(pilot, "u")
        assert question(pilot) == FOUR[1].text
        assert "The disk is full: free some space." in toasts(pilot)
        monkeypatch.undo()
        await press(pilot, "u")
        assert question(pilot) == FOUR[0].text
    assert active(project) == []


async def test_time_on_other_screens_does_not_count_for_the_question(project: Project) -> None:
    async with driven(project, "review") as pilot:
        clock = [1000.0]
        pilot.app.now = lambda: clock[0]  # type: ignore[attr-defined]
        await press(pilot, "n")
        clock[0] += 500
        await press(pilot, "j")
        clock[0] += 3000
        pilot.app.switch_mode("review")
        await settled(pilot)
        clock[0] += 4
        await press(pilot, "t")
        clock[0] += 3
        await enter_text(pilot, "12")
        clock[0] += 6
        await press(pilot, "x")
    assert [row.seconds for row in written(project)] == [7.0, 6.0]


async def test_a_dialog_does_not_read_the_queue_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with driven(project, "review") as pilot:
        read: list[object] = []
        monkeypatch.setattr(
            "lmsi_tui.screens.reviewing.queue_screen.read_queue", lambda *args: read.append(args)
        )
        await press(pilot, "t", "escape", "m", "escape", "question_mark", "escape")
        assert question(pilot) == FOUR[0].text
        assert read == []
