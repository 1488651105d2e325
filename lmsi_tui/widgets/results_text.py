"""The texts of the results screen: model tree, accuracies, gains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content

from engine.reports.model_tree import ResultsOverview, tree_rows
from lmsi_tui.formatting.numbers import percent, points, probability
from lmsi_tui.formatting.report_tables import TITLES
from lmsi_tui.formatting.sanitize import snippet
from lmsi_tui.formatting.study_text import headlines
from lmsi_tui.widgets.charts.interval_bar import interval_bar
from store.counted import counted
from store.enums import Method, Outcome, Split, Stage
from store.records import Model, TrainingSet

if TYPE_CHECKING:
    from engine.evaluation.accuracy import Comparison
    from store.records import Evaluation

SPLITS = {Split.EVAL: "evaluation", Split.OOD: "out-of-domain"}
METHODS = (Method.COT, Method.SC, Method.SINGLE, Method.DIRECT)
"""In order of importance: the headline gain is in the first."""


def parameters(count: int | None) -> str:
    """Number of parameters as `1.1B`, `210M`; empty for None."""
    if count is None:
        return ""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)


def kind_of(frozen: TrainingSet | None) -> str:
    """The labels of a training set: label-free, human-assisted, or an arm; empty for None."""
    if frozen is None:
        return ""
    if frozen.arm is not None:
        return f"arm {frozen.arm}"
    return "label-free" if frozen.label_free else "human-assisted"


def head(overview: ResultsOverview) -> Content:
    """One line: counts, and the gains of two models with greedy chain of thought."""
    parts: list[str | tuple[str, str]] = [
        ("results", "bold $accent"),
        f"  {counted(len(overview.models), 'model')} · "
        f"{counted(len(overview.evaluations), 'evaluation')}",
    ]
    headline = [
        comparison
        for comparison in overview.comparisons
        if comparison.method is Method.COT and comparison.split is Split.EVAL
    ]
    for comparison in headline[:2]:
        mark, conclusion, style = verdict(comparison)
        parts.append(f"  {snippet(comparison.after, 24)} ")
        parts.append((f"{mark} {points(comparison.result.gain)} {conclusion}", style))
    return Content.assemble(*parts)


# The model tree.


def tree(overview: ResultsOverview) -> Content:
    """The models and training sets, each below its origin, then the rounds and the arms."""
    greedy = {
        evaluation.model_id: evaluation
        for evaluation in overview.evaluations
        if evaluation.split is Split.EVAL and evaluation.method is Method.COT
    }
    lines = []
    for row in tree_rows(overview):
        if isinstance(row.node, TrainingSet):
            frozen = row.node
            lines.append(
                Content.assemble(
                    (row.prefix, "$text-muted"),
                    (f"set {frozen.key[:8]}", ""),
                    (f"  {kind_of(frozen)}", _kind_style(frozen)),
                    (
                        f"  {counted(frozen.questions, 'question')}, "
                        f"{counted(frozen.examples, 'example')}",
                        "$text-muted",
                    ),
                )
            )
        else:
            lines.append(_model_line(overview, row.prefix, row.node, greedy.get(row.node.id)))
    return Content("\n").join([*lines, *rounds(overview), *arms(overview)])


_VERDICTS = {
    Outcome.ACCEPT: ("▲", "$text-success"),
    Outcome.REJECT: ("▼", "$text-error"),
    Outcome.UNDECIDED: ("·", "$text-warning"),
}


def rounds(overview: ResultsOverview) -> list[Content]:
    """Each round with its verdict, reason, notes and alarms; empty before the first round."""
    lines: list[Content] = []
    for item in overview.rounds:
        mark, style = _VERDICTS[item.verdict]
        by = " (your decision)" if item.by_user else ""
        lines.append(
            Content.assemble(
                (f"round {item.number}  ", "bold"),
                f"{snippet(item.trained, 40)}  ",
                (f"{mark} {item.verdict.word}{by}", style),
            )
        )
        lines.append(Content.styled(f"  {snippet(item.test.reason, 400)}", "$text-muted"))
        lines += [
            Content.styled(f"  {snippet(note, 400)}", "$text-muted") for note in item.test.notes
        ]
        lines += [
            Content.styled(f"  ! {snippet(alarm, 400)}", "$text-warning")
            for alarm in item.test.alarms
        ]
    if lines:
        name = overview.in_use.name if overview.in_use else "the base"
        lines.append(Content.assemble("in use  ", (snippet(name, 40), "bold")))
    return [Content(""), *lines] if lines else []


def arms(overview: ResultsOverview) -> list[Content]:
    """Where the gain comes from, by the newest study of arms; empty without one."""
    if overview.arms is None:
        return []
    said = [Content(f"  {snippet(line, 400)}") for line in headlines(overview.arms)]
    return [Content(""), Content.styled("where the gain comes from", "bold"), *said]


def _model_line(
    overview: ResultsOverview, prefix: str, model: Model, evaluation: Evaluation | None
) -> Content:
    facts = [model.stage.value]
    if model.stage is Stage.DISTILLED and model.base_id is not None:
        facts.append(f"from {snippet(overview.model(model.base_id).name, 40)}")
    facts.append(parameters(model.parameters))
    if model.adapter is not None:
        chosen = overview.strengths.get(model.name)
        facts.append("adapter" if chosen is None else f"adapter, exported at {chosen:g}")
    description = " · ".join(fact for fact in facts if fact)
    accuracy = f"  {percent(evaluation.accuracy)}" if evaluation else ""
    return Content.assemble(
        (prefix, "$text-muted"),
        (snippet(model.name, 40), "bold"),
        (accuracy, "bold $text-accent"),
        (f"  {description}", "$text-muted"),
    )


def _kind_style(frozen: TrainingSet) -> str:
    return "$text-success" if frozen.label_free else "$text-warning"


# Accuracies.


def accuracies(overview: ResultsOverview, width: int) -> Content:
    """The accuracies of all models with their intervals, grouped by split and method."""
    if not overview.evaluations:
        return Content("")
    begin = max(0.0, min(evaluation.low for evaluation in overview.evaluations) // 0.1 * 0.1)
    end = min(1.0, (max(evaluation.high for evaluation in overview.evaluations) // 0.1 + 1) * 0.1)
    name = max(len(snippet(model.name, 24)) for model in overview.models)
    room = width - name - 22
    lines: list[Content] = []
    for split, split_name in SPLITS.items():
        for method in METHODS:
            rows = [
                evaluation
                for evaluation in overview.evaluations
                if evaluation.split is split and evaluation.method is method
            ]
            if not rows:
                continue
            n = "/".join(f"{n:,}" for n in sorted({row.n for row in rows}))
            k = f" @{max(row.k for row in rows)}" if method is Method.SC else ""
            scale = f"{100 * begin:<{max(3, room - 3)}.0f}{100 * end:>3.0f}"
            title = f"{TITLES[method]}{k} · {split_name}, n {n}"
            lines.append(
                Content.assemble(
                    (f"{title:<{name + 22}}", "$text-accent"),
                    (scale if room >= 8 and len(title) <= name + 22 else "", "$text-muted"),
                )
            )
            for model in overview.models:
                for row in rows:
                    if row.model_id == model.id:
                        lines.append(_accuracy(model, row, name, room, begin, end))
    return Content("\n").join(lines)


def _accuracy(
    model: Model, evaluation: Evaluation, name: int, room: int, begin: float, end: float
) -> Content:
    low, accuracy, high = evaluation.low, evaluation.accuracy, evaluation.high
    bar = interval_bar(low, accuracy, high, room, begin, end) if room >= 8 else ""
    interval = f"({percent(low)}–{percent(high)})"
    return Content.assemble(
        f"{snippet(model.name, name):<{name}}",
        (f"{percent(accuracy):>6} ", "bold"),
        (f"{interval:<15}", "$text-muted"),
        (bar, "$primary"),
    )


# Gains.


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """A row of the list of gains: a comparison, or the heading of a pair of models."""

    comparison: Comparison
    heading: bool


def comparison_rows(overview: ResultsOverview) -> list[ComparisonRow]:
    """Headings and comparisons, grouped by pair of models and split."""
    rows: list[ComparisonRow] = []
    for comparison in sorted(
        overview.comparisons,
        key=lambda comparison: _order(overview, comparison),
    ):
        pair = (comparison.before, comparison.after, comparison.split)
        previous = rows[-1].comparison if rows else None
        if previous is None or (previous.before, previous.after, previous.split) != pair:
            rows.append(ComparisonRow(comparison, heading=True))
        rows.append(ComparisonRow(comparison, heading=False))
    return rows


def _order(overview: ResultsOverview, comparison: Comparison) -> tuple[int, int, int]:
    pairs = [(other.before, other.after) for other in overview.comparisons]
    return (
        pairs.index((comparison.before, comparison.after)),
        list(SPLITS).index(comparison.split),
        METHODS.index(comparison.method),
    )


def verdict(comparison: Comparison) -> tuple[str, str, str]:
    """(sign, conclusion, style) of a comparison, as its interval allows."""
    if comparison.result.low > 0:
        return "▲", "better", "$text-success"
    if comparison.result.high < 0:
        return "▼", "worse", "$text-error"
    return "·", "not shown to differ", "$text-muted"


_WITH_COUNTS = 84
"""Width from which a comparison shows how many answers were won and lost; flips shows them, too."""


def comparison_line(overview: ResultsOverview, row: ComparisonRow, width: int) -> Content:
    """A row as a line; the bar of the interval takes the remaining width."""
    comparison, result = row.comparison, row.comparison.result
    if row.heading:
        after = next(model for model in overview.models if model.name == comparison.after)
        frozen = overview.set_of(after)
        return Content.assemble(
            (f"{snippet(comparison.before, 30)} → {snippet(comparison.after, 30)}", "bold"),
            (f"  {kind_of(frozen)}", _kind_style(frozen) if frozen else ""),
            (f"  {SPLITS[comparison.split]}, n {result.n:,}", "$text-muted"),
        )
    mark, conclusion, style = verdict(comparison)
    gain = f"{points(result.gain):>6} ({points(result.low)} to {points(result.high)})"
    text = f" {mark} {conclusion}"
    scale = max(
        0.05,
        *(
            abs(end)
            for other in overview.comparisons
            for end in (other.result.low, other.result.high)
        ),
    )
    room = min(40, width - 86)
    bar = interval_bar(result.low, result.gain, result.high, room, -scale, scale)
    return Content.assemble(
        f"  {TITLES[comparison.method]:<17}",
        (f"{gain:<23}", "bold"),
        (f"{text:<23}", style),
        (f"p {probability(result.p):<8}", "$text-muted"),
        f"{f'+{result.won} −{result.lost}':<9}" if width >= _WITH_COUNTS else "",
        (f"  {bar}" if room >= 10 else "", "$primary"),
    )
