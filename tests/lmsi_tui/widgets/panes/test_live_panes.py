"""The live panes, drawn from snapshots at every size."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from textual.app import App, ComposeResult

from engine.voting.threshold_curve import VoteShareBin, Yield
from lmsi_tui.home.metric_series import thinned
from lmsi_tui.home.view_model import (
    AccuracyRow,
    EvaluationSnapshot,
    LoopStage,
    SamplingSnapshot,
    StageLine,
    StageStatus,
    TrainingSnapshot,
)
from lmsi_tui.widgets.charts.histogram import HistogramBar, beside, histogram, progress_bar
from lmsi_tui.widgets.charts.line_chart import MARK, line_chart
from lmsi_tui.widgets.panes.evaluation_pane import EvaluationPane
from lmsi_tui.widgets.panes.sampling_pane import SamplingPane
from lmsi_tui.widgets.panes.stage_list import StageList
from lmsi_tui.widgets.panes.training_pane import TrainingPane
from store.paths import FinishedPath

if TYPE_CHECKING:
    from lmsi_tui.widgets.panes.snapshot_pane import SnapshotPane

SIZES = [(80, 24), (120, 36), (200, 50), (40, 12), (20, 5), (220, 60)]

SAMPLING = SamplingSnapshot(
    settled=731,
    total=1200,
    m=32,
    rule="exact",
    paths_per_second=4.2,
    tokens_per_second=512.0,
    seconds_left=250.0,
    saved=0.36,
    changed="",
    bins=tuple(VoteShareBin(i / 10, 10 * i, 3 if i == 6 else 0) for i in range(10)),
    yields=(Yield("0.4", 600, 650, False), Yield("0.6", 519, 519, True)),
    latest=(
        FinishedPath(2, "How many?", " 12 x 50 = 600. The answer is 600.", "600"),
        FinishedPath(1, "How many?", " Let us think.", None),
    ),
)
TRAINING = TrainingSnapshot(
    title="training maple-1b",
    step=60,
    steps=120,
    epochs=3.0,
    loss=tuple((float(step), 1.4 * math.exp(-step / 30)) for step in range(1, 61)),
    validation=((12.0, 1.1), (24.0, 0.8), (36.0, 0.85)),
    winners=((0.0, -0.431), (12.0, -0.4), (24.0, -0.392)),
    learning_rate=0.00012,
    tokens_per_second=1450.0,
    seconds_left=65.0,
    memory=3 << 30,
)
EVALUATION = EvaluationSnapshot(
    done=30,
    total=60,
    paths_per_second=2.5,
    seconds_left=12.0,
    rows=(
        AccuracyRow("maple-1b/base", "greedy CoT", 60, 38, 0.507, 0.744),
        AccuracyRow("maple-1b/lmsi", "greedy CoT", 30, 24, 0.62, 0.9, so_far=True),
    ),
)
PANES = [(SamplingPane, SAMPLING), (TrainingPane, TRAINING), (EvaluationPane, EVALUATION)]


def text(pane: type[SnapshotPane[Any]], snapshot: object, width: int = 78, height: int = 40) -> str:
    return "\n".join(line.plain for line in pane.draw(snapshot, width, height))


class WidgetApp(App[None]):
    """One widget alone."""

    def __init__(self, pane: SnapshotPane[Any] | StageList) -> None:
        super().__init__()
        self.pane = pane

    def compose(self) -> ComposeResult:
        yield self.pane


def screen_of(app: App[None]) -> list[str]:
    """The screen, line by line."""
    return [
        "".join(segment.text for segment in line)
        for line in app.screen._compositor.render_strips(app.size)
    ]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("pane", "snapshot"), PANES)
async def test_a_pane_fills_the_size_that_it_has(
    pane: type[SnapshotPane[Any]], snapshot: object, size: tuple[int, int]
) -> None:
    app = WidgetApp(pane(snapshot))
    async with app.run_test(size=size):
        lines = screen_of(app)
        assert len(lines) == size[1]
        assert any(line.strip() for line in lines)


@pytest.mark.parametrize(("pane", "snapshot"), PANES)
async def test_a_pane_is_redrawn_only_for_another_snapshot(
    pane: type[SnapshotPane[Any]], snapshot: object
) -> None:
    drawn: list[object] = []
    shown = pane(snapshot)

    def draw(value: object, width: int, height: int) -> object:
        drawn.append(value)
        return pane.draw(value, width, height)

    shown.draw = draw  # type: ignore[method-assign,assignment]
    app = WidgetApp(shown)
    async with app.run_test() as pilot:
        drawn.clear()
        shown.snapshot = replace(snapshot)  # type: ignore[type-var]
        await pilot.pause()
        assert drawn == []
        other = replace(snapshot, seconds_left=1.0)  # type: ignore[type-var]
        shown.snapshot = other
        await pilot.pause()
        assert drawn == [other]


@pytest.mark.parametrize("pane", [SamplingPane, TrainingPane, EvaluationPane])
async def test_a_pane_without_a_snapshot_is_empty(pane: type[SnapshotPane[Any]]) -> None:
    app = WidgetApp(pane())
    async with app.run_test(size=(40, 10)):
        assert not any(line.strip() for line in screen_of(app))


# Sampling.


@pytest.mark.parametrize("width", [42, 78, 140])
def test_sampling_shows_progress_and_savings(width: int) -> None:
    rendered = text(SamplingPane, SAMPLING, width)
    for words in ("731/1,200 settled", "61 %", "ETA 4:10", "4.2 paths/s", "512 tokens/s"):
        assert words in rendered
    assert "saved 36 %" in rendered
    assert "kept at threshold" in rendered
    assert "≥ 0.6     71.0 % ◀" in rendered
    assert "≥ 0.4    82–89 %" in rendered
    assert "∅" in rendered
    assert "The answer is 600." in rendered


def test_idle_sampling_has_no_rates() -> None:
    still = replace(SAMPLING, paths_per_second=None, tokens_per_second=None, seconds_left=None)
    rendered = text(SamplingPane, still)
    assert "paths/s" not in rendered
    assert "ETA" not in rendered
    assert "saved 36 %" in rendered


def test_changed_decisions_of_fast_are_shown_beside_its_savings() -> None:
    fast = replace(SAMPLING, rule="fast", changed="unknown (12 of 300 control questions)")
    shown = text(SamplingPane, fast)
    assert "early stop saved 36 % of m 32 (fast)" in shown
    assert "decisions changed: unknown (12 of 300 control questions)" in shown


def test_without_early_stop_no_savings_are_shown() -> None:
    rendered = text(SamplingPane, replace(SAMPLING, rule="off", saved=0.0))
    assert "saved" not in rendered
    assert "early stop off" in rendered


def test_before_the_first_vote_there_are_no_shares() -> None:
    rendered = text(SamplingPane, replace(SAMPLING, settled=0, total=0, bins=(), saved=None))
    assert "–" in rendered
    assert "%  " not in rendered


# Training.


@pytest.mark.parametrize("width", [42, 78, 140])
def test_training_shows_step_epoch_loss_and_memory(width: int) -> None:
    rendered = text(TrainingPane, TRAINING, width)
    for words in ("step 60/120", "50 %", "ETA 1:05", "epoch 1.5/3", "loss 0.189"):
        assert words in rendered
    for words in ("validation 0.850 (best 0.800)", "learning rate 0.00012", "1,450 tokens/s"):
        assert words in rendered
    assert "winning paths -0.392 (at first -0.431)" in rendered
    assert "3.0 GiB" in rendered
    assert rendered.count(MARK) == 4  # three losses and the legend


def test_training_before_its_first_step_says_so() -> None:
    rendered = text(TrainingPane, TrainingSnapshot("waiting", 0, 0, 3.0))
    assert "waiting" in rendered
    assert "first training step" in rendered


# Evaluation.


def test_an_evaluation_shows_the_base_beside_the_accuracy_so_far() -> None:
    rendered = text(EvaluationPane, EVALUATION)
    assert "30/60 settled" in rendered
    (before,) = [line for line in rendered.split("\n") if line.startswith("maple-1b/base")]
    (now,) = [line for line in rendered.split("\n") if line.startswith("maple-1b/lmsi")]
    assert " 63.3  50.7–74.4" in before
    assert " 80.0  62.0–90.0" in now
    assert now.endswith("of 30 so far")
    assert before.index("●") < now.index("●")


def test_a_finished_evaluation_has_no_progress() -> None:
    assert "settled" not in text(EvaluationPane, replace(EVALUATION, done=0, total=0))


def test_an_empty_evaluation_says_so() -> None:
    assert "No evaluations yet." in text(EvaluationPane, EvaluationSnapshot(0, 0))


# Parts.


def test_bars_are_proportional_to_their_counts() -> None:
    lines = histogram(
        [HistogramBar("a", 40), HistogramBar("b", 20), HistogramBar("c", 0), HistogramBar("d", 1)],
        29,
    )
    lengths = [line.plain.count("▇") for line in lines]
    assert lengths[0] == 2 * lengths[1]
    assert lengths[2:] == [0, 1]
    assert max(line.cell_length for line in lines) <= 29
    assert lines[0].plain.endswith(" 40")
    assert histogram([], 30) == []


def test_lower_bounds_are_drawn_in_another_shade() -> None:
    (line,) = histogram([HistogramBar("0.6", 10, 30)], 47)
    assert line.plain.count("▒") == 3 * line.plain.count("▇")
    assert line.plain.endswith(" 40")


@pytest.mark.parametrize("done", range(0, 101, 7))
def test_a_progress_bar_has_its_width(done: int) -> None:
    bar = progress_bar(done, 100, 20)
    assert bar.cell_length == 20
    assert bar.plain.count("█") == done * 20 // 100


def test_a_progress_bar_without_a_total_is_empty() -> None:
    assert progress_bar(5, 0, 10).plain == "░" * 10
    assert progress_bar(50, 10, 10).plain == "█" * 10


def test_blocks_are_side_by_side() -> None:
    left = histogram([HistogramBar("a", 1)], 10)
    right = histogram([HistogramBar("b", 1), HistogramBar("c", 1)], 10)
    lines = [line.plain for line in beside(left, right, 14)]
    assert lines[0].startswith("a")
    assert lines[0].index("b") == 14
    assert lines[1] == " " * 14 + right[1].plain


def test_a_falling_line_goes_from_top_left_to_bottom_right() -> None:
    falls = [(float(step), 10.0 - step) for step in range(10)]
    lines = [line.plain for line in line_chart(falls, [], 40, 10)]
    assert len(lines) == 10
    assert max(map(len, lines)) <= 40
    drawn = [
        [column for column, letter in enumerate(line) if 0x2800 < ord(letter) < 0x2900]
        for line in lines[:-1]
    ]
    assert all(drawn), "a line has no gaps"
    assert min(drawn[0]) < min(drawn[-1])
    assert max(drawn[0]) < max(drawn[-1])
    assert lines[0].startswith("10")
    assert lines[-2].lstrip().startswith("1 ")
    assert lines[-1].split() == ["0", "9"]


def test_a_chart_of_nothing_of_one_point_and_of_no_numbers_is_drawn() -> None:
    assert [line.plain for line in line_chart([], [], 40, 5)] == [""] * 5
    assert any(line.plain.strip() for line in line_chart([(1.0, 2.0)], [], 40, 5))
    assert line_chart([(1.0, math.nan)], [], 40, 5)[0].plain == ""
    assert len(line_chart([(1.0, 1.0), (2.0, math.inf), (3.0, 1.0)], [], 40, 5)) == 5
    assert line_chart([(1.0, 1.0)], [], 40, 1)[0].plain == ""


def test_marks_lie_on_the_line_that_they_share() -> None:
    flat = [(float(step), 5.0) for step in range(10)]
    lines = [line.plain for line in line_chart(flat, [(0.0, 5.0), (9.0, 5.0)], 30, 6)]
    (marked,) = [line for line in lines if MARK in line]
    assert marked.count(MARK) == 2
    assert marked.rstrip().endswith(MARK)


def test_thinning_keeps_the_last_point() -> None:
    points = [(float(step), 0.0) for step in range(1000)]
    few = thinned(points, 100)
    assert len(few) <= 100
    assert few[-1] == points[-1]
    assert few == sorted(few)
    assert thinned(points[:50], 100) == points[:50]


# The stages.

LINES = tuple(
    StageLine(stage, status, f"{number:,} things", f"note {number}")
    for number, (stage, status) in enumerate(
        zip(LoopStage, [*StageStatus, StageStatus.DONE, StageStatus.EMPTY], strict=True)
    )
)


@pytest.mark.parametrize("size", [(34, 8), (34, 16), (40, 24), (48, 50), (12, 8)])
async def test_every_stage_is_shown_at_every_height(size: tuple[int, int]) -> None:
    stages = StageList()
    app = WidgetApp(stages)
    async with app.run_test(size=size) as pilot:
        stages.lines = LINES
        await pilot.pause()
        lines = screen_of(app)
        for number, line in enumerate(LINES):
            row = lines[number * stages._rows_per_stage]
            assert str(line.status) in row
            if size[0] >= 34:
                assert str(line.stage).capitalize() in row
                assert line.count in row
        assert any("note 3" in row for row in lines) == (size[1] >= 16)


async def test_the_cursor_stays_on_a_stage_and_enter_chooses_it() -> None:
    chosen: list[LoopStage] = []

    class Recorder(WidgetApp):
        def on_stage_list_stage_chosen(self, message: StageList.StageChosen) -> None:
            chosen.append(message.stage)

    stages = StageList()
    app = Recorder(stages)
    async with app.run_test(size=(40, 24)) as pilot:
        stages.lines = LINES
        stages.focus()
        await pilot.press("up", "enter", "down", "down", "enter", *["down"] * 9, "enter")
        assert chosen == [LoopStage.QUESTIONS, LoopStage.VOTE, LoopStage.DISTILL]
        await pilot.click(StageList, offset=(5, 3 * stages._rows_per_stage))
        assert stages.cursor == 3
        assert len(chosen) == 3
        await pilot.click(StageList, offset=(5, 3 * stages._rows_per_stage))
        assert chosen[-1] is LoopStage.REVIEW
