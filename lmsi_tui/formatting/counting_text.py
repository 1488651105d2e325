"""Comparisons of the ways to count paths, as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmsi_tui.formatting.numbers import interval, percent, points
from store.enums import Split

if TYPE_CHECKING:
    from engine.evaluation.confidence import CountingComparison
    from engine.statistics.discrimination import Estimate

NOT_COMPARED = (
    "The ways to count paths (curate.counting) are not compared, because no question has all its "
    "paths with log-probabilities: they were imported, sampled by an older version, or by a server "
    "that gives none."
)


def counting_lines(split: Split, comparison: CountingComparison) -> list[str]:
    """A comparison of the ways to count the paths of a split's run."""
    where = "pool" if split is Split.POOL else "evaluation"
    lines = [
        f"Ways to count paths, on {comparison.questions:,} {where} questions with all "
        f"{comparison.m} paths and their log-probabilities (threshold {comparison.threshold}, "
        f"confidence temperature {comparison.temperature:g}):",
        "counting      kept  other winners  newly kept  no longer kept",
    ]
    lines += [
        f"{row.counting:9} {row.kept:>8,} {row.changed_winners:>14,} {row.newly_kept:>11,} "
        f"{row.no_longer_kept:>15,}"
        for row in comparison.rows
    ]
    if comparison.discrimination:
        lines.append(
            "right paths above wrong paths of the same question: AUROC in % (95 % interval)"
        )
        lines += [
            f"  {row.measure:21} {_shown(row.auroc):22} {row.questions:,} questions, "
            f"{row.pairs:,} pairs"
            for row in comparison.discrimination
        ]
    if comparison.precision:
        lines.append(
            "  yield  counting   right labels in % (95 %)  gain over plain in points (95 %)"
        )
        for label in comparison.precision:
            gain = ""
            if label.gain is not None:
                value, low, high = map(points, (label.gain.value, label.gain.low, label.gain.high))
                gain = f"{value} ({low} to {high})"
            lines.append(
                f"  {percent(label.yields):>5}  {label.counting:9}  {_shown(label.precision):24}  "
                f"{gain}".rstrip()
            )
    return lines


def _shown(estimate: Estimate | None) -> str:
    if estimate is None:
        return "unknown"
    return f"{percent(estimate.value)} ({interval(estimate.low, estimate.high)})"
