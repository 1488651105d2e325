"""`lmsi-tui ledger`: the vote on each question from round to round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.evaluation import ledger
from lmsi_tui.cli.output import emit, say
from lmsi_tui.cli.status_commands import opened
from lmsi_tui.formatting.ledger_text import (
    NOTHING_SAMPLED,
    ROUNDS_HEAD,
    alarm_lines,
    class_line,
    entry_parts,
    round_line,
    rounds_shown,
)
from store import questions
from store.errors import BadInput

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from engine.evaluation.ledger import Ledger, LedgerEntry, LedgerRound
    from store.records import Question

WIDTH = 110
"""Columns of a line, without the rest of the question."""


def show_ledger(args: argparse.Namespace) -> None:
    """Print the rounds, the number of questions of each class, and the questions."""
    with opened(args) as (project, conn):
        found = ledger.read(conn, project)
        if not found.rounds:
            raise BadInput(NOTHING_SAMPLED)
        chosen = ledger.ordered(
            found.entries,
            question_class=args.question_class,
            flipped=args.flips,
            sort=args.sort,
        )
        listed = chosen[: args.limit]
        texts = questions.by_ids(conn, [entry.question_id for entry in listed])
    if args.json:
        _emit(found, listed, texts)
        return
    for line in (ROUNDS_HEAD, *map(round_line, found.rounds), *alarm_lines(found)):
        say(args, line)
    say(args, class_line(found))
    shown = rounds_shown(WIDTH, len(found.rounds))
    for entry in listed:
        parts = entry_parts(entry, texts[entry.question_id].text, shown)
        say(args, "".join(text for text, _ in parts))
    if rest := len(chosen) - len(listed):
        say(args, f"{rest:,} more than shown (--limit).")


def _emit(found: Ledger, listed: Sequence[LedgerEntry], texts: dict[int, Question]) -> None:
    for of_round in found.rounds:
        emit({"event": "ledger-round", **_round_json(of_round)})
    emit(
        {
            "event": "ledger",
            **{str(each): count for each, count in found.counts().items()},
            "alarms": alarm_lines(found),
        }
    )
    for entry in listed:
        emit(
            {
                "event": "ledger-question",
                "key": texts[entry.question_id].key,
                "class": entry.question_class,
                "flips": entry.flips,
                "votes": [
                    vote
                    and {
                        "answer": vote.answer,
                        "paths": vote.top,
                        "drawn": vote.drawn,
                        "kept": vote.kept,
                    }
                    for vote in entry.votes
                ],
            }
        )


def _round_json(of_round: LedgerRound) -> dict[str, object]:
    changes = of_round.transition
    return {
        "round": of_round.number,
        "model": of_round.model,
        "threshold": of_round.threshold,
        "questions": of_round.questions,
        "kept": of_round.kept,
        "changes": changes
        and {
            "questions": changes.voted,
            "kept_before": changes.kept,
            "held": changes.held,
            "flipped": changes.flipped,
            "lost": changes.lost,
            "gained": changes.gained,
            "noise": changes.noise,
            "p": changes.p,
        },
    }
