"""The saved position of a review is restored, and a broken file is ignored."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from lmsi_tui.reviewing.queue import QueueSelection
from lmsi_tui.reviewing.saved_position import (
    MAX_PROJECTS,
    load_position,
    positions_path,
    save_position,
)
from store.enums import Queue
from store.queue import QueueFilter, Scope, Sort
from tests.lmsi_tui.decisions import FOUR, enter_text, press, question, review, text_of
from tests.lmsi_tui.doubts import doubts_project
from tests.lmsi_tui.driving import driven

if TYPE_CHECKING:
    from pathlib import Path

CHOSEN = QueueFilter(Scope.ALL, Fraction(1, 3), Fraction(2, 3), "gsm8k", False, "two words")


def test_the_whole_selection_is_restored(tmp_path: Path) -> None:
    selection = QueueSelection(Queue.AUDIT, CHOSEN, Sort.VALUE)
    save_position(tmp_path / "a", selection, 17)
    save_position(tmp_path / "b", QueueSelection(), None)
    assert load_position(tmp_path / "a") == (selection, 17)
    assert load_position(tmp_path / "b") == (QueueSelection(), None)
    assert load_position(tmp_path / "c") == (QueueSelection(), None)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"FOLDER": 3}', '{"FOLDER": {"queue": "triage"}}', '{"FOLDER": null}', "\x00"],
)
def test_a_broken_file_is_ignored(text: str, tmp_path: Path) -> None:
    positions_path().parent.mkdir(parents=True, exist_ok=True)
    positions_path().write_text(text.replace("FOLDER", str(tmp_path.resolve())))
    assert load_position(tmp_path) == (QueueSelection(), None)
    save_position(tmp_path, QueueSelection(sort=Sort.GROUP), 1)
    assert load_position(tmp_path) == (QueueSelection(sort=Sort.GROUP), 1)


def test_the_oldest_projects_are_dropped(tmp_path: Path) -> None:
    for number in range(MAX_PROJECTS + 3):
        save_position(tmp_path / str(number), QueueSelection(), number)
    assert load_position(tmp_path / "2") == (QueueSelection(), None)
    assert load_position(tmp_path / "3") == (QueueSelection(), 3)


async def test_a_new_session_continues_at_the_saved_position(tmp_path: Path) -> None:
    project = doubts_project(tmp_path / "doubts", FOUR)
    async with driven(project, "review") as pilot:
        await press(pilot, "slash")
        await enter_text(pilot, "question")
        await press(pilot, "n")
        assert question(pilot) == FOUR[2].text
    async with driven(project, "review") as pilot:
        assert question(pilot) == FOUR[2].text
        assert "“question”" in text_of(pilot, "filter")
        assert review(pilot).session.decisions.last is None
        await press(pilot, "1", "n", "p")
    # What was decided at the end is not asked again.
    async with driven(project, "review") as pilot:
        assert question(pilot) == FOUR[3].text


async def test_another_project_has_its_own_review(tmp_path: Path) -> None:
    project = doubts_project(tmp_path / "doubts", FOUR)
    other = doubts_project(tmp_path / "other", FOUR[1:])
    async with driven(project, "review") as pilot:
        await press(pilot, "n")
        assert "2 of 4" in text_of(pilot, "where")
        await press(pilot, "j")
        pilot.app.open_project(other, "review")  # type: ignore[attr-defined]
        await press(pilot, "u")
        assert "1 of 3" in text_of(pilot, "where")
        assert question(pilot) == FOUR[1].text
