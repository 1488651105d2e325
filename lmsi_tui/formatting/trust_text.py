"""What the numbers are worth, in words: pilot, audit, calibration, leaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.evaluation import calibration as calibrating
from engine.evaluation import pilot as piloting
from engine.evaluation.pilot import HeadroomVerdict
from engine.review import audit as auditing
from engine.sampling import runs
from engine.statistics.confidence_sequence import CONFIDENCE, TARGET_PRECISION
from lmsi_tui.formatting.numbers import duration, percent, points
from lmsi_tui.formatting.sanitize import snippet
from store import models
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from fractions import Fraction

    from engine.importing.contamination import Contamination
    from engine.project.folder import Project
    from engine.statistics.confidence_sequence import Certificate
    from store.records import Model, Run

NOTHING_KNOWN = (
    "Nothing is known to be right or wrong yet: `lmsi-tui evaluate` measures on questions "
    "with known answers, and an audit judges what was accepted."
)
SHOWN_NEXT = 3
"""Questions of the audit's queue that the command shows."""


@dataclass(frozen=True, slots=True)
class Section:
    """One thing that says how far the numbers can be believed."""

    title: str
    lines: tuple[str, ...]


def sections(conn: sqlite3.Connection, project: Project) -> list[Section]:
    """Pilot, audit, calibration and leaks, as the commands say them; what is missing says what to
    do. Seconds on a large project, so in a thread."""
    from engine.importing.contamination import of_store

    sample = project.settings.sample

    def pilot_of() -> list[str]:
        return pilot_lines(piloting.from_evaluations(conn, teacher_of(project, conn), sample))

    def audit_of() -> list[str]:
        found = auditing.of_store(conn, pool_run_of(project, conn), threshold=sample.threshold)
        certificates = found.certificates(TARGET_PRECISION)
        return audit_lines(found, certificates, TARGET_PRECISION, CONFIDENCE)

    def calibration_of() -> list[str]:
        told = calibrating.calibrations(conn, project, teacher_of(project, conn))
        if not told:
            raise BadInput(NOTHING_KNOWN)
        return [line for one in told for line in calibration_lines(one, sample.threshold)]

    def leaks_of() -> list[str]:
        return leak_lines(of_store(conn))

    return [
        Section(title, _lines_or_why(told))
        for title, told in (
            ("will it help: the pilot", pilot_of),
            ("are the labels right: the audit", audit_of),
            ("what an agreement is worth: calibration", calibration_of),
            ("does the pool know the evaluation: leaks", leaks_of),
        )
    ]


def _lines_or_why(told: Callable[[], list[str]]) -> tuple[str, ...]:
    try:
        return tuple(told())
    except BadInput as missing:
        return (str(missing),)


def pilot_lines(found: piloting.Pilot) -> list[str]:
    """A pilot as a person reads it."""
    gap = found.gap
    lines = [
        f"{found.model} on {found.n:,} questions with known answers (95 % intervals):",
        f"  greedy chain of thought   {_accuracy(found.greedy)}",
        f"  majority of {found.k:<3} paths     {_accuracy(found.majority)}",
        f"  headroom                  {points(gap.gain)} points "
        f"({points(gap.low)} to {points(gap.high)})",
        f"  paths                     {found.paths:,}: {_share(found.truncated, found.paths)} cut, "
        f"{_share(found.unread, found.paths)} without a readable answer",
    ]
    lines.append(
        f"With n = {found.n:,} a gap of {percent(found.detectable)} points or more is seen four "
        "times in five."
        if found.detectable is not None
        else f"With n = {found.n:,} no gap can be told from chance."
    )
    lines.append(f"Verdict: {_VERDICTS[found.verdict]}")
    help_ = piloting.advice(found)
    if help_:
        lines += ["What would help:", *(f"  - {one}" for one in help_)]
    if found.pool:
        lines.append(f"A full run over the pool ({found.pool:,} questions) would take:")
        for one in found.forecasts:
            took = f", about {duration(one.seconds)}" if one.seconds is not None else ""
            lines.append(
                f"  m = {one.m:<3} threshold {one.threshold:4} {one.paths:9,} paths, "
                f"{one.tokens:11,} tokens{took}; keeps {percent(one.kept_share)} %"
            )
    return lines


_VERDICTS = {
    HeadroomVerdict.NO_HEADROOM: "no headroom. The majority vote is less than 5 points above "
    "greedy, so the model has little to learn from itself.",
    HeadroomVerdict.HEADROOM: "headroom. The majority vote is right more often than a greedy "
    "answer. That is necessary for LMSI to help, not sufficient: measure after a round.",
    HeadroomVerdict.UNKNOWN: "cannot tell yet. The interval of the headroom contains both 0 and "
    "5 points.",
}


def _accuracy(one: piloting.PilotAccuracy) -> str:
    return f"{percent(one.share)} % ({percent(one.low)} to {percent(one.high)}), n = {one.n:,}"


def _share(part: int, whole: int) -> str:
    return f"{percent(part / max(1, whole))} %"


