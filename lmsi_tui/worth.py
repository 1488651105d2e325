"""Commands that tell what the numbers are worth: pilot, audit, calibration."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import TYPE_CHECKING

from engine import audit as auditing
from engine import calibration as calibrating
from engine import pilot as piloting
from engine import runs
from engine.project import changed, exact_share
from engine.statistics import clopper_pearson
from lmsi_tui import follow
from lmsi_tui.format import duration, percent, points
from lmsi_tui.options import settings_from
from lmsi_tui.output import emit, say
from lmsi_tui.reading import opened
from lmsi_tui.text import printable, snippet
from store import models, questions
from store.errors import BadInput
from store.records import JobKind, Split

if TYPE_CHECKING:
    import argparse
    import sqlite3
    from collections.abc import Sequence

    from engine.project import Project
    from store.records import Model, Run

SHOWN_NEXT = 3
"""Questions of the audit's queue that the command shows."""


# Pilot.


def pilot(asked: argparse.Namespace) -> None:
    """Measure the teacher on few questions where that is missing, and say whether LMSI may help."""
    with opened(asked) as (project, conn):
        changes = settings_from(asked.set)
        settings = changed(project.settings, changes)
        teacher = _teacher(project, conn)
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


def pilot_lines(found: piloting.Pilot) -> list[str]:
    """A pilot as a person reads it."""
    gap = found.gap
    lines = [
        f"{found.model} on {found.n:,} questions with known answers (95 % intervals):",
        f"  greedy chain of thought   {_accuracy(found.greedy)}",
        f"  majority of {found.k:<3} paths     {_accuracy(found.majority)}",
        f"  the gap, LMSI's fuel      {points(gap.gain)} points "
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
    piloting.Verdict.NO_FUEL: "no fuel. The vote is surely less than five points better than a "
    "single greedy answer, so there is little for the model to learn from itself.",
    piloting.Verdict.FUEL: "fuel present. The vote is right more often than a single greedy "
    "answer. That is necessary for LMSI to help, not sufficient: measure after a round.",
    piloting.Verdict.UNKNOWN: "cannot tell yet. The interval of the gap holds both none and five "
    "points or more.",
}


def _accuracy(one: piloting.Accuracy) -> str:
    return f"{percent(one.share)} % ({percent(one.low)} to {percent(one.high)}), n = {one.n:,}"


def _share(part: int, whole: int) -> str:
    return f"{percent(part / max(1, whole))} %"


# Audit.


def audit(asked: argparse.Namespace) -> None:
    """Say how precise the accepted labels are, which threshold is certified, what is next."""
    wanted = _share_between(asked.precision, "--precision")
    confidence = _share_between(asked.confidence, "--confidence")
    with opened(asked) as (project, conn):
        sample = project.settings.sample
        found = auditing.of_store(conn, _pool_run(project, conn), threshold=sample.threshold)
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
    certificates: Sequence[auditing.Certificate],
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


def _precision_json(one: auditing.Precision) -> dict[str, object]:
    return dataclasses.asdict(one) | {"expected_wrong": one.expected_wrong}


def audit_lines(
    found: auditing.Audit,
    certificates: Sequence[auditing.Certificate],
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


# Calibration.


def calibration(asked: argparse.Namespace) -> None:
    """Say what an agreement is worth, from known answers or from the audit."""
    with opened(asked) as (project, conn):
        told = calibrating.of_store(conn, _teacher(project, conn), project.settings.sample)
    if not told:
        raise BadInput(
            "Nothing is known to be right or wrong yet: `lmsi-tui evaluate` measures on questions "
            "with known answers, and an audit judges what was accepted."
        )
    for one in told:
        if asked.json:
            emit({"event": "calibration", **dataclasses.asdict(one)})
        else:
            for line in calibration_lines(one, project.settings.sample.threshold):
                say(asked, line)


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


def _worth(one: calibrating.Trade) -> str:
    if one.precision is None:
        return "not known"
    return f"{percent(one.precision)} ({percent(one.low)} to {percent(one.high)}), n = {one.n:,}"


# Leaks.


def leaks(asked: argparse.Namespace) -> None:
    """Show the pool questions that are nearly evaluation questions."""
    from engine.leaks import of_store

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
    say(
        asked,
        f"{len(told.found):,} of {pool:,} pool questions are nearly one of {measured:,} evaluation "
        "questions; they are left out of training.",
    )
    for one in told.found:
        say(asked, f"  {percent(one.overlap)} % of the word trigrams in common:")
        say(asked, f"    pool {one.pool.key}  {snippet(one.pool.text, 100)}")
        say(
            asked,
            f"    {one.measured.split:4} {one.measured.key}  {snippet(one.measured.text, 100)}",
        )
    if told.other_numbers:
        say(
            asked,
            f"{told.other_numbers:,} more have the wording of an evaluation question with other "
            "numbers; they stay.",
        )


# What is there.


def _teacher(project: Project, conn: sqlite3.Connection) -> Model:
    name = project.settings.model.teacher
    found = models.by_name(conn, name)
    if found is None:
        raise BadInput(
            f"The project's teacher is {name!r}, and there is no such model: "
            "set model.teacher in lmsi.toml."
        )
    return found


def _pool_run(project: Project, conn: sqlite3.Connection) -> Run:
    run = runs.newest_over_pool(conn, runs.sampling_model(conn, _teacher(project, conn)))
    if run is None:
        raise BadInput("Nothing was sampled yet: `lmsi-tui sample` draws paths and votes on them.")
    return run


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
