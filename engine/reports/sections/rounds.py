"""Rounds: the verdict on each, the test behind it, and the model in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.evaluation.acceptance import RoundResult, last_accepted, round_results
from engine.reports.document import Block, ReportSection, Table
from engine.reports.formatting import gain_in_points, p_value
from store.counted import counted

if TYPE_CHECKING:
    import sqlite3


def section(conn: sqlite3.Connection) -> ReportSection:
    """Empty without rounds."""
    results = round_results(conn)
    if not results:
        return ReportSection("Rounds", ())
    number = last_accepted({result.number: result.verdict for result in results})
    in_use = next((result.trained for result in results if result.number == number), None)
    blocks: list[Block] = [
        "Every round trains from the base model. It is accepted when McNemar's exact test and the "
        "95 % interval both show it better than the last accepted model on the evaluation "
        "questions and neither shows it worse out of domain, rejected when both show it worse on "
        "either, and undecided otherwise.",
        Table(
            (
                *("round", "sampled", "trained", "verdict", "against", "n"),
                *("gain in points (95 %)", "p", "out of domain", "detectable gain"),
            ),
            tuple(_row(result) for result in results),
        ),
    ]
    for result in results:
        test = result.test
        decision = f" Your decision: {result.verdict}." if result.by_user else ""
        blocks.append(" ".join((f"Round {result.number}. {test.reason}{decision}", *test.notes)))
        if test.alarms:
            blocks.append(f"Round {result.number}, label-free alarms: {' '.join(test.alarms)}")
        if test.evaluation is not None:
            blocks.append(
                f"Round {result.number} was measured on the evaluation set "
                f"{test.evaluation.key[:12]} ({counted(test.evaluation.n, 'question')})."
            )
    blocks.append(f"In use: {in_use or 'the base model'}.")
    return ReportSection("Rounds", tuple(blocks))


def _row(result: RoundResult) -> tuple[str, ...]:
    test = result.test
    return (
        str(result.number),
        result.sampled,
        result.trained,
        f"{result.verdict} (your decision)" if result.by_user else str(result.verdict),
        test.before,
        f"{test.gain.n:,}" if test.gain else "0",
        gain_in_points(test.gain) if test.gain else "not measured",
        p_value(test.gain.p) if test.gain else "",
        gain_in_points(test.out_of_domain) if test.out_of_domain else "not measured",
        f"{100 * test.detectable:.1f}" if test.detectable is not None else "none",
    )
