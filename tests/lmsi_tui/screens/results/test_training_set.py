"""The training set on the screen is the one in the store, and every key does what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from textual.widgets import Static

from engine.training_data import token_counts
from lmsi_tui.screens.results.question_paths import QuestionPaths
from lmsi_tui.screens.results.training_set import TrainingSetScreen
from lmsi_tui.shell.messages import CopyRequested, PagerRequested
from lmsi_tui.widgets.line_list import LineList
from store import examples, paths, reviews
from store.connection import connect
from store.enums import PromptFormat, Queue
from tests.lmsi_tui.driving import driven, settled
from tests.projects import scripted_project
from tests.seed import STUDENT, TEACHER, TOKENIZER, seeded_project

if TYPE_CHECKING:
    from pathlib import Path

    from textual.message import Message
    from textual.pilot import Pilot

    from engine.project.folder import Project
    from store.records import Example, TrainingSet

PLACE = "training-set"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return seeded_project(tmp_path / "word-sums")


def stored(project: Project) -> tuple[list[TrainingSet], list[Example]]:
    """All sets, newest first, and the examples of the newest."""
    with connect(project.database, read_only=True) as conn:
        sets = examples.sets(conn)[::-1]
        return sets, examples.examples(conn, sets[0].key)


def screen_of(pilot: Pilot[None]) -> TrainingSetScreen:
    assert isinstance(pilot.app.screen, TrainingSetScreen)
    return pilot.app.screen


def lines_of(pilot: Pilot[None]) -> LineList:
    return pilot.app.screen.query_one("#lines", LineList)


def text_of(pilot: Pilot[None], name: str) -> str:
    return str(pilot.app.screen.query_one(f"#{name}", Static).content)


def styles(pilot: Pilot[None], name: str) -> str:
    content = pilot.app.screen.query_one(f"#{name}", Static).content
    return " ".join(str(span.style) for span in content.spans)  # type: ignore[union-attr]


async def press(pilot: Pilot[None], *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settled(pilot)


async def test_the_newest_set_is_shown_with_its_formats_and_trained_models(
    project: Project,
) -> None:
    sets, rows = stored(project)
    async with driven(project, PLACE) as pilot:
        assert sets[0].key[:10] in text_of(pilot, "top-bar")
        assert "human-assisted" in text_of(pilot, "top-bar")
        facts = text_of(pilot, "facts")
        for prompt_format in PromptFormat:
            count = sum(row.prompt_format is prompt_format for row in rows)
            (line,) = (line for line in facts.splitlines() if line.startswith(f"{prompt_format} "))
            assert line.split()[1] == f"{count:,}"
        assert f"{TEACHER}/lmsi, {STUDENT}/distilled" in facts
        assert lines_of(pilot).count == len(rows)
        assert text_of(pilot, "own").endswith(rows[0].completion + "<|end|>")
        assert text_of(pilot, "shared") + "\n" + text_of(pilot, "own") == (
            rows[0].prompt + rows[0].completion + "<|end|>"
        )


async def test_an_example_is_scrolled_to_its_question_below_the_worked_examples(
    project: Project,
) -> None:
    async with driven(project, PLACE, size=(80, 30)) as pilot:
        pane, own = (pilot.app.screen.query_one(name) for name in ("#whole", "#own"))
        for keys in ([], ["b"], ["down"], ["b"]):
            await press(pilot, *keys)
            assert own.region.bottom <= pane.region.bottom
        assert pane.scroll_offset.y > 0
        await press(pilot, "f", "f")  # direct answers, which are short
        await press(pilot, "f")
        assert pane.scroll_offset.y == 0


async def test_an_example_shows_its_origin(project: Project) -> None:
    _, rows = stored(project)
    with connect(project.database, read_only=True) as conn:
        history = reviews.history(conn, 1)
        audited = {review.question_id for review in history if review.queue is Queue.AUDIT}
        at = next(at for at, row in enumerate(rows) if row.question_id in audited and row.path_id)
        pairs = paths.for_question(conn, 1, rows[at].question_id)
    (path,) = (path for path, _ in pairs if path.id == rows[at].path_id)
    async with driven(project, PLACE) as pilot:
        await press(pilot, *["down"] * at)
        facts_text = text_of(pilot, "about")
        assert f"path {path.index} " in facts_text
        assert "16 paths agree on" in facts_text
        assert f"of {TEACHER}/base" in facts_text
        assert "audit: typed" in facts_text
        assert "tokens carry the loss" in facts_text


async def test_one_key_cycles_through_the_formats(project: Project) -> None:
    _, rows = stored(project)
    async with driven(project, PLACE) as pilot:
        for prompt_format in PromptFormat:
            await press(pilot, "f")
            expected = [row.position for row in rows if row.prompt_format is prompt_format]
            summary = screen_of(pilot).summary
            assert summary is not None
            assert list(summary.places) == expected
            assert str(prompt_format) in str(lines_of(pilot).border_title)
            assert str(prompt_format) in str(pilot.app.screen.query_one("#text").border_title)
        await press(pilot, "f")
        assert lines_of(pilot).count == len(rows)


async def test_held_out_examples_are_marked_and_filtered(project: Project) -> None:
    _, rows = stored(project)
    held = [row.position for row in rows if row.validation]
    assert held
    async with driven(project, PLACE) as pilot:
        marked = [at for at in range(len(rows)) if "◇" in lines_of(pilot).line(at).plain]
        assert marked == held
        await press(pilot, "v")
        assert list(screen_of(pilot).summary.places) == held  # type: ignore[union-attr]
        assert "held out: not trained on" in text_of(pilot, "about")
        await press(pilot, "v")
        assert lines_of(pilot).count == len(rows) - len(held)
        await press(pilot, "v")
        assert lines_of(pilot).count == len(rows)


async def test_examples_that_are_too_long_are_counted_marked_and_filtered(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        token_counts, "context_of", lambda _, model: 100 if TEACHER in model.name else 9
    )
    sets, rows = stored(project)
    with connect(project.database, read_only=True) as conn:
        encodings = examples.encodings(conn, sets[0].key, TOKENIZER, range(len(rows)))
    long = [
        at
        for at, encoding in encodings.items()
        if encoding.prompt_tokens + encoding.completion_tokens > 100
    ]
    async with driven(project, PLACE) as pilot:
        facts = text_of(pilot, "facts")
        assert f"✗ {len(long):,} examples are longer than the 100 tokens of {TEACHER}" in facts
        assert f"✗ {len(rows):,} examples are longer than the 9 tokens of {STUDENT}" in facts
        assert "✗" in lines_of(pilot).line(sorted(long)[0]).plain
        await press(pilot, "x")
        assert list(screen_of(pilot).summary.places) == sorted(long)  # type: ignore[union-attr]
        assert f"left out for {TEACHER}/base: longer than its 100 tokens" in text_of(pilot, "about")
        await press(pilot, "m")
        assert lines_of(pilot).count == len(rows)
        await press(pilot, "x", "m")
        assert lines_of(pilot).count == len(rows)


async def test_a_filter_without_matches_says_what_to_press(project: Project) -> None:
    async with driven(project, PLACE) as pilot:
        await press(pilot, "x")
        lines = lines_of(pilot)
        assert lines.count == 0
        assert "Press f, v or x" in lines.render_line(0).text
        assert text_of(pilot, "own") == ""
        await press(pilot, "down", "enter", "y", "p", "b")
        assert isinstance(pilot.app.screen, TrainingSetScreen)


async def test_token_boundaries_are_shown_and_hidden(project: Project) -> None:
    async with driven(project, PLACE) as pilot:
        plain = text_of(pilot, "own")
        assert "underline" not in styles(pilot, "own")
        await press(pilot, "b")
        assert "underline" in styles(pilot, "own")
        assert "underlined" in text_of(pilot, "about")
        assert text_of(pilot, "own").replace("↵", "") == plain
        await press(pilot, "b")
        assert "underline" not in styles(pilot, "own")


async def test_older_sets_say_why_they_have_no_token_counts(project: Project) -> None:
    sets, _ = stored(project)
    async with driven(project, PLACE) as pilot:
        await press(pilot, "right_square_bracket")
        assert sets[1].key[:10] in text_of(pilot, "top-bar")
        assert "label-free" in text_of(pilot, "top-bar")
        assert "No model was trained on this set yet" in text_of(pilot, "facts")
        assert f"{TEACHER}/base cannot be trained" in text_of(pilot, "facts")
        assert text_of(pilot, "own").endswith("⏹")
        await press(pilot, "b", "m")
        assert "Token boundaries are stored only for" in text_of(pilot, "about")
        await press(pilot, "right_square_bracket")
        assert sets[1].key[:10] in text_of(pilot, "top-bar")
        await press(pilot, "left_square_bracket")
        assert sets[0].key[:10] in text_of(pilot, "top-bar")


async def test_all_paths_of_the_question_are_one_key_away(project: Project) -> None:
    _, rows = stored(project)
    messages: list[Message] = []
    async with driven(project, PLACE, messages=messages) as pilot:
        await press(pilot, "down", "down", "p")
        shown = pilot.app.screen
        assert isinstance(shown, QuestionPaths)
        path, _ = shown.sampled.pairs[shown.sampled.selected]
        assert path.id == rows[2].path_id
        assert [path.index for path, _ in shown.sampled.pairs] == list(range(12))
        assert text_of(pilot, "text") == path.text.strip()
        await press(pilot, "home", "y", "o", "enter")
        first = shown.sampled.pairs[0][0].text
        assert {item.text for item in messages if isinstance(item, CopyRequested)} == {first}
        assert {item.text for item in messages if isinstance(item, PagerRequested)} == {first}
        await press(pilot, "escape")
        assert isinstance(pilot.app.screen, TrainingSetScreen)


async def test_the_exact_text_is_copied_and_opened(project: Project) -> None:
    _, rows = stored(project)
    messages: list[Message] = []
    exact = rows[0].prompt + rows[0].completion + "<|end|>"
    async with driven(project, PLACE, messages=messages) as pilot:
        await press(pilot, "y", "o")
        assert {item.text for item in messages if isinstance(item, CopyRequested)} == {exact}
        (opened,) = {item.text for item in messages if isinstance(item, PagerRequested)}
        assert exact in opened


async def test_enter_and_the_mouse_select_an_example(project: Project) -> None:
    async with driven(project, PLACE) as pilot:
        await pilot.click("#lines", offset=(10, 4))
        await settled(pilot)
        assert lines_of(pilot).cursor == 3
        assert "example 3" in str(pilot.app.screen.query_one("#text").border_title)
        await pilot.click("#lines", offset=(10, 4))
        await settled(pilot)
        assert pilot.app.focused is pilot.app.screen.query_one("#whole")


async def test_a_new_set_appears_and_the_cursor_stays(project: Project) -> None:
    sets, _ = stored(project)
    async with driven(project, PLACE) as pilot:
        await press(pilot, "right_square_bracket", "down", "down", "down")
        with connect(project.database) as conn:
            examples.freeze(conn, _later(sets[1]), [])
        pilot.app._poll()  # type: ignore[attr-defined]  # without waiting for the timer
        await settled(pilot)
        assert screen_of(pilot).summary.place == 0  # type: ignore[union-attr]
        assert sets[1].key[:10] in text_of(pilot, "top-bar")


def _later(frozen: TrainingSet) -> TrainingSet:
    from dataclasses import replace

    return replace(frozen, created_at=frozen.created_at + 9999.0)


async def test_without_a_set_the_screen_says_what_to_press(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "empty", pool=1, evaluation=1)
    async with driven(project, PLACE) as pilot:
        lines = lines_of(pilot)
        text = " ".join(lines.render_line(y).text.strip() for y in range(3))
        assert "Press c on the home screen" in text
        await press(pilot, "f", "v", "x", "b", "m", "p", "y", "o", "left_square_bracket", "enter")
        assert isinstance(pilot.app.screen, TrainingSetScreen)


@pytest.mark.parametrize("size", [(40, 12), (80, 24), (220, 60)])
async def test_it_is_drawn_at_every_size(project: Project, size: tuple[int, int]) -> None:
    async with driven(project, PLACE, size=size) as pilot:
        await press(pilot, "b", "end", "p")
        assert lines_count(pilot) > 1
        await press(pilot, "escape")
        assert lines_of(pilot).cursor == lines_of(pilot).count - 1


def lines_count(pilot: Pilot[None]) -> int:
    return pilot.app.screen.query_one(LineList).count


async def test_facts_that_do_not_fit_are_reached_by_scrolling(project: Project) -> None:
    async with driven(project, PLACE, size=(80, 24)) as pilot:
        await settled(pilot)
        assert pilot.app.screen.focused is lines_of(pilot)
        formats = pilot.app.screen.query_one("#formats")
        last = text_of(pilot, "facts").splitlines()[-1]
        assert "rained on this set" in last
        assert formats.max_scroll_y > 0, "the test needs facts that do not fit"
        formats.focus()
        await press(pilot, "end")
        shown = [strip.text for strip in pilot.app.screen._compositor.render_strips()]
        assert any("rained on this set" in line for line in shown)