def audit_lines(
    found: auditing.Audit,
    certificates: Sequence[Certificate],
    wanted: Fraction,
    confidence: Fraction,
) -> list[str]:
    """An audit as a person reads it."""
    precision = found.precision
    if precision is None:
        return ["No question is accepted at this threshold, so there is nothing to audit."]
    shown = (
        f"{percent(precision.estimate)} % " if precision.estimate is not None else "not known yet "
    )
    lines = [
        f"{precision.audited:,} of {precision.size:,} accepted questions audited, "
        f"{precision.wrong:,} of them wrong, {precision.skipped:,} skipped.",
        f"Precision of the accepted labels: {shown}({percent(precision.low)} to "
        f"{percent(precision.high)} %, 95 %, whenever you stop).",
    ]
    if precision.expected_wrong and precision.expected_left:
        middle, fewest, most = precision.expected_wrong
        left = precision.expected_left[0]
        lines.append(
            f"Expected wrong labels: {middle:,.0f} ({fewest:,.0f} to {most:,.0f}); those that the "
            f"audit found are left out, so the training set keeps about {left:,.0f}."
        )
    lines.append(
        f"Thresholds at a precision of {percent(float(wanted))} % with confidence "
        f"{percent(float(confidence))} %, from strict to loose:"
    )
    for one in certificates:
        if one.certified:
            state = "certified"
        elif one.clean_needed is None:
            state = (
                "passes, but a stricter one does not"
                if one.e_value >= 1 / (1 - confidence)
                else "not certified; clean audits alone cannot do it"
            )
        else:
            state = f"{one.clean_needed:,} more clean audits are needed"
        lines.append(
            f"  {float(one.threshold):4.2f}  {one.precision.size:7,} questions, "
            f"{one.precision.audited:5,} audited, {one.precision.wrong:4,} wrong: {state}"
        )
    certified = [one for one in certificates if one.certified]
    lines.append(
        f"Lowest certified threshold: {float(certified[-1].threshold):.2f}."
        if certified
        else "No threshold is certified yet."
    )
    steady = found.consistency
    if steady.repeated:
        lines.append(
            f"Shown twice without a word: {steady.repeated:,} questions, {steady.same:,} judged "
            f"the same ({percent(steady.low)} to {percent(steady.high)} %)."
        )
    coming = found.upcoming(SHOWN_NEXT)
    if coming:
        lines.append("Next in the audit:")
        lines += [f"  {one.key}  {snippet(one.text, 90)}" for one in coming]
    return lines


def calibration_lines(found: calibrating.Calibration, threshold: str) -> list[str]:
    """A calibration as a person reads it, with `threshold` marked on the curve."""
    lines = [
        f"{found.model}, from {found.source} (95 % intervals):",
        "  agreement        n   right in %",
    ]
    lines += [
        f"  {one.low:.1f} to {one.high:.1f}  {one.n:6,}   {percent(one.accuracy)} "
        f"({percent(one.accuracy_low)} to {percent(one.accuracy_high)})"
        for one in found.bins
    ]
    if found.error:
        lines.append(
            f"  expected calibration error {percent(found.error.value)} points "
            f"({percent(found.error.low)} to {percent(found.error.high)}), n = {found.error.n:,}"
        )
    if found.agreement:
        mean = found.agreement
        lines.append(
            f"  mean agreement {percent(mean.counted)} % as counted on {mean.paths} paths; "
            f"the winner's true share is {percent(mean.corrected)} % "
            f"({percent(mean.low)} to {percent(mean.high)}), n = {mean.questions:,} "
            "(each path left out in turn)"
        )
    if found.curve:
        mine = calibrating.at_threshold(found.curve, threshold)
        lines.append("  threshold   yield   precision in %")
        lines += [
            f"  {one.needed / one.m:9.3f} {percent(one.kept_share):>7}   {_worth(one)}"
            f"{'   <- yours' if one is mine else ''}"
            for one in found.curve
        ]
    return lines


def _worth(one: calibrating.ThresholdPoint) -> str:
    if one.precision is None:
        return "not known"
    return f"{percent(one.precision)} ({percent(one.low)} to {percent(one.high)}), n = {one.n:,}"


def leak_lines(told: Contamination) -> list[str]:
    """The leaks as a person reads them."""
    pool, measured = told.compared
    lines = [
        f"{len(told.found):,} of {pool:,} pool questions are nearly one of {measured:,} evaluation "
        "questions; they are left out of training."
    ]
    for one in told.found:
        lines += [
            f"  {percent(one.overlap)} % of the word trigrams in common:",
            f"    pool {one.pool.key}  {snippet(one.pool.text, 100)}",
            f"    {one.measured.split:4} {one.measured.key}  {snippet(one.measured.text, 100)}",
        ]
    if told.other_numbers:
        lines.append(
            f"{told.other_numbers:,} more have the wording of an evaluation question with other "
            "numbers; they stay."
        )
    return lines


def teacher_of(project: Project, conn: sqlite3.Connection) -> Model:
    """The project's teacher.

    Raises:
        BadInput: there is none of that name.
    """
    name = project.settings.model.teacher
    found = models.by_name(conn, name)
    if found is None:
        raise BadInput(
            f"The project's teacher is {name!r}, and there is no such model: "
            "set model.teacher in lmsi.toml."
        )
    return found


def pool_run_of(project: Project, conn: sqlite3.Connection) -> Run:
    """The pool's run.

    Raises:
        BadInput: nothing was sampled yet.
    """
    run = runs.pool_run(conn, project)
    if run is None:
        raise BadInput("Nothing was sampled yet: `lmsi-tui sample` draws paths and votes on them.")
    return run
