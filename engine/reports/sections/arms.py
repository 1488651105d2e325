"""Where the gain comes from: the arms of the newest study beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.evaluation import arm_gains
from engine.reports import svg_charts
from engine.reports.document import Block, Plot, ReportSection, Table
from engine.reports.formatting import gain_in_points, p_value
from store.enums import Arm, Method, Split

if TYPE_CHECKING:
    import sqlite3

    from engine.evaluation.arm_gains import ArmGains, ArmStudy
    from engine.statistics.intervals import Paired

TITLE = "Where the gain comes from"


def section(conn: sqlite3.Connection) -> ReportSection:
    """Empty without a finished study."""
    study = arm_gains.read(conn)
    if study is None:
        return ReportSection(TITLE, ())
    blocks: list[Block] = [
        arm_gains.sentence(gains) for gains in study.gains if gains.split is Split.EVAL
    ]
    blocks += [
        f"Every arm trains {study.base} with the same settings on stored paths.",
        *_sets(study),
    ]
    headers = (
        *("on", "method", "compared", "n", "gain in points (95 %)", "p"),
        "flips to right / to wrong",
    )
    blocks.append(Table(headers, tuple(row for gains in study.gains for row in _rows(gains))))
    greedy = study.of(Split.EVAL, Method.COT)
    if greedy is not None:
        bars = [
            svg_charts.IntervalBar(name, 100 * gain.gain, 100 * gain.low, 100 * gain.high)
            for name, gain in compared(greedy)
        ]
        blocks.append(
            Plot(svg_charts.intervals("Gain by arm, greedy answers", bars, x="points, 95 %"))
        )
    return ReportSection(TITLE, tuple(blocks))


def _sets(study: ArmStudy) -> list[Block]:
    rows = tuple(
        (
            str(trained.arm),
            f"first {study.first_tokens} tokens" if trained.arm is Arm.FIRST_TOKENS else "whole",
            trained.model,
            f"{trained.questions:,}",
            f"{trained.examples:,}",
        )
        for trained in study.arms
    )
    blocks: list[Block] = [Table(("arm", "paths", "model", "questions", "examples"), rows)]
    labels = arm_gains.label_sentence(study)
    return [*blocks, labels] if labels else blocks


def _rows(gains: ArmGains) -> list[tuple[str, ...]]:
    method = f"{gains.method} @{gains.k}" if gains.k > 1 else str(gains.method)
    return [
        (
            str(gains.split),
            method,
            name,
            f"{gain.n:,}",
            gain_in_points(gain),
            p_value(gain.p),
            f"{gain.won:,} / {gain.lost:,}",
        )
        for name, gain in compared(gains)
    ]


def compared(gains: ArmGains) -> list[tuple[str, Paired]]:
    """Each arm over the base, and what the vote adds."""
    rows = [(f"{arm} over base", gain) for arm, gain in gains.gains.items()]
    if gains.vote is not None:
        rows.append(("voted over unvoted", gains.vote))
    return rows
