"""Import questions from a file, and for evaluation their known answers.

A pool has no answers: answers in its file are not stored. Evaluation questions get the canonical
forms of all accepted answers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.answers import extraction
from engine.answers.normalization import LETTERS, UNKNOWN
from engine.importing.columns import (
    MEANINGS,
    find_columns,
    flat,
    inline_options,
    options_of,
    prompt_parts,
)
from engine.importing.tables import InputTable, Row, read_rows
from engine.prompting.tasks import Preset, preset
from store.enums import AnswerType, EndReason, Split
from store.errors import BadInput
from store.records import Question, question_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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
) -> Imported:
    """Read a file of questions.

    Args:
        path: JSON Lines, JSON, CSV, TSV, Parquet or text, also as .gz.
        task: a task or an answer type.
        split: only evaluation splits get gold answers, and they need them.
        name: of the question set; None uses the file name without its suffix.
        limit: maximum number of questions, from the start of the file.
        fields: column by meaning (question, answer, options, passage), if detection fails.

    Raises:
        BadInput: the file cannot be read or does not fit the task.
    """
    preset(task)  # refuse an unknown task before reading a large file
    return questions_in(
        read_rows(path), path, task=task, split=split, name=name, limit=limit, fields=fields
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
) -> Imported:
    """The questions of a table; see `read_questions`."""
    chosen = preset(task)
    if limit is not None and limit < 1:
        raise BadInput(f"--limit is {limit}: give at least 1.")
    rows = [(number, flat(row)) for number, row in table.rows]
    columns = list(dict.fromkeys(column for _, row in rows[:200] for column in row))
    by_meaning = _columns(path, columns, chosen, fields or {})
    if split is not Split.POOL and "answer" not in by_meaning:
        raise BadInput(
            f"{path} has no column of answers ({_listed(columns)}): evaluation needs "
            "known answers; name the column with --field answer=COLUMN, or import it as a pool."
        )
    source = name or _stem(path)
    left_out = list(table.left_out)
    questions: dict[str, Question] = {}
    gold: dict[str, tuple[str, ...]] = {}
    duplicates = unread = read = 0
    answers: tuple[str, ...] = ()
    checked = split is not Split.POOL or _simple(by_meaning.get("answer", "")) in _CLEARLY_ANSWERS
    for position, (number, row) in enumerate(rows):
        if limit is not None and len(questions) >= limit:
            break
        result = _question(row, by_meaning, chosen, split, source, position)
        if isinstance(result, str):
            left_out.append((number, result))
            continue
        question, labels = result
        if checked and "answer" in by_meaning:
            answers = _gold(row, by_meaning["answer"], question, labels)
            given = row.get(by_meaning["answer"])
            read += given not in (None, "")
            if not answers:
                unread += given not in (None, "")
                if split is not Split.POOL:
                    left_out.append((number, _why_not(given, chosen.answer_type)))
                    continue
        duplicates += question.key in questions
        questions.setdefault(question.key, question)
        if split is not Split.POOL:
            # DROP repeats a question with the answers of other annotators: all are accepted.
            gold[question.key] = tuple(dict.fromkeys([*gold.get(question.key, ()), *answers]))
    if read and unread * 2 > read:
        reason = next((why for _, why in left_out if why.startswith("its answer")), None)
        raise BadInput(
            f"{path} does not fit --task {task}: {unread:,} of {read:,} answers in column "
            f"{by_meaning['answer']!r} are not of the type {chosen.answer_type}"
            + (f" ({reason})." if reason else ".")
        )
    if not questions:
        number, reason = left_out[0] if left_out else (1, "there are no rows")
        raise BadInput(f"{path} has no usable question: line {number}: {reason}.")
    understood = {"rows": table.kind}
    understood |= {meaning: by_meaning[meaning] for meaning in MEANINGS if meaning in by_meaning}
    if split is Split.POOL and "answer" in by_meaning:
        understood["answer"] = f"{by_meaning['answer']} (ignored: a pool has no answers)"
    left_out.sort()
    return Imported(tuple(questions.values()), gold, tuple(left_out), understood, duplicates)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0] or path.name


def _simple(column: str) -> str:
    return re.sub(r"[^a-z0-9]", "", column.lower())


def _listed(columns: list[str]) -> str:
    shown = [column for column in columns if "." not in column][:12]
    return "it has " + ", ".join(shown) if shown else "it has no named columns"


def _columns(
    path: Path, columns: list[str], chosen: Preset, fields: Mapping[str, str]
) -> dict[str, str]:
    """Column by meaning.

    Raises:
        BadInput: a required column is missing.
    """
    for meaning, column in fields.items():
        if meaning not in MEANINGS:
            raise BadInput(f"--field {meaning}= is unknown: use {', '.join(MEANINGS)}.")
        if column not in columns:
            raise BadInput(f"{path} has no column {column!r}: {_listed(columns)}.")
    by_meaning = find_columns(columns, chosen.answer_type, fields)
    if "target_scores" in columns and "answer" not in fields:
        by_meaning["answer"] = "target_scores"
    if "question" not in by_meaning and "passage" not in by_meaning:
        raise BadInput(
            f"{path} has no column of questions ({_listed(columns)}): "
            "name it with --field question=COLUMN."
        )
    if chosen.answer_type is AnswerType.NLI and not {"question", "passage"} <= by_meaning.keys():
        raise BadInput(
            f"{path} has no pair of premise and hypothesis ({_listed(columns)}): "
            "name them with --field passage=COLUMN and --field question=COLUMN."
        )
    return by_meaning


def _question(
    row: Row,
    by_meaning: Mapping[str, str],
    chosen: Preset,
    split: Split,
    source: str,
    position: int,
) -> tuple[Question, tuple[str, ...]] | str:
    """A row's question with the labels of its options, or the reason why it has no question."""
    text, passage = _words(row, by_meaning.get("question")), _words(row, by_meaning.get("passage"))
    parts = prompt_parts(text or passage)
    if parts and not (text and passage):
        passage, text = parts
    if _simple(by_meaning.get("passage", "")) == "body":
        # SVAMP: the story and its question form one question.
        stop = "" if not passage or passage[-1] in ".?!,;:" else "."
        text, passage = f"{passage}{stop} {text}".strip(), ""
    if not text:
        return "it has no question"
    labels: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    if chosen.answer_type is AnswerType.CHOICE:
        labels, options = options_of(row, by_meaning.get("options"))
        if not options:
            text, labels, options = inline_options(text)
        if not 2 <= len(options) <= len(LETTERS):
            return "it has no options to choose from" if not options else "it has too many options"
        if not all(options):
            return "one of its options is empty"
    if chosen.answer_type is AnswerType.NLI and not passage:
        return "it has no premise"
    key = question_key(chosen.name, text, options, passage)
    kind = chosen.answer_type
    return Question(
        0, key, split, source, position, chosen.name, kind, text, options, passage
    ), labels


