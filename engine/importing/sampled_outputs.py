"""Vote on paths that were sampled elsewhere, and say how right they were.

A file has rows of `question` and `samples`, and may have `gold`; the gold answer is used for the
numbers only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.answers import extraction
from engine.importing.columns import flat, inline_options, options_of
from engine.importing.tables import Row, read_rows
from engine.prompting.tasks import preset
from engine.voting import majority
from store.enums import AnswerType, EndReason
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_CUT = {"length", "max_tokens", "model_length"}
"""Reasons with which other engines mark a path that met its limit."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """One question with what its paths answered."""

    answers: tuple[str | None, ...]
    """Canonical, in the order of the file; `None` abstains. Equal forms are one form."""
    gold: str | None
    """`None` when the row has no gold answer."""


def read_sampled(path: Path, task: str) -> list[Sampled]:
    """Read every path of a file with the reader of a task.

    Args:
        path: rows of `question`, `samples` (texts, or objects with `text` and `finish_reason`) and
            perhaps `gold`. Options of a choice stand in `options`, or in the question.
        task: a preset or an answer type.

    Raises:
        BadInput: the file cannot be read or lacks a column.
    """
    answer_type = preset(task).answer_type
    table = read_rows(path)
    found = []
    for number, plain_row in table.rows:
        row = flat(plain_row)
        missing = [name for name in ("question", "samples", "gold") if name not in row]
        if missing not in ([], ["gold"]):
            raise BadInput(
                f"{path}: line {number} has no {' and no '.join(missing)}, only "
                f"{', '.join(plain_row)}: every row needs its question and a list of samples."
            )
        samples = row["samples"]
        if not isinstance(samples, list):
            raise BadInput(f"{path}: line {number}: samples must be a list of texts.")
        options = _options(row) if answer_type is AnswerType.CHOICE else ()
        if answer_type is AnswerType.CHOICE and not options:
            raise BadInput(
                f"{path}: line {number} has no options: --task {task} needs them in `options` or "
                "in the question."
            )
        read = [_answer(path, number, answer_type, one, options) for one in samples]
        gold = _gold(answer_type, row.get("gold"), options)
        if gold is None and row.get("gold") not in (None, ""):
            raise BadInput(
                f"{path}: line {number}: gold {str(row['gold'])[:60]!r} cannot be read as "
                f"{answer_type}: give the --task that fits."
            )
        found.append(
            Sampled(
                tuple(extraction.merge_equal(answer_type, read)), _same(answer_type, gold, read)
            )
        )
    return found


def _answer(
    path: Path, number: int, answer_type: AnswerType, sample: Any, options: Sequence[str]
) -> str | None:
    end = EndReason.END
    if isinstance(sample, dict):
        end = EndReason.LENGTH if sample.get("finish_reason") in _CUT else EndReason.END
        sample = sample.get("text")
    if not isinstance(sample, str | None):
        raise BadInput(f"{path}: line {number}: a sample must be text.")
    return extraction.read(answer_type, sample or "", options=options, end=end).answer


def _options(row: Row) -> tuple[str, ...]:
    for column in ("options", "choices"):
        if row.get(column):
            return options_of(row, column)[1]
    return inline_options(str(row["question"]))[2]


def _gold(answer_type: AnswerType, gold: object, options: Sequence[str]) -> str | None:
    if gold is None or isinstance(gold, bool | dict | list):
        return {True: "yes", False: "no"}.get(gold) if isinstance(gold, bool) else None
    text = str(gold)
    if answer_type is AnswerType.CHOICE and text.strip().isdigit():
        # A label such as ARC's 1 to 4.
        place = int(text)
        return "ABCDEFGHIJ"[place - 1] if 1 <= place <= len(options) else None
    form = extraction.canonical(answer_type, text, options) if "\n" not in text else None
    return form or extraction.read(answer_type, text, options=options, end=EndReason.END).answer


def _same(answer_type: AnswerType, gold: str | None, read: Sequence[str | None]) -> str | None:
    """The gold answer in the form in which a path gave it, so that equal answers are equal text."""
    if gold is None:
        return None
    merged = extraction.merge_equal(answer_type, read)
    given = dict.fromkeys(one for one in merged if one is not None)
    return next((one for one in given if extraction.equal(answer_type, one, gold)), gold)


def sampled_report(sampled: Sequence[Sampled]) -> dict[str, object]:
    """Counts and, over the questions with gold, accuracies as shares in [0, 1].

    Returns:
        `questions`, `without_paths`, `with_gold`, `paths`, `abstained`, `ties` (questions whose
        first place is shared), `mean_agreement`; and where there is gold `single_accuracy` (mean
        over paths), `accuracy_by_index`, `vote_accuracy` (a tie counts as wrong),
        `vote_accuracy_first_seen` (a tie goes to the answer seen first) and `majority_at` (expected
        accuracy of k paths drawn without replacement, for k up to the fewest paths).
        Questions without paths count nowhere but in their own line.
    """
    voted = [one for one in sampled if one.answers]
    tallies = [majority.tally(one.answers) for one in voted]
    ties = [len(counts) > 1 and counts[0][1] == counts[1][1] for counts in tallies]
    paths = sum(len(one.answers) for one in voted)
    report: dict[str, object] = {
        "questions": len(sampled),
        "without_paths": len(sampled) - len(voted),
        "with_gold": sum(one.gold is not None for one in voted),
        "paths": paths,
        "abstained": sum(answer is None for one in voted for answer in one.answers),
        "ties": sum(ties),
        "mean_agreement": _mean([majority.agreement(one.answers) for one in voted]),
        "single_accuracy": None,
        "accuracy_by_index": None,
        "vote_accuracy": None,
        "vote_accuracy_first_seen": None,
        "majority_at": None,
    }
    judged = [one for one in zip(voted, tallies, ties, strict=True) if one[0].gold is not None]
    if judged:
        right = [[answer == one.gold for answer in one.answers] for one, _, _ in judged]
        first = [bool(counts) and counts[0][0] == one.gold for one, counts, _ in judged]
        longest, shortest = max(map(len, right)), min(map(len, right))
        curves = [majority.majority_at(one.answers, {str(one.gold)}) for one, _, _ in judged]
        report |= {
            "single_accuracy": _mean([hit for row in right for hit in row]),
            "accuracy_by_index": [
                _mean([row[index] for row in right if len(row) > index]) for index in range(longest)
            ],
            "vote_accuracy": _mean(
                [hit and not tie for hit, (_, _, tie) in zip(first, judged, strict=True)]
            ),
            "vote_accuracy_first_seen": _mean(first),
            "majority_at": [_mean([float(curve[k]) for curve in curves]) for k in range(shortest)],
        }
    return report


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
