"""Import questions from a file, and for evaluation their known answers.

A pool has no answers: answers in its file are not stored. Evaluation questions get the canonical
forms of all accepted answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answers.forms.normalization import LETTERS
from engine.importing.columns import MEANINGS, prompt_parts
from engine.importing.labels.known_answers import (
    UNREADABLE,
    best_scored,
    known_answers,
    why_unreadable,
)
from engine.importing.labels.label_numbering import (
    NO_NUMBERS,
    Numbering,
    check_yes_no,
    inference_numbering,
    label_numbering,
)
from engine.importing.labels.options import Options, inline_options, options_of
from engine.importing.meanings import ROWS, Understood, listed, understand
from engine.importing.source_files import source_name
from engine.importing.tables import InputTable, read_rows
from engine.prompting.tasks import Preset, preset
from store.enums import AnswerType, Split
from store.errors import BadInput
from store.records import Question, question_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from engine.importing.row import Row

LONGEST_TEXT = 1_000_000
"""Maximum characters of a question, passage or option; a longer one is a damaged file."""

MANY = 10
"""Number of questions from which it is said that the same option is always right."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_CLEARLY_ANSWERS = {"answer", "answerkey", "gold", "goldlabel", "correct", "targetscores"}
"""Columns whose content can show that a pool file has another answer type."""


@dataclass(frozen=True, slots=True)
class Imported:
    """The questions of a file, and how the file was understood."""

    questions: tuple[Question, ...]
    gold: dict[str, tuple[str, ...]]
    """Accepted canonical answers by question key; empty for a pool."""
    left_out: tuple[tuple[int, str], ...]
    """(line, reason) of skipped rows; the place in the list if the file has no lines."""
    understood: dict[str, str]
    """Column by meaning, and the file format as `rows`."""
    duplicates: int
    """Rows that repeat an earlier question; they only add to its accepted answers."""


def read_questions(
    path: Path,
    *,
    task: str,
    split: Split,
    name: str | None = None,
    limit: int | None = None,
    fields: Mapping[str, str] | None = None,
    labels_from: int | None = None,
) -> Imported:
    """Read a file of questions.

    Args:
        path: JSON Lines, JSON, CSV, TSV, Parquet or text, also as .gz.
        task: a task or an answer type.
        split: only evaluation splits get gold answers, and they need them.
        name: of the question set; None uses the file name without its suffix.
        limit: maximum number of questions, from the start of the file.
        fields: column by meaning (question, answer, options, passage), if detection fails.
        labels_from: 0 or 1, the number of the first option, if the file does not show it.

    Raises:
        BadInput: the file cannot be read or does not fit the task.
    """
    preset(task)  # refuse an unknown task before reading a large file
    return questions_in(
        read_rows(path, (fields or {}).get(ROWS)),
        path,
        task=task,
        split=split,
        name=name,
        limit=limit,
        fields=fields,
        labels_from=labels_from,
    )


