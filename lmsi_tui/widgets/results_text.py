"""Models, accuracies and gains as lines: what the results screen is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content

from engine.reports.model_tree import ResultsOverview, tree_rows
from lmsi_tui.formatting.numbers import percent, points, probability
from lmsi_tui.formatting.report_tables import TITLES
from lmsi_tui.formatting.sanitize import snippet
from lmsi_tui.widgets.charts.interval_bar import interval_bar
from store.enums import Method, Outcome, Split, Stage
from store.records import Model, TrainingSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.evaluation.accuracy import Comparison
    from engine.evaluation.majority_curves import Curves
    from store.records import Evaluation

SPLITS = {Split.EVAL: "evaluation", Split.OOD: "out-of-domain"}
METHODS = (Method.COT, Method.SC, Method.SINGLE, Method.DIRECT)
"""The one that a gain is told in comes first."""


def parameters(count: int | None) -> str:
    """Number of weights as `1.1B`, `210M`."""
    if count is None:
        return ""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)


def kind_of(frozen: TrainingSet | None) -> str:
    """Whether a person had a part in a training set."""
    if frozen is None:
        return ""
    return "label-free" if frozen.label_free else "human-assisted"


def head(standing: ResultsOverview) -> Content:
    """One line: how much there is, and what two models gained in greedy chain of thought."""
    parts: list[str | tuple[str, str]] = [
        ("results", "bold $accent"),
        f"  {len(standing.models)} models · {len(standing.evaluations)} evaluations",
    ]
    own = [
        one for one in standing.comparisons if one.method is Method.COT and one.split is Split.EVAL
    ]
    for one in own[:2]:
        mark, words, style = verdict(one)
        parts.append(f"  {snippet(one.after, 24)} ")
        parts.append((f"{mark} {points(one.result.gain)} {words}", style))
    return Content.assemble(*parts)


# The lineage.


def tree(standing: ResultsOverview) -> Content:
    """Base, training set, adapter, student: each below what it learnt from."""
    best = {
        one.model_id: one
        for one in standing.evaluations
        if one.split is Split.EVAL and one.method is Method.COT
    }
    lines = []
    for row in tree_rows(standing):
        if isinstance(row.node, TrainingSet):
            frozen = row.node
            lines.append(
                Content.assemble(
                    (row.prefix, "$text-muted"),
                    (f"set {frozen.key[:8]}", ""),
                    (f"  {kind_of(frozen)}", _kind_style(frozen)),
                    (
                        f"  {frozen.questions:,} questions, {frozen.examples:,} examples",
                        "$text-muted",
                    ),
                )
            )
        else:
            lines.append(_model_line(standing, row.prefix, row.node, best.get(row.node.id)))
    return Content("\n").join([*lines, *rounds(standing)])


_VERDICTS = {
    Outcome.ACCEPT: ("▲", "$text-success"),
    Outcome.REJECT: ("▼", "$text-error"),
    Outcome.UNDECIDED: ("·", "$text-warning"),
}


def rounds(standing: ResultsOverview) -> list[Content]:
    """Each round with its verdict, then why, and its alarms in words; nothing before the first."""
    lines: list[Content] = []
    for one in standing.rounds:
        mark, style = _VERDICTS[one.verdict]
        by = " (your decision)" if one.by_user else ""
        lines.append(
            Content.assemble(
                (f"round {one.number}  ", "bold"),
                f"{snippet(one.trained, 40)}  ",
                (f"{mark} {one.verdict.word}{by}", style),
            )
        )
        lines.append(Content.styled(f"  {snippet(one.test.reason, 400)}", "$text-muted"))
        lines += [
            Content.styled(f"  {snippet(note, 400)}", "$text-muted") for note in one.test.notes
        ]
        lines += [
            Content.styled(f"  ! {snippet(alarm, 400)}", "$text-warning")
            for alarm in one.test.alarms
        ]
    if lines:
        name = standing.in_use.name if standing.in_use else "the base"
        lines.append(Content.assemble("in use  ", (snippet(name, 40), "bold")))
    return [Content(""), *lines] if lines else []


def _model_line(
    standing: ResultsOverview, shape: str, model: Model, measured: Evaluation | None
) -> Content:
    facts = [model.stage.value]
    if model.stage is Stage.DISTILLED and model.base_id is not None:
        facts.append(f"from {snippet(standing.model(model.base_id).name, 40)}")
    facts.append(parameters(model.parameters))
    if model.adapter is not None:
        facts.append("adapter")
    said = " · ".join(fact for fact in facts if fact)
    accuracy = f"  {percent(measured.accuracy)}" if measured else ""
    return Content.assemble(
        (shape, "$text-muted"),
        (snippet(model.name, 40), "bold"),
        (accuracy, "bold $text-accent"),
        (f"  {said}", "$text-muted"),
    )


def _kind_style(frozen: TrainingSet) -> str:
    return "$text-success" if frozen.label_free else "$text-warning"


# Accuracies.


def accuracies(standing: ResultsOverview, width: int) -> Content:
    """Every method on every split: the models below each other, with their intervals."""
    if not standing.evaluations:
        return Content("")
    begin = max(0.0, min(one.low for one in standing.evaluations) // 0.1 * 0.1)
    end = min(1.0, (max(one.high for one in standing.evaluations) // 0.1 + 1) * 0.1)
    name = max(len(snippet(one.name, 24)) for one in standing.models)
    room = width - name - 22
    lines: list[Content] = []
    for split, on in SPLITS.items():
        for method in METHODS:
            rows = [
                one for one in standing.evaluations if one.split is split and one.method is method
            ]
            if not rows:
                continue
            n = "/".join(f"{n:,}" for n in sorted({one.n for one in rows}))
            k = f" @{max(one.k for one in rows)}" if method is Method.SC else ""
            scale = f"{100 * begin:<{max(3, room - 3)}.0f}{100 * end:>3.0f}"
            title = f"{TITLES[method]}{k} · {on}, n {n}"
            lines.append(
                Content.assemble(
                    (f"{title:<{name + 22}}", "$text-accent"),
                    (scale if room >= 8 and len(title) <= name + 22 else "", "$text-muted"),
                )
            )
            for model in standing.models:
                for one in rows:
                    if one.model_id == model.id:
                        lines.append(_accuracy(model, one, name, room, begin, end))
    return Content("\n").join(lines)


def _accuracy(
    model: Model, one: Evaluation, name: int, room: int, begin: float, end: float
) -> Content:
    bar = interval_bar(one.low, one.accuracy, one.high, room, begin, end) if room >= 8 else ""
    interval = f"({percent(one.low)}–{percent(one.high)})"
    return Content.assemble(
        f"{snippet(model.name, name):<{name}}",
        (f"{percent(one.accuracy):>6} ", "bold"),
        (f"{interval:<15}", "$text-muted"),
        (bar, "$primary"),
    )


# What it was worth.


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the comparisons: one of them, or the heading above those of a pair."""

    comparison: Comparison
    heading: bool


