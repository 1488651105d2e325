"""The ledger of questions as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import set_cell_size

from engine.evaluation.ledger import is_flip
from engine.evaluation.ledger_choices import QuestionClass
from lmsi_tui.formatting.numbers import percent
from lmsi_tui.formatting.sanitize import snippet

if TYPE_CHECKING:
    from engine.evaluation.ledger import Ledger, LedgerEntry, LedgerRound, RoundVote

NOTHING_SAMPLED = "Nothing has been sampled yet: run `lmsi-tui sample` first."
ROUNDS_HEAD = " #  model                      kept    held  flipped    lost  gained  noise"
"""Heads the lines of `round_line`, 76 columns."""

_MODEL = 18
_ANSWER, _SHARE = 8, 5
_CELL = _ANSWER + _SHARE + 2
_CLASS = 10
_TEXT = 20
"""Columns that the text of a question has at least."""
_STYLES = {
    QuestionClass.SOLVED: "$text-success",
    QuestionClass.LEARNABLE: "",
    QuestionClass.HOPELESS: "$text-warning",
}

Part = tuple[str, str]
"""A piece of a line and its style, which may be empty."""


def round_line(of_round: LedgerRound) -> str:
    """A round in one line."""
    model = set_cell_size(snippet(of_round.model, _MODEL), _MODEL)
    kept = f"{of_round.kept:,}/{of_round.questions:,}"
    line = f"{of_round.number:>2}  {model} {kept:>12}"
    changes = of_round.transition
    if changes is None:
        return line
    return (
        f"{line} {changes.held:>7,} {changes.flipped:>8,} {changes.lost:>7,} "
        f"{changes.gained:>7,} {changes.noise:>6.1f}"
    )


def class_line(ledger: Ledger) -> str:
    """How many questions each class has, and how many flipped."""
    counts = [f"{count:,} {each}" for each, count in ledger.counts().items()]
    flipped = sum(entry.flips > 0 for entry in ledger.entries)
    return " · ".join([*counts, f"{flipped:,} flipped"])


def alarm_lines(ledger: Ledger) -> list[str]:
    """The alarms of all rounds, each with the number of its round."""
    return [
        f"Round {of_round.number}: {alarm}"
        for of_round in ledger.rounds
        if of_round.transition and (alarm := of_round.transition.alarm())
    ]


def rounds_shown(width: int, rounds: int) -> int:
    """How many rounds, the last ones, fit into a line of a question, at least one."""
    return max(1, min(rounds, (width - _CLASS - _TEXT) // (_CELL + 2)))


def entry_parts(entry: LedgerEntry, text: str, shown: int) -> list[Part]:
    """A question in one line: its class, its vote in each of the last rounds, its text.

    Args:
        entry: of the ledger.
        text: of the question.
        shown: number of rounds.
    """
    kind = entry.question_class
    parts: list[Part] = [(f"{kind:<{_CLASS}}", _STYLES[kind])]
    first = len(entry.votes) - shown
    for place in range(first, len(entry.votes)):
        vote = entry.votes[place]
        if place > first:
            flipped = is_flip(entry.votes[place - 1], vote)
            parts.append(("≠ ", "bold $text-error") if flipped else ("→ ", "$text-muted"))
        parts.append((_cell(vote), "bold" if vote and vote.kept else "$text-muted"))
    parts.append((snippet(text, 200), ""))
    return parts


def _cell(vote: RoundVote | None) -> str:
    """The leading answer, its share of the counted paths, and a dot if the question was kept."""
    if vote is None:
        return " " * _CELL
    answer = "tie" if vote.answer is None and vote.top else vote.answer or "∅"
    share = f"{percent(vote.share).partition('.')[0]} %"
    dot = "•" if vote.kept else " "
    return f"{set_cell_size(snippet(answer, _ANSWER), _ANSWER)}{share:>{_SHARE}}{dot} "