def questions_in(
    table: InputTable,
    path: Path,
    *,
    task: str,
    split: Split,
    name: str | None = None,
    limit: int | None = None,
    fields: Mapping[str, str] | None = None,
    labels_from: int | None = None,
) -> Imported:
    """The questions of a table; see `read_questions`."""
    chosen = preset(task)
    if limit is not None and limit < 1:
        raise BadInput(f"--limit is {limit}: give at least 1.")
    file = understand(path, table.rows, chosen.answer_type, fields or {})
    rows, by_meaning = file.rows, file.by_meaning
    if split is not Split.POOL and "answer" not in by_meaning:
        raise BadInput(
            f"{path} has no column of answers ({listed(file.columns)}): evaluation needs "
            "known answers; name the column with --field answer=COLUMN, or import it as a pool."
        )
    answer_column = by_meaning.get("answer")
    # A pool's answers show only whether the file has another answer type.
    if split is Split.POOL and _simple(answer_column or "") not in _CLEARLY_ANSWERS:
        answer_column = None
    numbering = NO_NUMBERS
    if answer_column:
        numbering = _numbering(path, rows, by_meaning, chosen, split, labels_from)
    left_out = [*table.left_out, *file.left_out]
    questions: dict[str, Question] = {}
    gold: dict[str, tuple[str, ...]] = {}
    duplicates, unreadable, readable = 0, [], 0
    for position, (number, row) in enumerate(rows):
        if limit is not None and len(questions) >= limit:
            break
        question, answers, reason = _entry(
            row,
            by_meaning,
            chosen,
            split,
            name or source_name(path),
            position,
            answer_column,
            numbering,
        )
        readable += bool(answers)
        unreadable += [reason] if reason.startswith(UNREADABLE) else []
        if question is None or (reason and split is not Split.POOL):
            left_out.append((number, reason))
            continue
        duplicates += question.key in questions
        questions.setdefault(question.key, question)
        if split is not Split.POOL:
            # DROP repeats a question with the answers of other annotators: all are accepted.
            gold[question.key] = tuple(dict.fromkeys([*gold.get(question.key, ()), *answers]))
    if len(unreadable) > readable:
        raise BadInput(
            f"{path} does not fit --task {task}: {len(unreadable):,} of "
            f"{len(unreadable) + readable:,} answers in column {answer_column!r} are not of the "
            f"type {chosen.answer_type} ({unreadable[0]})."
        )
    if not questions:
        number, reason = left_out[0] if left_out else (1, "there are no rows")
        raise BadInput(f"{path} has no usable question: line {number}: {reason}.")
    left_out.sort()
    understood = _understood(table.kind, file, split, numbering)
    letters = set(gold.values())
    if chosen.answer_type is AnswerType.CHOICE and len(gold) >= MANY and len(letters) == 1:
        ((letter,),) = letters
        understood["answer"] += f" (every right answer is option {letter})"
    return Imported(tuple(questions.values()), gold, tuple(left_out), understood, duplicates)


def _understood(kind: str, file: Understood, split: Split, numbering: Numbering) -> dict[str, str]:
    by_meaning = file.by_meaning
    understood = {"rows": kind}
    understood |= {meaning: by_meaning[meaning] for meaning in MEANINGS if meaning in by_meaning}
    if file.note:
        understood["question"] += f" ({file.note})"
    if split is Split.POOL and "answer" in by_meaning:
        understood["answer"] += " (ignored: a pool has no answers)"
    elif numbering.note:
        understood["answer"] += f" ({numbering.note})"
    return understood


def _entry(
    row: Row,
    by_meaning: Mapping[str, str],
    chosen: Preset,
    split: Split,
    source: str,
    position: int,
    answer_column: str | None,
    numbering: Numbering,
) -> tuple[Question | None, tuple[str, ...], str]:
    """A row's question and accepted answers; if it lacks one of them, the reason."""
    try:
        result = _question(row, by_meaning, chosen, split, source, position)
        if isinstance(result, str):
            return None, (), result
        question, options = result
        if not answer_column:
            return question, (), ""
        return question, *_answers(row, answer_column, chosen, options, numbering)
    except RecursionError:
        return None, (), "it is nested too deeply"


def _answers(
    row: Row, column: str, chosen: Preset, options: Options, numbering: Numbering
) -> tuple[tuple[str, ...], str]:
    """The accepted answers of a row; or none, and the reason."""
    value = row.get(column)
    answers = known_answers(
        chosen.answer_type,
        best_scored(value) if column == "target_scores" else value,
        others=row.get("validated_answers"),
        task=chosen.name,
        options=options,
        numbering=numbering,
    )
    return answers, "" if answers else why_unreadable(value, chosen.answer_type)


