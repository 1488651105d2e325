"""Votes over the pool: paths, kept questions, savings of the early stop, and agreement."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from engine.reports import svg_charts
from engine.reports.document import Block, Plot, ReportSection, Table
from engine.review.audit import accepts
from engine.sampling import early_stop_replay
from store import paths
from store.counted import counted
from store.enums import EarlyStop

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from store.records import Run, Vote


def section(conn: sqlite3.Connection, run: Run, run_votes: Sequence[Vote]) -> ReportSection:
    """The votes of one run over the pool."""
    counts = paths.counts(conn, run.id)
    kept = sum(accepts(vote, run.threshold) for vote in run_votes)
    ties = sum(vote.winner is None and bool(vote.tally) for vote in run_votes)
    blocks: list[Block] = [
        f"{counted(counts.paths, 'path')} with {counted(counts.tokens, 'token')} for "
        f"{counted(len(run_votes), 'question')}. Truncated: "
        f"{counted(counts.paths - counts.ended, 'path')}; without an answer, truncated ones "
        f"included: {counts.abstained:,}. At m = {run.m} and a threshold of {run.threshold} the "
        f"vote keeps {counted(kept, 'question')}; ties: {ties:,}.",
        _early_stop(conn, run),
    ]
    if run_votes:
        tenths = Counter(math.ceil(10 * vote.top / vote.m) for vote in run_votes)
        columns = [(f"{tenth / 10:.1f}", tenths[tenth]) for tenth in range(11)]
        blocks.append(
            Plot(
                svg_charts.histogram(
                    "Agreement of the pool (lower bound if a vote stopped early)",
                    columns,
                    x="agreement, up to",
                    y="questions",
                )
            )
        )
        blocks.append(
            Table(
                ("agreement up to", "questions"),
                tuple((upper, f"{count:,}") for upper, count in columns),
            )
        )
    return ReportSection("Votes", tuple(blocks))


def _early_stop(conn: sqlite3.Connection, run: Run) -> str:
    if run.early_stop is EarlyStop.OFF:
        return "Early stop was off."
    replay = early_stop_replay.early_stop(conn, run)
    saved = replay["saved_share"]
    share = f"{saved:.0%}" if isinstance(saved, float) else "none"
    sentence = f"Early stop `{run.early_stop}` saved {share} of the paths of full votes"
    if run.early_stop is EarlyStop.EXACT:
        return f"{sentence}, and changes no decision."
    return f"{sentence} (ε {run.epsilon:g}); share of changed decisions: {replay['change_rate']}."
