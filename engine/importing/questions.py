"""Read questions from a file, and their known answers when they are for evaluation.

A pool has no answers: what a file says about them is not read into anything. Evaluation questions
get the canonical forms of all answers that count as right.
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
from engine.importing.tables import Row, Rows, read_rows
from engine.prompting.tasks import Preset, preset
from store.enums import AnswerType, EndReason, Split
from store.errors import BadInput
from store.records import Question, question_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PLAINLY_AN_ANSWER = {"answer", "answerkey", "gold", "goldlabel", "correct", "targetscores"}
"""Columns whose content may tell that a pool file is of another type."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file held."""

    questions: tuple[Question, ...]
    gold: dict[str, tuple[str, ...]]
    """Accepted canonical answers by question key; empty for a pool."""
    left_out: tuple[tuple[int, str], ...]
    """(line, reason); the line is the place in the list where a file has no lines."""
    understood: dict[str, str]
    """Meaning to column, and `rows` to the format."""
    duplicates: int
    """Rows that repeat an earlier question; they add to its accepted answers only."""


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
        task: a preset or an answer type.
        split: only evaluation splits get gold answers, and they need them.
        name: of the set; the file's name without its suffix when None.
        limit: most questions to take, from the start.
        fields: meaning (question, answer, options, passage) to column, where guessing fails.

    Raises:
        BadInput: the file cannot be read or does not fit the task.
    """
    preset(task)  # a wrong name is told before a large file is read
    return questions_in(
        read_rows(path), path, task=task, split=split, name=name, limit=limit, fields=fields
    )


def questions_in(
    table: Rows,
    path: Path,
    *,
    task: str,
    split: Split,
    name: str | None = None,
    limit: int | None = None,
    fields: Mapping[str, str] | None = None,
) -> Imported:
    """The questions of a file that was read; all else as `read_questions`."""
    chosen = preset(task)
    if limit is not None and limit < 1:
        raise BadInput(f"--limit is {limit}: give at least 1.")
    rows = [(number, flat(row)) for number, row in table.rows]
    columns = list(dict.fromkeys(column for _, row in rows[:200] for column in row))
    found = _columns(path, columns, chosen, fields or {})
    if split is not Split.POOL and "answer" not in found:
        raise BadInput(
            f"{path} has no column of answers ({_listed(columns)}): evaluation needs "
            "known answers; name the column with --field answer=COLUMN, or import it as a pool."
        )
    source = name or _stem(path)
    left_out = list(table.left_out)
    questions: dict[str, Question] = {}
    gold: dict[str, tuple[str, ...]] = {}
    duplicates = unread = read = 0
    known: tuple[str, ...] = ()
    checked = split is not Split.POOL or _simple(found.get("answer", "")) in _PLAINLY_AN_ANSWER
    for position, (number, row) in enumerate(rows):
        if limit is not None and len(questions) >= limit:
            break
        asked = _question(row, found, chosen, split, source, position)
        if isinstance(asked, str):
            left_out.append((number, asked))
            continue
        question, labels = asked
        if checked and "answer" in found:
            known = _gold(row, found["answer"], question, labels)
            given = row.get(found["answer"])
            read += given not in (None, "")
            if not known:
                unread += given not in (None, "")
                if split is not Split.POOL:
                    left_out.append((number, _why_not(given, chosen.answer_type)))
                    continue
        duplicates += question.key in questions
        questions.setdefault(question.key, question)
        if split is not Split.POOL:
            # DROP repeats a question with the answers of other annotators: all are accepted.
            gold[question.key] = tuple(dict.fromkeys([*gold.get(question.key, ()), *known]))
    if read and unread * 2 > read:
        reason = next((why for _, why in left_out if why.startswith("its answer")), None)
        raise BadInput(
            f"{path} does not fit --task {task}: {unread:,} of {read:,} answers in column "
            f"{found['answer']!r} are not of the type {chosen.answer_type}"
            + (f" ({reason})." if reason else ".")
        )
    if not questions:
        number, reason = left_out[0] if left_out else (1, "there are no rows")
        raise BadInput(f"{path} has no question that can be used: line {number}: {reason}.")
    understood = {"rows": table.kind} | {one: found[one] for one in MEANINGS if one in found}
    if split is Split.POOL and "answer" in found:
        understood["answer"] = f"{found['answer']} (ignored: a pool has no answers)"
    left_out.sort()
    return Imported(tuple(questions.values()), gold, tuple(left_out), understood, duplicates)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0] or path.name


def _simple(column: str) -> str:
    return re.sub(r"[^a-z0-9]", "", column.lower())


def _listed(columns: list[str]) -> str:
    shown = [one for one in columns if "." not in one][:12]
    return "it has " + ", ".join(shown) if shown else "it has no named columns"


def _columns(
    path: Path, columns: list[str], chosen: Preset, fields: Mapping[str, str]
) -> dict[str, str]:
    """Meaning to column, or a sentence about what is missing."""
    for meaning, column in fields.items():
        if meaning not in MEANINGS:
            raise BadInput(f"--field {meaning}= is not known: use {', '.join(MEANINGS)}.")
        if column not in columns:
            raise BadInput(f"{path} has no column {column!r}: {_listed(columns)}.")
    found = find_columns(columns, chosen.answer_type, fields)
    if "target_scores" in columns and "answer" not in fields:
        found["answer"] = "target_scores"
    if "question" not in found and "passage" not in found:
        raise BadInput(
            f"{path} has no column of questions ({_listed(columns)}): "
            "name it with --field question=COLUMN."
        )
    if chosen.answer_type is AnswerType.NLI and not {"question", "passage"} <= found.keys():
        raise BadInput(
            f"{path} has no pair of premise and hypothesis ({_listed(columns)}): "
            "name them with --field passage=COLUMN and --field question=COLUMN."
        )
    return found


def _question(
    row: Row, found: Mapping[str, str], chosen: Preset, split: Split, source: str, position: int
) -> tuple[Question, tuple[str, ...]] | str:
    """A row's question with the labels of its options, or why there is none."""
    text, passage = _words(row, found.get("question")), _words(row, found.get("passage"))
    whole = prompt_parts(text or passage)
    if whole and not (text and passage):
        passage, text = whole
    if _simple(found.get("passage", "")) == "body":
        # SVAMP: the story and what is asked of it are one question.
        stop = "" if not passage or passage[-1] in ".?!,;:" else "."
        text, passage = f"{passage}{stop} {text}".strip(), ""
    if not text:
        return "it has no question"
    labels: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    if chosen.answer_type is AnswerType.CHOICE:
        labels, options = options_of(row, found.get("options"))
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
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return " ".join(value).strip()
    return str(value).strip() if isinstance(value, str | int | float) else ""