def comparison_rows(standing: ResultsOverview) -> list[Row]:
    """Headings and comparisons, those of one pair of models on one split together."""
    rows: list[Row] = []
    for one in sorted(
        standing.comparisons,
        key=lambda one: _order(standing, one),
    ):
        pair = (one.before, one.after, one.split)
        above = rows[-1].comparison if rows else None
        if above is None or (above.before, above.after, above.split) != pair:
            rows.append(Row(one, heading=True))
        rows.append(Row(one, heading=False))
    return rows


def _order(standing: ResultsOverview, one: Comparison) -> tuple[int, int, int]:
    pairs = [(other.before, other.after) for other in standing.comparisons]
    return (
        pairs.index((one.before, one.after)),
        list(SPLITS).index(one.split),
        METHODS.index(one.method),
    )


def verdict(one: Comparison) -> tuple[str, str, str]:
    """(sign, words, style) of a comparison: what its interval allows to say, and no more."""
    if one.result.low > 0:
        return "▲", "better", "$text-success"
    if one.result.high < 0:
        return "▼", "worse", "$text-error"
    return "·", "not shown to differ", "$text-muted"


def comparison_line(standing: ResultsOverview, row: Row, width: int) -> Content:
    """One row as a line; the bar of the interval takes what is left of the width."""
    one, result = row.comparison, row.comparison.result
    if row.heading:
        after = next(model for model in standing.models if model.name == one.after)
        frozen = standing.set_of(after)
        return Content.assemble(
            (f"{snippet(one.before, 30)} → {snippet(one.after, 30)}", "bold"),
            (f"  {kind_of(frozen)}", _kind_style(frozen) if frozen else ""),
            (f"  {SPLITS[one.split]}, n {result.n:,}", "$text-muted"),
        )
    mark, words, style = verdict(one)
    gain = f"{points(result.gain):>6} ({points(result.low)} to {points(result.high)})"
    said = f" {mark} {words}"
    scale = max(
        0.05,
        *(abs(end) for two in standing.comparisons for end in (two.result.low, two.result.high)),
    )
    room = min(40, width - 86)
    bar = interval_bar(result.low, result.gain, result.high, room, -scale, scale)
    return Content.assemble(
        f"  {TITLES[one.method]:<17}",
        (f"{gain:<23}", "bold"),
        (f"{said:<23}", style),
        (f"p {probability(result.p):<8}", "$text-muted"),
        f"{f'+{result.won} −{result.lost}':<9}",
        (f"  {bar}" if room >= 10 else "", "$primary"),
    )


# Curves.


def agreement_table(found: Curves, width: int) -> Content:
    """Agreement against accuracy: a row for each step of the agreement."""
    room = min(50, width - 42)
    lines = [
        Content.styled(
            f"{'agreement':<11}{'n':>6}{'right':>8}  {'95 %':<14}"
            + (f"0{'100':>{room - 1}}" if room >= 10 else ""),
            "$text-muted",
        )
    ]
    for one in reversed(found.bins):
        low, high = one.interval
        close = "]" if one.high == 1.0 else ")"
        span = f"[{one.low:.1f}, {one.high:.1f}{close}"
        bar = interval_bar(low, one.accuracy, high, room, 0.0, 1.0) if room >= 10 else ""
        lines.append(
            Content.assemble(
                f"{span:<11}{one.n:>6,}",
                (f"{percent(one.accuracy):>8}  ", "bold"),
                (f"{f'({percent(low)}–{percent(high)})':<14} ", "$text-muted"),
                (bar, "$primary"),
            )
        )
    return Content("\n").join(lines)


def majority_legend(found: Sequence[Curves], signs: Sequence[tuple[str, str]]) -> Content:
    """What each line of the majority curve is, from one path to all of them."""
    lines = []
    for one, (mark, style) in zip(found, signs, strict=True):
        if one.majority:
            rise = f"{percent(one.majority[0])} → {percent(one.majority[-1])}"
            said = f"  {rise}  {SPLITS[one.evaluation.split]}, n {one.whole:,}"
        else:
            said = "  no question has all its paths stored"
        lines.append(Content.assemble((f"{mark} ", style), snippet(one.model, 40), said))
    lines.append(
        Content.styled("A tie is wrong, so the curve falls at small even k.", "$text-muted")
    )
    return Content("\n").join(lines)
