"""The audit of the accepted labels: their precision, by threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.reports.document import Block, ReportSection, Table
from engine.statistics.confidence_sequence import CONFIDENCE, FEWEST_AUDITS
from store.counted import counted

if TYPE_CHECKING:
    from engine.review.audit import Audit


def section(audited: Audit) -> ReportSection:
    """The audit of one run over the pool."""
    precision = audited.precision
    if precision is None or precision.estimate is None or precision.expected_wrong is None:
        return ReportSection(
            "Audit", ("The accepted labels have not been audited, so their precision is unknown.",)
        )
    expected, fewest, most = precision.expected_wrong
    interval = f"{100 * precision.low:.1f} to {100 * precision.high:.1f} %"
    validity = "a 95 % confidence sequence, valid whenever the audit stopped"
    if precision.has_enough_audits:
        result = (
            f"Precision: {100 * precision.estimate:.1f} % ({interval}, {validity}). Expected wrong "
            f"labels: {expected:,.0f} ({fewest:,.0f} to {most:,.0f})."
        )
    else:
        result = (
            f"Fewer than {FEWEST_AUDITS} audits are too few for an estimate. Precision: {interval} "
            f"({validity}). Wrong labels: {fewest:,.0f} to {most:,.0f}."
        )
    blocks: list[Block] = [
        f"{precision.audited:,} of {precision.size:,} accepted questions were sampled at random "
        f"and judged blind: {precision.wrong:,} wrong, {precision.skipped:,} skipped. {result}",
        Table(
            ("threshold", "questions", "audited", "wrong", "precision ≥ 0.95 at 95 %"),
            tuple(
                (
                    f"{float(certificate.threshold):.2f}",
                    f"{certificate.precision.size:,}",
                    f"{certificate.precision.audited:,}",
                    f"{certificate.precision.wrong:,}",
                    "certified" if certificate.certified else "not certified",
                )
                for certificate in audited.certificates(CONFIDENCE)
            ),
        ),
    ]
    if audited.outdated:
        blocks.append(
            f"{audited.outdated:,} audits judged an answer that no longer leads. They do not "
            "count, and the audit asks these questions again."
        )
    repeats = audited.consistency
    if repeats.repeated:
        blocks.append(
            f"Of {counted(repeats.repeated, 'question')} shown twice, {repeats.same:,} were judged "
            "the same."
        )
    return ReportSection("Audit", tuple(blocks))