def _words(row: Row, column: str | None) -> str:
    value = row.get(column) if column else None
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return " ".join(value).strip()
    return str(value).strip() if isinstance(value, str | int | float) else ""


# Known answers.


def _gold(row: Row, column: str, question: Question, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The accepted canonical answers; none if the row's answer cannot be read."""
    value = row.get(column)
    if column == "target_scores" and isinstance(value, dict):
        best = [name for name, score in value.items() if score == max(value.values()) and score > 0]
        value = best[0] if len(best) == 1 else None
    match question.answer_type:
        case AnswerType.CHOICE:
            letter = _letter(value, labels, question.options)
            return (letter,) if letter else ()
        case AnswerType.NLI:
            return _inferences(value, question.task)
        case AnswerType.SPAN:
            listed = [value, *(row.get("validated_answers") or ())]
            forms = [
                extraction.canonical(AnswerType.SPAN, span)
                for part in listed
                for span in _spans(part)
            ]
            return tuple(dict.fromkeys(form for form in forms if form))
        case AnswerType.YES_NO if isinstance(value, bool) or value in (0, 1, "0", "1"):
            return ("yes" if value in (True, "1") else "no",)
        case _:
            form = None if isinstance(value, bool) else _form(question.answer_type, value)
            return (form,) if form else ()


def _form(answer_type: AnswerType, value: object) -> str | None:
    """The canonical form of a bare answer, or of the answer at the end of a worked solution."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    if "####" in text:
        text = text.rsplit("####", 1)[1].strip()
    elif "\\boxed" in text or "\n" in text:
        return extraction.extract(answer_type, text, end=EndReason.END).answer
    return extraction.canonical(answer_type, text)


def _letter(value: object, labels: tuple[str, ...], options: tuple[str, ...]) -> str | None:
    """The letter of an option, given by its label, its index from 0, or its text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    written = str(value).strip()
    marks = [label.upper() for label in labels]
    if marks.count(written.upper().strip("()")) == 1:
        return LETTERS[marks.index(written.upper().strip("()"))]
    if marks.count(written.upper()) > 1:
        return None
    if written in options:
        return LETTERS[options.index(written)] if options.count(written) == 1 else None
    if written.isascii() and written.isdigit():
        return LETTERS[int(written)] if int(written) < len(options) else None
    return extraction.canonical(AnswerType.CHOICE, written, options)


def _inferences(value: object, task: str) -> tuple[str, ...]:
    """Labels as words, as ANLI's letters, or as numbers: 0 entailed, 1 neutral, 2 contradicted.

    RTE has only two labels; its "not entailment" can be either of the other two.
    """
    text = str(value).strip().lower() if isinstance(value, str | int) else ""
    two_way = task == "rte"
    if re.fullmatch(r"not[_ -]entailment", text) or (two_way and text in ("1", "no")):
        return ("no", UNKNOWN)
    labels = {"0": "yes", "1": UNKNOWN, "2": "no", "e": "yes", "n": UNKNOWN, "c": "no"}
    form = labels.get(text) or extraction.canonical(AnswerType.NLI, text)
    return (form,) if form else ()


def _spans(value: Any) -> list[str]:  # noqa: PLR0911 - a return for each layout
    """The accepted answers in the layouts of DROP and SQuAD."""
    if isinstance(value, str):
        return [part.strip() for part in value.split("|")]
    if isinstance(value, bool):
        return []
    if isinstance(value, int | float):
        return [str(value)]
    if isinstance(value, list):
        return [span for part in value for span in _spans(part)]
    if isinstance(value, dict):
        if str(value.get("number") or "").strip():
            return [str(value["number"])]
        if value.get("spans"):
            return [" and ".join(str(span) for span in value["spans"])]
        if isinstance(value.get("text"), list | str):
            return _spans(value["text"])
        date = value.get("date") if isinstance(value.get("date"), dict) else {}
        parts = [str(date.get(part) or "") for part in ("day", "month", "year")] if date else []
        return [" ".join(part for part in parts if part)]
    return []


def _why_not(value: object, answer_type: AnswerType) -> str:
    if value is None or not str(value).strip():
        return "it has no answer"
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"its answer {shown!r} cannot be read as {answer_type}"
