"""Vote on paths that were sampled elsewhere, and measure their accuracy.

A file has rows of `question` and `samples`, and may have `gold`. The gold answer is used only to
measure accuracy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.answers import extraction
from engine.importing.columns import find_columns, flat
from engine.importing.labels.known_answers import known_answers
from engine.importing.labels.label_numbering import NO_NUMBERS, Numbering, label_numbering
from engine.importing.labels.options import Options, inline_options, options_of
from engine.importing.layouts import arrange, harness_samples, is_harness_log
from engine.importing.tables import read_rows
from engine.prompting.tasks import Preset, preset
from engine.voting import majority
from store.enums import AnswerType, EndReason
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from engine.importing.row import Row

_CUT = {"length", "max_tokens", "model_length"}
"""Values of `finish_reason` with which other engines mark a path that reached its token limit."""


@dataclass(frozen=True, slots=True)
class SampledAnswers:
    """The answers of one question's paths."""

    answers: tuple[str | None, ...]
    """Canonical, in the order of the file, with equal answers merged; `None` abstains."""
    gold: str | None
    """In the form of the equal answer in `answers`, if there is one. None without a gold answer."""


def read_sampled(path: Path, task: str, labels_from: int | None = None) -> list[SampledAnswers]:
    """Extract the answers of every path in a file.

    Args:
        path: rows of `question`, `samples` (texts, or objects with `text` and `finish_reason`) and
            optionally `gold`. The options of a choice are in `options`, or in the question. A
            sample log of lm-evaluation-harness has its questions in `doc`, its samples in `resps`.
        task: a task or an answer type; decides the reader.
        labels_from: 0 or 1, the number of the first option, if the file does not show it.

    Raises:
        BadInput: the file cannot be read, lacks a column, or has a gold answer of another type.
    """
    chosen = preset(task)
    rows = [(number, flat(row)) for number, row in _log_rows(path, read_rows(path).rows)]
    for number, row in rows:
        missing = [name for name in ("question", "samples", "gold") if name not in row]
        if missing not in ([], ["gold"]):
            raise BadInput(
                f"{path}: line {number} has no {' and no '.join(missing)}, only "
                f"{', '.join(name for name in row if '.' not in name)}: every row needs a question "
                "and a list of samples."
            )
        if not isinstance(row["samples"], list):
            raise BadInput(f"{path}: line {number}: samples must be a list of texts.")
    options = [Options()] * len(rows)
    numbering = NO_NUMBERS
    if chosen.answer_type is AnswerType.CHOICE:
        options = [_options(row) for _, row in rows]
        numbering = label_numbering(
            f"{path}, column 'gold'",
            [
                (number, row.get("gold"), choices)
                for (number, row), choices in zip(rows, options, strict=True)
            ],
            labels_from,
        )
    return [
        _sampled(path, number, row, chosen, choices, numbering)
        for (number, row), choices in zip(rows, options, strict=True)
    ]


def _log_rows(path: Path, rows: Sequence[tuple[int, Row]]) -> Sequence[tuple[int, Row]]:
    """The rows of a sample log with the columns that this module reads; others as they are."""
    if not is_harness_log(rows):
        return rows
    # A log has a row for each filter of the same samples.
    seen = set()
    kept = []
    for number, row in rows:
        identity = (row.get("doc_id"), row.get("doc_hash"), json.dumps(row["doc"], default=str))
        if identity not in seen:
            seen.add(identity)
            kept.append((number, row))
    arranged = arrange(kept)
    columns = find_columns(arranged.columns, AnswerType.CHOICE, {})
    read = []
    for (number, log), (_, row) in zip(kept, arranged.rows, strict=True):
        samples = harness_samples(log)
        if samples is None:
            raise BadInput(
                f"{path}: line {number} has no generated texts in resps (likelihoods are no "
                "paths): give the log of a task that generates."
            )
        options = options_of(row, columns.get("options"))
        question = row.get(arranged.question or columns.get("question", "question"), "")
        own = {"question": question, "samples": samples, "gold": row.get(columns.get("answer", ""))}
        if options.texts:
            own["options"] = {"label": list(options.labels), "text": list(options.texts)}
        read.append((number, own))
    return read


