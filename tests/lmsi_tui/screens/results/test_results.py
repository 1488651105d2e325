"""Results: numbers as stored, verdicts no stronger than their intervals, and every key."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from textual.widgets import ContentSwitcher, Static

from engine.evaluation import majority_curves
from engine.evaluation.accuracy import Comparison
from engine.reports import model_tree
from engine.statistics.intervals import Paired
from lmsi_tui.formatting.numbers import percent, points
from lmsi_tui.formatting.trust_text import sections
from lmsi_tui.screens.results.flips import FlipsScreen
from lmsi_tui.screens.results.results import ResultsScreen
from lmsi_tui.shell.messages import CopyRequested, PagerRequested
from lmsi_tui.widgets import results_text
from lmsi_tui.widgets.line_list import LineList
from store import evaluations, paths, rounds
from store.connection import connect
from store.enums import Method, Outcome, Split, Stage
from tests.lmsi_tui.driving import driven, notices, settled
from tests.nasty import NASTY
from tests.projects import add_round, scripted_project
from tests.seed import STUDENT, TEACHER, seeded_project

if TYPE_CHECKING:
    from pathlib import Path

    from textual.message import Message
    from textual.pilot import Pilot

    from engine.project.folder import Project
    from engine.reports.model_tree import ResultsOverview

PLACE = "results"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return seeded_project(tmp_path / "word-sums")


def overview_of(project: Project) -> ResultsOverview:
    with connect(project.database, read_only=True) as conn:
        return model_tree.read(conn)


def text_of(pilot: Pilot[None], name: str) -> str:
    return str(pilot.app.screen.query_one(f"#{name}", Static).content)


def list_of(pilot: Pilot[None], name: str) -> LineList:
    return pilot.app.screen.query_one(f"#{name}", LineList)


async def press(pilot: Pilot[None], *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settled(pilot)


async def test_the_tree_shows_models_with_set_stage_and_size(project: Project) -> None:
    async with driven(project, PLACE) as pilot:
        base, frozen, tuned, student, small = text_of(pilot, "tree").splitlines()
    assert base.startswith(f"{TEACHER}/base")
    assert base.endswith("base · 1.1B")
    assert frozen.startswith("└─ set ")
    assert "human-assisted" in frozen
    assert tuned.startswith(f"   ├─ {TEACHER}/lmsi")
    assert f"distilled · from {STUDENT}/base · 210M" in student
    assert small.startswith(f"{STUDENT}/base")


async def test_every_accuracy_is_shown_with_its_interval(project: Project) -> None:
    overview = overview_of(project)
    async with driven(project, PLACE) as pilot:
        lines = text_of(pilot, "accuracy").splitlines()
        shown = [line for line in lines if "(" in line]
    assert len(shown) == len(overview.evaluations) == 16
    for evaluation in overview.evaluations:
        interval = f"({percent(evaluation.low)}–{percent(evaluation.high)})"
        numbers = f"{percent(evaluation.accuracy)} {interval}"
        name = overview.model(evaluation.model_id).name
        assert any(line.startswith(name) and numbers in line for line in shown)
    titles = [line for line in lines if "(" not in line]
    assert [title.partition(" ·")[0] for title in titles] == [
        "greedy CoT",
        "self-consistency @8",
        "one path",
        "direct",
    ]


async def test_comparisons_show_gain_interval_p_and_flips(project: Project) -> None:
    overview = overview_of(project)
    async with driven(project, PLACE) as pilot:
        gains = list_of(pilot, "gains")
        lines = [gains.line(at).plain for at in range(gains.count)]
    assert sum(" → " in line for line in lines) == 3
    assert all("human-assisted" in line for line in lines if " → " in line)
    for comparison in overview.comparisons:
        result = comparison.result
        text = f"{points(result.gain)} ({points(result.low)} to {points(result.high)})"
        (line, *_) = (line for line in lines if text in line)
        assert f"+{result.won} −{result.lost}" in line
    results = [comparison.result for comparison in overview.comparisons]
    undecided = [result for result in results if result.low <= 0 <= result.high]
    assert len(undecided) == sum("not shown to differ" in line for line in lines) > 0


@pytest.mark.parametrize(
    ("low", "high", "conclusion"),
    [(0.001, 0.2, "better"), (-0.2, -0.001, "worse"), (-0.1, 0.1, "not shown to differ")],
)
def test_a_verdict_is_as_strong_as_its_interval(low: float, high: float, conclusion: str) -> None:
    result = Paired(n=10, gain=(low + high) / 2, low=low, high=high, p=0.1, won=1, lost=1)
    comparison = Comparison("a", "b", Split.EVAL, Method.COT, result, 1, 2)
    assert results_text.verdict(comparison)[1] == conclusion


def test_an_adapter_of_a_label_free_set_is_marked(project: Project) -> None:
    overview = overview_of(project)
    free = {key: replace(item, label_free=True) for key, item in overview.sets.items()}
    row = results_text.comparison_rows(overview)[0]
    assert "human-assisted" in results_text.comparison_line(overview, row, 100).plain
    other = replace(overview, sets=free)
    assert "label-free" in results_text.comparison_line(other, row, 100).plain


async def test_curves_are_those_of_the_stored_votes(project: Project) -> None:
    with connect(project.database, read_only=True) as conn:
        voted = [item for item in evaluations.all_of(conn) if item.method is Method.SC]
        expected = [majority_curves.read(conn, evaluation) for evaluation in voted]
    async with driven(project, PLACE) as pilot:
        await press(pilot, "c")
        assert pilot.app.screen.query_one(ContentSwitcher).current == "curves"
        for curves in expected:
            pane = pilot.app.screen.query_one("#agreement-pane")
            assert curves.model in str(pane.border_title)
            rows = text_of(pilot, "agreement").splitlines()[1:]
            assert len(rows) == len(curves.bins)
            for line, step in zip(rows, reversed(curves.bins), strict=True):
                assert f"{step.n}{percent(step.accuracy):>8}" in line
            rise = f"{percent(curves.majority[0])} → {percent(curves.majority[-1])}"
            assert f"{curves.model}  {rise}" in text_of(pilot, "majority")
            await press(pilot, "n")
        assert expected[0].model in str(pane.border_title)
        await press(pilot, "c")
        assert pilot.app.screen.query_one(ContentSwitcher).current == "models"
        assert pilot.app.focused is list_of(pilot, "gains")


async def test_next_model_opens_the_curves_and_flips_need_a_comparison(
    project: Project,
) -> None:
    async with driven(project, PLACE) as pilot:
        await press(pilot, "n")
        assert pilot.app.screen.query_one(ContentSwitcher).current == "curves"
        await press(pilot, "f")
        assert isinstance(pilot.app.screen, ResultsScreen)


async def test_the_report_is_copied_and_opened(project: Project) -> None:
    messages: list[Message] = []
    async with driven(project, PLACE, messages=messages) as pilot:
        await press(pilot, "y", "o")
    (copied,) = {item.text for item in messages if isinstance(item, CopyRequested)}
    (opened,) = {item.text for item in messages if isinstance(item, PagerRequested)}
    assert copied == opened
    assert "Gains" in copied
    assert f"{TEACHER}/lmsi is better than {TEACHER}/base" in copied


async def test_a_new_evaluation_appears(project: Project) -> None:
    async with driven(project, PLACE) as pilot:
        await press(pilot, "down", "down")
        cursor = list_of(pilot, "gains").cursor
        with connect(project.database) as conn:
            first = evaluations.all_of(conn)[0]
            rows = [(id_, None, False) for id_ in evaluations.answers(conn, first.id)]
            created_at = first.created_at + 9999
            later = replace(first, created_at=created_at, correct=0, low=0.0, high=0.06)
            evaluations.put(conn, later, rows)
        pilot.app._poll()  # type: ignore[attr-defined]  # without waiting for the timer
        await settled(pilot)
        assert "0.0 (0.0–6.0)" in text_of(pilot, "accuracy")
        assert list_of(pilot, "gains").cursor == cursor


# Flips.


async def test_flips_open_both_paths_with_the_known_answer(project: Project) -> None:
    overview = overview_of(project)
    messages: list[Message] = []
    async with driven(project, PLACE, messages=messages) as pilot:
        await press(pilot, "enter")
        shown = pilot.app.screen
        assert isinstance(shown, FlipsScreen)
        comparison = shown.comparison
        assert comparison == next(
            other
            for other in overview.comparisons
            if other.method is Method.COT and other.after == f"{TEACHER}/lmsi"
        )
        with connect(project.database, read_only=True) as conn:
            flips = evaluations.flips(conn, comparison.before_id, comparison.after_id)
            ids = (comparison.before_id, comparison.after_id)
            runs = [evaluations.by_id(conn, id_).run_id for id_ in ids]
            question = flips[1].question_id
            texts = [paths.for_question(conn, run, question)[0][0].text for run in runs]
        assert list_of(pilot, "flips").count == len(flips)
        await press(pilot, "down")
        assert text_of(pilot, "before-path").startswith("✗ wrong")
        assert text_of(pilot, "after-path").startswith("✓ right")
        assert text_of(pilot, "before-path").endswith(texts[0].strip())
        assert text_of(pilot, "after-path").endswith(texts[1].strip())
        assert "correct: " in text_of(pilot, "question")
        await press(pilot, "y", "o", "enter")
        (copied,) = {item.text for item in messages if isinstance(item, CopyRequested)}
        assert all(text in copied for text in texts)
        assert {item.text for item in messages if isinstance(item, PagerRequested)} == {copied}
        await press(pilot, "escape")
        assert isinstance(pilot.app.screen, ResultsScreen)


async def test_lost_and_won_questions_are_filtered(project: Project) -> None:
    with connect(project.database) as conn:
        comparison = model_tree.read(conn).comparisons[0]
        before = evaluations.by_id(conn, comparison.before_id)
        answers = evaluations.answers(conn, before.id)
        flipped = [(id_, "1", not right) for id_, right in answers.items()]
        evaluations.put(conn, before, flipped)
    async with driven(project, PLACE) as pilot:
        pilot.app.screen.query_one("#gains", LineList).cursor = 4
        await press(pilot, "f")
        shown = pilot.app.screen
        assert isinstance(shown, FlipsScreen)
        everything = list_of(pilot, "flips").count
        await press(pilot, "f")
        lost = [flip.won for flip in shown.shown]
        assert "only lost" in str(list_of(pilot, "flips").border_title)
        await press(pilot, "f")
        won = [flip.won for flip in shown.shown]
        assert lost == [False] * len(lost)
        assert won == [True] * len(won)
        assert len(lost) + len(won) == everything
        assert len(lost) > 0
        await press(pilot, "f")
        assert list_of(pilot, "flips").count == everything


async def test_a_vote_is_shown_with_its_count(project: Project) -> None:
    async with driven(project, PLACE) as pilot:
        await press(pilot, "down", "enter")
        assert isinstance(pilot.app.screen, FlipsScreen)
        assert pilot.app.screen.comparison.method is Method.SC
        assert "votes: " in text_of(pilot, "before-path")
        assert "×" in text_of(pilot, "after-path")


# Empty project, small terminal, hostile names.


async def test_without_evaluations_the_screen_says_what_to_press(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "empty", pool=1, evaluation=1)
    async with driven(project, PLACE) as pilot:
        assert "Press e on the home screen" in text_of(pilot, "accuracy")
        gains = list_of(pilot, "gains")
        assert "Press f or d" in " ".join(gains.render_line(y).text.strip() for y in range(3))
        await press(pilot, "down", "enter", "f", "c", "n", "y", "o")
        assert "Press e on the home screen" in text_of(pilot, "agreement")
        assert isinstance(pilot.app.screen, ResultsScreen)


@pytest.mark.parametrize("size", [(40, 12), (80, 24), (220, 60)])
async def test_it_is_drawn_at_every_size(project: Project, size: tuple[int, int]) -> None:
    async with driven(project, PLACE, size=size) as pilot:
        await press(pilot, "end", "enter", "down", "escape", "c", "n")
        await pilot.resize_terminal(90, 30)
        await settled(pilot)
        assert "agreement" in text_of(pilot, "agreement")


@pytest.mark.parametrize("name", NASTY)
def test_hostile_names_stay_text(project: Project, name: str) -> None:
    overview = overview_of(project)
    models = tuple(replace(model, name=f"{NASTY[name]} {model.id}") for model in overview.models)
    renamed = {old.name: new.name for old, new in zip(overview.models, models, strict=True)}
    comparisons = tuple(
        replace(item, before=renamed[item.before], after=renamed[item.after])
        for item in overview.comparisons
    )
    hostile = replace(overview, models=models, comparisons=comparisons)
    lines = [results_text.tree(hostile), results_text.accuracies(hostile, 80)]
    lines += [
        results_text.comparison_line(hostile, row, 80)
        for row in results_text.comparison_rows(hostile)
    ]
    lines.append(results_text.head(hostile))
    for line in lines:
        assert not {"\x1b", "\x9b", "\u202e"} & set(line.plain)
    assert len(results_text.tree(hostile).plain.splitlines()) == 5
    assert sum(model.stage is Stage.BASE for model in models) == 2


# Rounds.


async def test_a_round_is_shown_with_its_verdict_reason_and_alarms(project: Project) -> None:
    tuned = {"sampled": f"{TEACHER}/base", "trained": f"{TEACHER}/lmsi"}
    add_round(project, **tuned, won=2, lost=1, n=20)
    async with driven(project, PLACE) as pilot:
        text = text_of(pilot, "tree")
    assert f"round 1  {TEACHER}/lmsi  · undecided" in text
    assert "No significant difference" in text
    assert "questions would confirm it with 80 % power" in text
    assert "! Mean path length changed" in text
    assert text.splitlines()[-1] == "in use  the base"


async def test_you_can_accept_an_undecided_round(project: Project) -> None:
    tuned = {"sampled": f"{TEACHER}/base", "trained": f"{TEACHER}/lmsi"}
    add_round(project, **tuned, won=2, lost=1, n=20)
    async with driven(project, PLACE) as pilot:
        await press(pilot, "a", "n")
        assert "· undecided" in text_of(pilot, "tree")
        await press(pilot, "a", "y")
        text = text_of(pilot, "tree")
        assert "▲ accepted (your decision)" in text
        assert text.splitlines()[-1] == f"in use  {TEACHER}/lmsi"
        await press(pilot, "a")
        assert notices(pilot)[-1] == "No round is undecided."
    with connect(project.database, read_only=True) as conn:
        assert [item.verdict for item in rounds.all_of(conn)] == [Outcome.UNDECIDED]
        assert rounds.verdicts(conn) == {1: Outcome.ACCEPT}


async def test_the_trust_page_shows_all_sections(project: Project) -> None:
    with connect(project.database, read_only=True) as conn:
        expected = sections(conn, project)
    async with driven(project, PLACE) as pilot:
        await press(pilot, "t")
        assert pilot.app.screen.query_one(ContentSwitcher).current == "trust"
        shown = text_of(pilot, "trust-text")
        for section in expected:
            assert section.title in shown
            for line in section.lines:
                assert line in shown
        assert "accepted questions audited" in shown
        assert "Verdict:" in shown
        await press(pilot, "t")
        assert pilot.app.screen.query_one(ContentSwitcher).current == "models"


async def test_missing_measurements_name_the_command_to_run(tmp_path: Path) -> None:
    async with driven(scripted_project(tmp_path / "new"), PLACE) as pilot:
        await press(pilot, "t")
        shown = text_of(pilot, "trust-text")
    assert "has not been measured: run `lmsi-tui pilot`." in shown
    assert "Nothing has been sampled yet" in shown