# Known answers.


def _gold(row: Row, column: str, question: Question, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The canonical answers that count as right; none when the row's answer cannot be read."""
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
                extraction.canonical(AnswerType.SPAN, one)
                for part in listed
                for one in _spans(part)
            ]
            return tuple(dict.fromkeys(form for form in forms if form))
        case AnswerType.YES_NO if isinstance(value, bool) or value in (0, 1, "0", "1"):
            return ("yes" if value in (True, "1") else "no",)
        case _:
            form = None if isinstance(value, bool) else _form(question.answer_type, value)
            return (form,) if form else ()


def _form(answer_type: AnswerType, value: object) -> str | None:
    """An answer that stands alone, or at the end of a worked solution."""
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
    """The letter of a choice's answer: by its label, its place from 0, or its text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    written = str(value).strip()
    marks = [one.upper() for one in labels]
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
    """Labels as words, as ANLI's letters, or as numbers: 0 follows, 1 neutral, 2 contradicted.

    RTE has two labels, and what does not follow may be either of the other two.
    """
    text = str(value).strip().lower() if isinstance(value, str | int) else ""
    two_way = task == "rte"
    if re.fullmatch(r"not[_ -]entailment", text) or (two_way and text in ("1", "no")):
        return ("no", UNKNOWN)
    known = {"0": "yes", "1": UNKNOWN, "2": "no", "e": "yes", "n": UNKNOWN, "c": "no"}
    form = known.get(text) or extraction.canonical(AnswerType.NLI, text)
    return (form,) if form else ()


def _spans(value: Any) -> list[str]:  # noqa: PLR0911 - a return for each layout
    """The accepted answers in the layouts of DROP and SQuAD."""
    if isinstance(value, str):
        return [one.strip() for one in value.split("|")]
    if isinstance(value, bool):
        return []
    if isinstance(value, int | float):
        return [str(value)]
    if isinstance(value, list):
        return [one for part in value for one in _spans(part)]
    if isinstance(value, dict):
        if str(value.get("number") or "").strip():
            return [str(value["number"])]
        if value.get("spans"):
            return [" and ".join(str(one) for one in value["spans"])]
        if isinstance(value.get("text"), list | str):
            return _spans(value["text"])
        date = value.get("date") if isinstance(value.get("date"), dict) else {}
        parts = [str(date.get(one) or "") for one in ("day", "month", "year")] if date else []
        return [" ".join(one for one in parts if one)]
    return []


def _why_not(value: object, answer_type: AnswerType) -> str:
    if value is None or not str(value).strip():
        return "it has no answer"
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"its answer {shown!r} cannot be read as {answer_type}"