def _numbering(
    path: Path,
    rows: Sequence[tuple[int, Row]],
    by_meaning: Mapping[str, str],
    chosen: Preset,
    split: Split,
    labels_from: int | None,
) -> Numbering:
    """How the whole file counts its labels, also the rows beyond a limit.

    Raises:
        BadInput: the file of an evaluation split does not show it, or contradicts itself.
    """
    column = by_meaning["answer"]
    where = f"{path}, column {column!r}"
    if chosen.answer_type is AnswerType.NLI:
        labels = 2 if chosen.name == "rte" else 3
        return inference_numbering([row.get(column) for _, row in rows], labels, labels_from)
    if chosen.answer_type is AnswerType.YES_NO and split is not Split.POOL:
        check_yes_no(where, [row.get(column) for _, row in rows])
    if chosen.answer_type is not AnswerType.CHOICE:
        return NO_NUMBERS
    answers = [
        (number, row.get(column), options)
        for number, row in rows
        if 2 <= len((options := _options(row, by_meaning)).texts) <= len(LETTERS)
    ]
    try:
        return label_numbering(where, answers, labels_from)
    except BadInput:
        if split is not Split.POOL:
            raise
        return Numbering(0, "")  # a pool's answers are read only to see that they are labels


def _simple(column: str) -> str:
    return re.sub(r"[^a-z0-9]", "", column.lower())


def _question(
    row: Row,
    by_meaning: Mapping[str, str],
    chosen: Preset,
    split: Split,
    source: str,
    position: int,
) -> tuple[Question, Options] | str:
    """A row's question with its options, or the reason why it has no question."""
    text, passage = _text_and_passage(row, by_meaning)
    if not text:
        return "it has no question"
    fault = _fault(text) or _fault(passage)
    if fault:
        return fault
    options = Options()
    if chosen.answer_type is AnswerType.CHOICE:
        text, options = _with_options(text, row, by_meaning)
        fault = _options_fault(options)
        if fault:
            return fault
    if chosen.answer_type is AnswerType.NLI and not passage:
        return "it has no premise"
    key = question_key(chosen.name, text, options.texts, passage)
    kind = chosen.answer_type
    question = Question(
        0, key, split, source, position, chosen.name, kind, text, options.texts, passage
    )
    return question, options


def _options_fault(options: Options) -> str:
    """Why a row's options cannot be used; empty if they can."""
    if not options.texts:
        return "it has no options to choose from"
    if not 2 <= len(options.texts) <= len(LETTERS):
        return f"it has {len(options.texts)} options: 2 to {len(LETTERS)} are possible"
    if not all(options.texts):
        return "one of its options is empty"
    return next((fault for option in options.texts if (fault := _fault(option))), "")


def _fault(text: str) -> str:
    """Why a text cannot be stored or given to a model; empty if it can."""
    if len(text) > LONGEST_TEXT:
        return f"it has a text of {len(text):,} characters; at most {LONGEST_TEXT:,} are read"
    if "\0" in text:
        return "it has a NUL character"
    surrogate = _SURROGATE.search(text)
    if surrogate is None:
        return ""
    code = ord(surrogate[0])
    damaged = 0xDC80 <= code <= 0xDCFF  # how a byte that is not UTF-8 was read
    return "it is not UTF-8 text" if damaged else f"it has half a character (U+{code:04X})"


def _text_and_passage(row: Row, by_meaning: Mapping[str, str]) -> tuple[str, str]:
    text, passage = _words(row, by_meaning.get("question")), _words(row, by_meaning.get("passage"))
    parts = prompt_parts(text or passage)
    if parts and not (text and passage):
        passage, text = parts
    if _simple(by_meaning.get("passage", "")) == "body":
        # SVAMP: the story and its question form one question.
        stop = "" if not passage or passage[-1] in ".?!,;:" else "."
        text, passage = f"{passage}{stop} {text}".strip(), ""
    return text, passage


def _options(row: Row, by_meaning: Mapping[str, str]) -> Options:
    return _with_options(_text_and_passage(row, by_meaning)[0], row, by_meaning)[1]


def _with_options(text: str, row: Row, by_meaning: Mapping[str, str]) -> tuple[str, Options]:
    """The question's text and its options, which may be written in the text."""
    options = options_of(row, by_meaning.get("options"))
    if options.texts:
        return text, options
    before, labels, texts = inline_options(text)
    return before, Options(texts, labels, bool(texts))


def _words(row: Row, column: str | None) -> str:
    value = row.get(column) if column else None
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return " ".join(value).strip()
    return str(value).strip() if isinstance(value, str | int | float) else ""
