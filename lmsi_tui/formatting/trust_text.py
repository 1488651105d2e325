"""Pilot, audit, calibration and leaks as lines of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.evaluation import calibration, pilot
from engine.review import audit
from engine.sampling import runs
from engine.statistics.confidence_sequence import CONFIDENCE, FEWEST_AUDITS, TARGET_PRECISION
from lmsi_tui.formatting.numbers import interval, percent
from lmsi_tui.formatting.pilot_text import pilot_lines
from lmsi_tui.formatting.sanitize import snippet
from store import models
from store.counted import counted
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from fractions import Fraction

    from engine.importing.contamination import Contamination
    from engine.project.folder import Project
    from engine.statistics.confidence_sequence import Certificate, PrecisionEstimate
    from store.records import Model, Run

NOTHING_KNOWN = (
    "No answer is known to be right or wrong yet: measure questions with known answers with "
    "`lmsi-tui evaluate`, or audit accepted questions with `lmsi-tui review`."
)
SHOWN_NEXT = 3
"""Number of upcoming audit questions that the command shows."""


@dataclass(frozen=True, slots=True)
class TrustSection:
    """One of the checks that show how far the numbers can be trusted."""

    title: str
    lines: tuple[str, ...]


def sections(conn: sqlite3.Connection, project: Project) -> list[TrustSection]:
    """Pilot, audit, calibration and leaks, as the commands print them.

    A check that is not possible yet says what to do. Takes seconds on a large project.
    """
    from engine.importing.contamination import of_store

    sample = project.settings.sample

    def pilot_of() -> list[str]:
        teacher, students = teacher_of(project, conn), students_of(project, conn)
        return pilot_lines(pilot.from_evaluations(conn, teacher, sample, students))

    def audit_of() -> list[str]:
        run = pool_run_of(project, conn)
        threshold = runs.run_threshold(conn, sample, run)
        result = audit.of_store(conn, run, threshold=threshold)
        certificates = result.certificates(TARGET_PRECISION)
        return audit_lines(result, certificates, TARGET_PRECISION, CONFIDENCE)

    def calibration_of() -> list[str]:
        results = calibration.calibrations(conn, project, teacher_of(project, conn))
        if not results:
            raise BadInput(NOTHING_KNOWN)
        return [line for result in results for line in calibration_lines(result, sample.threshold)]

    def leaks_of() -> list[str]:
        return leak_lines(of_store(conn))

    return [
        TrustSection(title, _lines_or_why(results))
        for title, results in (
            ("can LMSI help: pilot", pilot_of),
            ("are the labels right: audit", audit_of),
            ("how accuracy depends on agreement: calibration", calibration_of),
            ("does the pool contain evaluation questions: leaks", leaks_of),
        )
    ]


def _lines_or_why(lines: Callable[[], list[str]]) -> tuple[str, ...]:
    try:
        return tuple(lines())
    except BadInput as missing:
        return (str(missing),)


def _wrong_labels(precision: PrecisionEstimate) -> list[str]:
    """How many labels are wrong, and how many of those remain; empty before the first audit."""
    if not (precision.expected_wrong and precision.expected_left):
        return []
    middle, fewest, most = precision.expected_wrong
    left, fewest_left, most_left = precision.expected_left
    if precision.has_enough_audits:
        wrong = f"Expected wrong labels: {middle:,.0f} ({fewest:,.0f} to {most:,.0f})."
        remain = f"about {left:,.0f}"
    else:
        wrong = f"Wrong labels: {fewest:,.0f} to {most:,.0f}."
        remain = f"{fewest_left:,.0f} to {most_left:,.0f}"
    return [
        f"{wrong} Those that the audit found are left out, so {remain} remain in the training set."
    ]


def audit_lines(
    result: audit.Audit,
    certificates: Sequence[Certificate],
    target: Fraction,
    confidence: Fraction,
) -> list[str]:
    """An audit as lines of text."""
    precision = result.precision
    if precision is None:
        return ["No question is accepted at this threshold, so there is nothing to audit."]
    if precision.estimate is None:
        estimate = "not known yet "
    elif precision.has_enough_audits:
        estimate = f"{percent(precision.estimate)} % "
    else:
        estimate = f"too few audits for an estimate, fewer than {FEWEST_AUDITS} "
    lines = [
        f"{precision.audited:,} of {counted(precision.size, 'accepted question')} audited, "
        f"{precision.wrong:,} of them wrong, {precision.skipped:,} skipped.",
        f"Label precision: {estimate}({interval(precision.low, precision.high)} %, "
        "95 % confidence, valid whenever you stop).",
    ]
    lines += _wrong_labels(precision)
    lines.append(
        f"Thresholds, certified for a label precision of {percent(float(target))} % at "
        f"{percent(float(confidence))} % confidence, from strict to loose:"
    )
    for certificate in certificates:
        counts = certificate.precision
        if certificate.certified:
            state = "certified"
        elif certificate.clean_needed is None:
            state = (
                "passes, but a stricter threshold does not"
                if certificate.e_value >= 1 / (1 - confidence)
                else "not certified, and correct audits alone cannot certify it"
            )
        else:
            state = f"needs {certificate.clean_needed:,} more audits, all correct"
        lines.append(
            f"  {float(certificate.threshold):4.2f}  {counts.size:7,} questions, "
            f"{counts.audited:5,} audited, {counts.wrong:4,} wrong: {state}"
        )
    certified = [certificate for certificate in certificates if certificate.certified]
    lines.append(
        f"Lowest certified threshold: {float(certified[-1].threshold):.2f}."
        if certified
        else "No threshold is certified yet."
    )
    consistency = result.consistency
    if consistency.repeated:
        lines.append(
            f"Consistency: {consistency.same:,} of {counted(consistency.repeated, 'question')} "
            f"shown twice were judged the same ({interval(consistency.low, consistency.high)} %)."
        )
    upcoming = result.upcoming(SHOWN_NEXT)
    if upcoming:
        lines.append("Next questions to audit:")
        lines += [f"  {question.key}  {snippet(question.text, 90)}" for question in upcoming]
    return lines


def calibration_lines(result: calibration.Calibration, threshold: str) -> list[str]:
    """A calibration as lines of text, with the row of `threshold` marked."""
    lines = [
        f"{result.model}, from {result.source} (95 % intervals):",
        "  agreement        n   accuracy in %",
    ]
    lines += [
        f"  {row.low:.1f} to {row.high:.1f}  {row.n:6,}   {percent(row.accuracy)} "
        f"({interval(row.accuracy_low, row.accuracy_high)})"
        for row in result.bins
    ]
    if result.error:
        lines.append(
            f"  expected calibration error {percent(result.error.value)} points "
            f"({interval(result.error.low, result.error.high)}), n = {result.error.n:,}"
        )
    if result.agreement:
        mean = result.agreement
        lines.append(
            f"  mean agreement {percent(mean.counted)} % on {counted(mean.paths, 'path')}, without "
            f"selection bias {percent(mean.corrected)} % ({interval(mean.low, mean.high)}), "
            f"n = {mean.questions:,} (leave-one-out)"
        )
    if result.curve:
        current = calibration.at_threshold(result.curve, threshold)
        lines.append("  threshold   yield   precision in %")
        lines += [
            f"  {row.needed / row.m:9.3f} {percent(row.kept_share):>7}   {_precision(row)}"
            f"{'   <- current' if row is current else ''}"
            for row in result.curve
        ]
    return lines + _score_lines(result)


def _score_lines(result: calibration.Calibration) -> list[str]:
    """Agreement, confidence and both as scores of a vote; empty without confidence."""
    if not result.scores:
        return []
    lines = ["  score        AUROC in % (95 %)     precision in % at the yield of the threshold"]
    for row in result.scores:
        cells = [
            "unknown"
            if each is None
            else f"{percent(each.value)} ({interval(each.low, each.high)})"
            for each in (row.auroc, row.precision)
        ]
        lines.append(f"  {row.score:<11}  {cells[0]:<20}  {cells[1]}, n = {row.n:,}")
    return lines


def _precision(trade: calibration.ThresholdPoint) -> str:
    if trade.precision is None:
        return "unknown"
    return f"{percent(trade.precision)} ({interval(trade.low, trade.high)}), n = {trade.n:,}"


def leak_lines(leaks: Contamination) -> list[str]:
    """The leaks as lines of text."""
    pool, measured = leaks.compared
    lines = [
        f"{len(leaks.pairs):,} of {counted(pool, 'pool question')} nearly match one of "
        f"{measured:,} evaluation questions; they are left out of training."
    ]
    for leak in leaks.pairs:
        lines += [
            f"  {percent(leak.overlap)} % of word trigrams in common:",
            f"    pool {leak.pool.key}  {snippet(leak.pool.text, 100)}",
            f"    {leak.measured.split:4} {leak.measured.key}  {snippet(leak.measured.text, 100)}",
        ]
    if leaks.other_numbers:
        lines.append(
            f"{leaks.other_numbers:,} more differ from an evaluation question only in their "
            "numbers; they are kept."
        )
    return lines


def teacher_of(project: Project, conn: sqlite3.Connection) -> Model:
    """The project's teacher.

    Raises:
        BadInput: the project has no model of that name.
    """
    name = project.settings.model.teacher
    teacher = models.by_name(conn, name)
    if teacher is None:
        raise BadInput(
            f"The teacher {name!r} is not a model of this project: set model.teacher in lmsi.toml."
        )
    return teacher


def students_of(project: Project, conn: sqlite3.Connection) -> list[Model]:
    """The project's students, without those that are not in the store."""
    stored = (models.by_name(conn, name) for name in project.settings.model.students)
    return [student for student in stored if student]


def pool_run_of(project: Project, conn: sqlite3.Connection) -> Run:
    """The pool's run.

    Raises:
        BadInput: nothing was sampled yet.
    """
    run = runs.pool_run(conn, project)
    if run is None:
        raise BadInput("Nothing has been sampled yet: run `lmsi-tui sample` first.")
    return run