def _sampled(
    path: Path, number: int, row: Row, chosen: Preset, options: Options, numbering: Numbering
) -> SampledAnswers:
    """The answers of a row's samples, and its gold answer."""
    answer_type, gold = chosen.answer_type, row.get("gold")
    if answer_type is AnswerType.CHOICE and not options.texts:
        raise BadInput(
            f"{path}: line {number} has no options: --task {chosen.name} needs them in `options` "
            "or in the question."
        )
    answers = majority.merge_equal(
        answer_type,
        [_answer(path, number, answer_type, sample, options.texts) for sample in row["samples"]],
    )
    accepted = known_answers(
        answer_type, gold, task=chosen.name, options=options, numbering=numbering
    )
    if not accepted:
        if gold not in (None, ""):
            raise BadInput(
                f"{path}: line {number}: gold {str(gold)[:60]!r} cannot be read as "
                f"{answer_type}: give the --task that fits."
            )
        return SampledAnswers(tuple(answers), None)
    forms = dict.fromkeys(answer for answer in answers if answer is not None)
    equal = (
        form for form in forms for known in accepted if extraction.equal(answer_type, form, known)
    )
    return SampledAnswers(tuple(answers), next(equal, accepted[0]))


def _answer(
    path: Path, number: int, answer_type: AnswerType, sample: Any, options: Sequence[str]
) -> str | None:
    end = EndReason.END
    if isinstance(sample, dict):
        end = EndReason.LENGTH if str(sample.get("finish_reason")) in _CUT else EndReason.END
        sample = sample.get("text")
    if not isinstance(sample, str | None):
        raise BadInput(f"{path}: line {number}: a sample must be text.")
    return extraction.extract(answer_type, sample or "", options=options, end=end).answer


def _options(row: Row) -> Options:
    for column in ("options", "choices"):
        if row.get(column):
            return options_of(row, column)
    _, labels, texts = inline_options(str(row["question"]))
    return Options(texts, labels, bool(texts))


def sampled_report(sampled: Sequence[SampledAnswers]) -> dict[str, object]:
    """Counts and, for the questions with a gold answer, accuracies as shares in [0, 1].

    Returns:
        `questions`, `without_paths`, `with_gold`, `paths`, `abstained`, `ties` (questions whose
        first place is shared), `mean_agreement`; and if there are gold answers `single_accuracy`
        (mean over paths), `accuracy_by_index`, `vote_accuracy` (a tie counts as wrong),
        `vote_accuracy_first_seen` (a tie goes to the answer seen first) and `majority_at` (expected
        accuracy of k paths drawn without replacement, for k up to the smallest number of paths).
        Questions without paths are counted only in `questions` and `without_paths`.
    """
    voted = [question for question in sampled if question.answers]
    tallies = [majority.tally(question.answers) for question in voted]
    ties = [len(counts) > 1 and counts[0][1] == counts[1][1] for counts in tallies]
    report: dict[str, object] = {
        "questions": len(sampled),
        "without_paths": len(sampled) - len(voted),
        "with_gold": sum(question.gold is not None for question in voted),
        "paths": sum(len(question.answers) for question in voted),
        "abstained": sum(answer is None for question in voted for answer in question.answers),
        "ties": sum(ties),
        "mean_agreement": _mean([majority.agreement(question.answers) for question in voted]),
        "single_accuracy": None,
        "accuracy_by_index": None,
        "vote_accuracy": None,
        "vote_accuracy_first_seen": None,
        "majority_at": None,
    }
    judged = [
        (question, counts, tie)
        for question, counts, tie in zip(voted, tallies, ties, strict=True)
        if question.gold is not None
    ]
    if judged:
        correct = [
            [answer == question.gold for answer in question.answers] for question, _, _ in judged
        ]
        first = [bool(counts) and counts[0][0] == question.gold for question, counts, _ in judged]
        longest, shortest = max(map(len, correct)), min(map(len, correct))
        curves = [
            majority.majority_at(question.answers, {str(question.gold)})
            for question, _, _ in judged
        ]
        report |= {
            "single_accuracy": _mean([hit for hits in correct for hit in hits]),
            "accuracy_by_index": [
                _mean([hits[index] for hits in correct if len(hits) > index])
                for index in range(longest)
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
