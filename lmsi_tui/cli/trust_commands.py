"""Commands that show how far the numbers can be trusted: pilot, audit, calibration, leaks."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import TYPE_CHECKING

from engine.evaluation import calibration, pilot, pilot_styles
from engine.jobs.pilot import is_current, usable_questions
from engine.project.setting_values import exact_share
from engine.project.settings import changed
from engine.review import audit
from engine.sampling import runs
from engine.statistics.intervals import clopper_pearson
from lmsi_tui.cli import follow
from lmsi_tui.cli.options import settings_from
from lmsi_tui.cli.output import emit, say
from lmsi_tui.cli.status_commands import opened
from lmsi_tui.formatting.numbers import percent
from lmsi_tui.formatting.pilot_text import pilot_lines
from lmsi_tui.formatting.sanitize import printable
from lmsi_tui.formatting.style_text import style_lines
from lmsi_tui.formatting.trust_text import (
    NOTHING_KNOWN,
    SHOWN_NEXT,
    audit_lines,
    calibration_lines,
    leak_lines,
    pool_run_of,
    students_of,
    teacher_of,
)
from store.connection import connect
from store.enums import JobKind
from store.errors import BadInput

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from engine.project.folder import Project
    from engine.project.settings import Changes
    from engine.statistics.confidence_sequence import Certificate, PrecisionEstimate


# Pilot.


def run_pilot(args: argparse.Namespace) -> None:
    """Measure the teacher on a few questions if needed, and print whether LMSI can help."""
    with opened(args) as (project, _):
        changes = settings_from(args.set, args.preset)
    if args.styles:
        styles = compared_styles(
            project, changes, args.questions or pilot_styles.QUESTIONS, args.json
        )
        if args.json:
            emit({"event": "pilot-styles", **dataclasses.asdict(styles)})
            return
        for line in style_lines(styles):
            say(args, line)
        return
    result = measured_pilot(project, changes, args.questions or pilot.QUESTIONS, args.json)
    if args.json:
        emit({"event": "pilot", **pilot_json(result)})
        return
    for line in pilot_lines(result):
        say(args, line)


def measured_pilot(project: Project, changes: Changes, most: int, as_json: bool) -> pilot.Pilot:
    """Measure the teacher, and the students' greedy answers, until the verdict is certain.

    Args:
        project: an open project.
        changes: of its settings, for this pilot.
        most: questions with known answers, unless more were measured before.
        as_json: print the job's progress as JSON lines.

    Raises:
        BadInput: no question has a known answer.
        BadInput, WorkFailed, Interrupted: of the job that measures.
    """
    project = dataclasses.replace(project, settings=changed(project.settings, changes))
    settings = project.settings
    with connect(project.database, read_only=True) as conn:
        teacher = teacher_of(project, conn)
        students = students_of(project, conn)
        known = len(usable_questions(conn))
        if not changes and pilot.newest_evaluations(conn, teacher):
            result = pilot.from_evaluations(conn, teacher, settings.sample, students)
            complete = len(result.students) == len(students)
            current = is_current(conn, project, teacher, students)
            if complete and current and not result.can_change(min(most, known) - result.n):
                return result
    names = [model.name for model in (teacher, *students)]
    params: dict[str, object] = {"settings": changes, "models": names, "pilot": most}
    follow.start(project, JobKind.EVALUATE, params, detach=False, as_json=as_json)
    with connect(project.database, read_only=True) as conn:
        return pilot.from_evaluations(conn, teacher, settings.sample, students)


def compared_styles(
    project: Project, changes: Changes, count: int, as_json: bool
) -> pilot_styles.StylePilot:
    """Sample the same questions in each style, and compare them.

    Args:
        project: an open project.
        changes: of its settings, for this pilot.
        count: questions with known answers.
        as_json: print the job's progress as JSON lines.

    Raises:
        BadInput: no question has a known answer, or the model has no chat template that works.
        BadInput, WorkFailed, Interrupted: of the job that samples.
    """
    settings = changed(project.settings, changes)
    with connect(project.database, read_only=True) as conn:
        teacher = teacher_of(project, conn)
    params: dict[str, object] = {"settings": changes, "models": [teacher.name], "styles": count}
    job = follow.start(project, JobKind.EVALUATE, params, detach=False, as_json=as_json)
    with connect(project.database, read_only=True) as conn:
        return pilot_styles.compare(
            conn, teacher, *pilot_styles.of_job(conn, job), settings.sample.threshold
        )


def pilot_json(result: pilot.Pilot) -> dict[str, object]:
    """A pilot as one JSON object; shares in [0, 1]."""
    return dataclasses.asdict(result) | {
        "n": result.n,
        "verdict": result.verdict,
        "advice": pilot.advice(result),
    }


# Audit.


def show_audit(args: argparse.Namespace) -> None:
    """Print label precision, certified thresholds and the next questions to audit."""
    target = _share_between(args.precision, "--precision")
    confidence = _share_between(args.confidence, "--confidence")
    with opened(args) as (project, conn):
        run = pool_run_of(project, conn)
        threshold = runs.run_threshold(conn, project.settings.sample, run)
        result = audit.of_store(conn, run, threshold=threshold)
    certificates = result.certificates(target, confidence)
    fixed = _fixed(result, args.planned)
    if args.json:
        event = audit_json(result, certificates, target, confidence)
        emit({"event": "audit", **event, "fixed": fixed})
        return
    for line in audit_lines(result, certificates, target, confidence):
        say(args, line)
    if fixed is not None:
        low, high = fixed
        say(
            args,
            f"With n = {args.planned:,} fixed before the first audit: {percent(low)} to "
            f"{percent(high)} % (Clopper-Pearson, 95 %; not valid if you continue).",
        )
    elif args.planned is not None:
        say(
            args,
            f"The exact interval for n = {args.planned:,} needs exactly {args.planned:,} judged "
            "questions and none skipped.",
        )


def _fixed(result: audit.Audit, planned: int | None) -> tuple[float, float] | None:
    """The exact interval for a number of audits that was fixed in advance; None if the audit does
    not have that number. Proportional strata and a finite pool make it conservative."""
    precision = result.precision
    if precision is None or precision.audited != planned or precision.skipped:
        return None
    return clopper_pearson(precision.audited - precision.wrong, precision.audited)


def audit_json(
    result: audit.Audit,
    certificates: Sequence[Certificate],
    target: Fraction,
    confidence: Fraction,
) -> dict[str, object]:
    """An audit as one JSON object; shares in [0, 1]."""
    precision = result.precision
    return {
        "precision": _precision_json(precision) if precision else None,
        "strata": [
            {"threshold": float(stratum.threshold), **dataclasses.asdict(count)}
            for stratum, count in zip(result.strata, result.counts, strict=True)
        ],
        "asked": {"precision": float(target), "confidence": float(confidence)},
        "certificates": [
            {
                "threshold": float(certificate.threshold),
                "certified": certificate.certified,
                "e_value": min(certificate.e_value, 1e300),
                "clean_needed": certificate.clean_needed,
                **_precision_json(certificate.precision),
            }
            for certificate in certificates
        ],
        "consistency": dataclasses.asdict(result.consistency),
        "next": [question.key for question in result.upcoming(SHOWN_NEXT)],
    }


def _precision_json(precision: PrecisionEstimate) -> dict[str, object]:
    return dataclasses.asdict(precision) | {"expected_wrong": precision.expected_wrong}


# Calibration.


def show_calibration(args: argparse.Namespace) -> None:
    """Print how accuracy depends on agreement, from known answers and from the audit."""
    with opened(args) as (project, conn):
        calibrations = calibration.calibrations(conn, project, teacher_of(project, conn))
    if not calibrations:
        raise BadInput(NOTHING_KNOWN)
    for result in calibrations:
        if args.json:
            emit({"event": "calibration", **dataclasses.asdict(result)})
        else:
            for line in calibration_lines(result, project.settings.sample.threshold):
                say(args, line)


# Leaks.


def list_leaks(args: argparse.Namespace) -> None:
    """Print the pool questions that nearly match evaluation questions."""
    from engine.importing.contamination import of_store

    with opened(args) as (_, conn):
        result = of_store(conn)
    pool, measured = result.compared
    if args.json:
        emit(
            {
                "event": "leaks",
                "pool": pool,
                "evaluation": measured,
                "other_numbers": result.other_numbers,
                "leaks": [
                    {
                        "overlap": leak.overlap,
                        "pool": leak.pool.key,
                        "measured": leak.measured.key,
                        "split": leak.measured.split,
                    }
                    for leak in result.pairs
                ],
            }
        )
        return
    for line in leak_lines(result):
        say(args, line)


def _share_between(text: str, option: str) -> Fraction:
    """An option's value as a share strictly between 0 and 1."""
    try:
        share = exact_share(text)
    except BadInput:
        share = Fraction(0)
    if not 0 < share < 1:
        raise BadInput(
            f"{option} is {printable(text)}: give a share between 0 and 1, such as 0.95."
        )
    return share
