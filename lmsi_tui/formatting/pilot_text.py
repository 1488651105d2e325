"""A pilot as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.evaluation import pilot
from engine.evaluation.pilot import HeadroomVerdict
from engine.evaluation.pilot_verdict import (
    FEW_RIGHT,
    MIN_HEADROOM,
    NEARLY_ALL,
    Obstacle,
    Usefulness,
)
from lmsi_tui.formatting.numbers import duration, interval, percent, points
from store.counted import counted

if TYPE_CHECKING:
    from engine.evaluation.pilot_verdict import LabelYield, PilotVerdict
    from engine.statistics.intervals import Paired


def pilot_lines(result: pilot.Pilot) -> list[str]:
    """A pilot as lines of text."""
    gap, labels = result.gap, result.labels
    lines = [
        f"{result.model} on {counted(result.n, 'question')} with known answers (95 % intervals):",
        f"  greedy chain of thought   {_accuracy(result.greedy)}",
        f"  {f'majority of {result.k} paths':<26}{_accuracy(result.majority)}",
        f"  headroom                  {_headroom(gap)}",
        f"  kept at threshold {result.threshold:<5}   {percent(labels.kept / labels.n)} % of the "
        f"questions ({interval(labels.kept_low, labels.kept_high)})",
        f"  kept with a right label   {percent(labels.right / labels.n)} % of the questions "
        f"({interval(labels.right_low, labels.right_high)})",
        f"  precision                 {_precision(labels)}",
        f"  paths                     {result.paths:,}: {_share(result.truncated, result.paths)} "
        f"truncated, {_share(result.unread, result.paths)} without an answer",
        f"Headroom: {_HEADROOM[result.verdict]}",
        f"The smallest headroom detectable with 80 % power at n = {result.n:,} is "
        f"{percent(result.detectable)} points."
        if result.detectable is not None
        else f"At n = {result.n:,}, headroom cannot be distinguished from chance.",
        f"Verdict: {_verdict(result.outlook, 'LMSI')}",
    ]
    after = result.after_majority
    if after is not None:
        lines += [
            f"With a path of its own majority before it, a greedy answer is right on "
            f"{_accuracy(after.shown)};",
            f"  alone on {_accuracy(after.alone)}: {_headroom(after.gap)}. "
            + (
                "`lmsi-tui teach` can teach it this."
                if after.gap.low > 0
                else "No difference is shown that `lmsi-tui teach` could teach."
            ),
        ]
    for student in result.students:
        lines += [
            f"Distillation to {student.model}: its greedy answers are right on "
            f"{_accuracy(student.greedy)};",
            f"  the teacher's majority is {_headroom(student.gap)} above.",
            f"  Verdict: {_verdict(student.outlook, 'distillation')}",
        ]
    suggestions = pilot.advice(result)
    if suggestions:
        lines += ["Suggestions:", *(f"  - {suggestion}" for suggestion in suggestions)]
    if result.pool:
        lines.append(
            f"Estimated cost of a full run over the pool ({counted(result.pool, 'question')}); it "
            f"keeps fewer if the model has more different answers than {counted(result.k, 'path')} "
            "show:"
        )
        for forecast in result.forecasts:
            time = f", about {duration(forecast.seconds)}" if forecast.seconds is not None else ""
            lines.append(
                f"  m = {forecast.m:<3} threshold {forecast.threshold:4} "
                f"{forecast.paths:9,} paths, {forecast.tokens:11,} tokens{time}; "
                f"keeps {percent(forecast.kept_share)} %"
            )
    return lines


_HEADROOM = {
    HeadroomVerdict.NO_HEADROOM: "none, by this interval. The majority vote is less than 5 points "
    "above greedy, so there is little for the model to learn from itself.",
    HeadroomVerdict.HEADROOM: "present, by this interval. The majority vote is right more often "
    "than greedy.",
    HeadroomVerdict.UNKNOWN: "cannot tell yet. The interval includes both 0 and 5 points.",
}

_OBSTACLES = {
    Obstacle.FEW_RIGHT_LABELS: "too few questions get a right label (fewer than "
    f"{FEW_RIGHT * 100:.0f} % of them)",
    Obstacle.WRONG_LABELS: "at least half of the kept labels are wrong",
    Obstacle.NO_HEADROOM: f"the majority is less than {MIN_HEADROOM * 100:.0f} points above greedy",
    Obstacle.NEARLY_ALL_RIGHT: f"more than {NEARLY_ALL * 100:.0f} % of the greedy answers are "
    "right already, so there is little left to learn",
}

_OPEN = {
    Obstacle.FEW_RIGHT_LABELS: "enough questions get a right label",
    Obstacle.WRONG_LABELS: "most kept labels are right",
    Obstacle.NO_HEADROOM: "the majority is right more often than greedy",
    Obstacle.NEARLY_ALL_RIGHT: "the model has errors to learn from",
}


def _verdict(outlook: PilotVerdict, method: str) -> str:
    """The verdict in sentences: the answer, the reason, the number of questions and the error."""
    after = f"after {counted(outlook.questions, 'question')}"
    error = f"(error at most {outlook.error * 100:.0f} %)"
    match outlook.answer:
        case Usefulness.NO:
            reasons = "; ".join(_OBSTACLES[obstacle] for obstacle in outlook.obstacles)
            return f"no, {after} {error}. {method} is not expected to help here: {reasons}."
        case Usefulness.YES:
            return (
                f"yes, {after} {error}. {method} has what it needs: enough right labels and "
                "headroom. That guarantees no gain: measure after a round."
            )
        case Usefulness.UNKNOWN:
            unknown = "; whether ".join(_OPEN[obstacle] for obstacle in outlook.obstacles)
            return f"cannot tell yet, {after}. Not certain yet {error}: whether {unknown}."


def _headroom(gap: Paired) -> str:
    return f"{points(gap.gain)} points ({points(gap.low)} to {points(gap.high)})"


def _precision(labels: LabelYield) -> str:
    if not labels.kept:
        return "nothing was kept"
    share = percent(labels.right / labels.kept)
    between = interval(labels.precision_low, labels.precision_high)
    return f"{share} % of the kept labels are right ({between}), {labels.right} of {labels.kept}"


def _accuracy(accuracy: pilot.PilotAccuracy) -> str:
    between = interval(accuracy.low, accuracy.high)
    return f"{percent(accuracy.share)} % ({between}), n = {accuracy.n:,}"


def _share(part: int, whole: int) -> str:
    return f"{percent(part / max(1, whole))} %"
