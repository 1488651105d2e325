"""Commands that tell what the numbers are worth: pilot, audit, calibration."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import TYPE_CHECKING

from engine.evaluation import calibration as calibrating
from engine.evaluation import pilot as piloting
from engine.project.settings import changed, exact_share
from engine.review import audit as auditing
from engine.statistics.intervals import clopper_pearson
from lmsi_tui.cli import follow
from lmsi_tui.cli.options import settings_from
from lmsi_tui.cli.output import emit, say
from lmsi_tui.cli.status_commands import opened
from lmsi_tui.formatting.numbers import percent
from lmsi_tui.formatting.sanitize import printable
from lmsi_tui.formatting.trust_text import (
    NOTHING_KNOWN,
    SHOWN_NEXT,
    audit_lines,
    calibration_lines,
    leak_lines,
    pilot_lines,
    pool_run_of,
    teacher_of,
)
from store import questions
from store.enums import JobKind, Split
from store.errors import BadInput

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from engine.statistics.confidence_sequence import Certificate, Precision


# Pilot.


def pilot(asked: argparse.Namespace) -> None:
    """Measure the teacher on few questions where that is missing, and say whether LMSI may help."""
    with opened(asked) as (project, conn):
        changes = settings_from(asked.set, asked.preset)
        settings = changed(project.settings, changes)
        teacher = teacher_of(project, conn)
        known = len(questions.gold_for(conn, Split.EVAL))
        if not known:
            raise BadInput(
                "A pilot needs questions with known answers: import 60 to 100 with "
                "`lmsi-tui import FILE --split eval --task TYPE`."
            )
        before = piloting.measured(conn, teacher)
    wanted = asked.questions or piloting.QUESTIONS
    stored = min(one.n for one in before) if before else 0
    if stored < min(wanted, known) or changes:
        measuring = {name: dict(section) for name, section in changes.items()}
        # Never fewer than before: the new measurement of a run takes the place of the old one.
        limit = max(wanted, stored)
        measuring.setdefault("evaluate", {}).update({"limit": limit, "ood": False})
        params: dict[str, object] = {"settings": measuring, "models": [teacher.name]}
        follow.start(project, JobKind.EVALUATE, params, detach=False, as_json=asked.json)
    with opened(asked) as (_, conn):
        found = piloting.of_model(conn, teacher, settings.sample)
    if asked.json:
        emit({"event": "pilot", **pilot_json(found)})
        return
    for line in pilot_lines(found):
        say(asked, line)


def pilot_json(found: piloting.Pilot) -> dict[str, object]:
    """A pilot as one JSON object; shares in [0, 1]."""
    return dataclasses.asdict(found) | {
        "n": found.n,
        "verdict": found.verdict,
        "advice": piloting.advice(found),
    }


# Audit.


def audit(asked: argparse.Namespace) -> None:
    """Say how precise the accepted labels are, which threshold is certified, what is next."""
    wanted = _share_between(asked.precision, "--precision")
    confidence = _share_between(asked.confidence, "--confidence")
    with opened(asked) as (project, conn):
        sample = project.settings.sample
        found = auditing.of_store(conn, pool_run_of(project, conn), threshold=sample.threshold)
    certificates = found.certificates(wanted, confidence)
    fixed = _fixed(found, asked.planned)
    if asked.json:
        told = audit_json(found, certificates, wanted, confidence)
        emit({"event": "audit", **told, "fixed": fixed})
        return
    for line in audit_lines(found, certificates, wanted, confidence):
        say(asked, line)
    if fixed is not None:
        low, high = fixed
        say(
            asked,
            f"With n = {asked.planned:,} fixed before the first audit: {percent(low)} to "
            f"{percent(high)} % (Clopper-Pearson, 95 %; it does not hold if you go on).",
        )
    elif asked.planned is not None:
        say(
            asked,
            f"The exact interval for a planned n of {asked.planned:,} is for exactly that many "
            "judged questions, none skipped.",
        )


def _fixed(found: auditing.Audit, planned: int | None) -> tuple[float, float] | None:
    """The exact interval of a number of audits that was fixed before; None where it is not that
    many. Strata in proportion and a finite pool only make it wider than it need be."""
    precision = found.precision
    if precision is None or precision.audited != planned or precision.skipped:
        return None
    return clopper_pearson(precision.audited - precision.wrong, precision.audited)


def audit_json(
    found: auditing.Audit,
    certificates: Sequence[Certificate],
    wanted: Fraction,
    confidence: Fraction,
) -> dict[str, object]:
    """An audit as one JSON object; shares in [0, 1]."""
    precision = found.precision
    return {
        "precision": _precision_json(precision) if precision else None,
        "strata": [
            {"threshold": float(stratum.threshold), **dataclasses.asdict(count)}
            for stratum, count in zip(found.strata, found.counts, strict=True)
        ],
        "asked": {"precision": float(wanted), "confidence": float(confidence)},
        "certificates": [
            {
                "threshold": float(one.threshold),
                "certified": one.certified,
                "e_value": min(one.e_value, 1e300),
                "clean_needed": one.clean_needed,
                **_precision_json(one.precision),
            }
            for one in certificates
        ],
        "consistency": dataclasses.asdict(found.consistency),
        "next": [question.key for question in found.upcoming(SHOWN_NEXT)],
    }


def _precision_json(one: Precision) -> dict[str, object]:
    return dataclasses.asdict(one) | {"expected_wrong": one.expected_wrong}


# Calibration.


def calibration(asked: argparse.Namespace) -> None:
    """Say what an agreement is worth, from known answers or from the audit."""
    with opened(asked) as (project, conn):
        told = calibrating.of_store(conn, project, teacher_of(project, conn))
    if not told:
        raise BadInput(NOTHING_KNOWN)
    for one in told:
        if asked.json:
            emit({"event": "calibration", **dataclasses.asdict(one)})
        else:
            for line in calibration_lines(one, project.settings.sample.threshold):
                say(asked, line)


# Leaks.


def leaks(asked: argparse.Namespace) -> None:
    """Show the pool questions that are nearly evaluation questions."""
    from engine.importing.contamination import of_store

    with opened(asked) as (_, conn):
        told = of_store(conn)
    pool, measured = told.compared
    if asked.json:
        emit(
            {
                "event": "leaks",
                "pool": pool,
                "evaluation": measured,
                "other_numbers": told.other_numbers,
                "leaks": [
                    {
                        "overlap": one.overlap,
                        "pool": one.pool.key,
                        "measured": one.measured.key,
                        "split": one.measured.split,
                    }
                    for one in told.found
                ],
            }
        )
        return
    for line in leak_lines(told):
        say(asked, line)


def _share_between(text: str, option: str) -> Fraction:
    """A share that is neither nothing nor everything."""
    try:
        share = exact_share(text)
    except BadInput:
        share = Fraction(0)
    if not 0 < share < 1:
        raise BadInput(
            f"{option} is {printable(text)}: give a share between 0 and 1, such as 0.95."
        )
    return share
