"""Read the known answers of a row, whatever layout its file has."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from engine.answers import extraction
from engine.answers.forms.normalization import UNKNOWN
from engine.importing.labels.label_numbering import Numbering, option_letter
from store.enums import AnswerType, EndReason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.importing.labels.options import Options

_STATEMENT = re.compile(r"\b(?:answer|ans)\b\W{0,3}(?:is\b|:|=)", re.I)
_MONTHS = "January February March April May June July August September October November December"

UNREADABLE = "its answer"
"""Begins the reason why a row's answer is not used, unless it has none."""


def known_answers(
    answer_type: AnswerType,
    value: Any,
    *,
    others: Any = None,
    task: str = "",
    options: Options | None = None,
    numbering: Numbering | None = None,
) -> tuple[str, ...]:
    """The accepted canonical answers; none if the row's answer cannot be read.

    Args:
        answer_type: decides the canonical form.
        value: what the column of answers holds.
        others: DROP's `validated_answers`, for spans.
        task: RTE has two labels, the other NLI tasks three.
        options: the choices, for `CHOICE`.
        numbering: how the file counts them, for `CHOICE`, and the labels of NLI.
    """
    match answer_type:
        case AnswerType.CHOICE if options is not None:
            letter = option_letter(_one_hot(value), options, numbering or Numbering(None, ""))
            return (letter,) if letter else ()
        case AnswerType.NLI:
            return _inferences(value, task, (numbering.first if numbering else None) or 0)
        case AnswerType.SPAN:
            forms = [_form(AnswerType.SPAN, text) for text in [*_spans(value), *_spans(others)]]
            return tuple(dict.fromkeys(form for form in forms if form))
        case AnswerType.YES_NO if isinstance(value, int | float) or value in ("0", "1"):
            # Compared, not converted: an integer may be too large for a float.
            return ("yes" if value in (1, "1") else "no",) if value in (0, 1, "0", "1") else ()
        case _:
            form = None if isinstance(value, bool) else _form(answer_type, value)
            return (form,) if form else ()


def best_scored(value: Any) -> str | None:
    """The only answer with the highest score above 0 in BIG-bench's `target_scores`."""
    if not isinstance(value, dict) or not value:
        return None
    if not all(isinstance(score, int | float) for score in value.values()):
        return None
    highest = max(value.values())
    best = [name for name, score in value.items() if score == highest and score > 0]
    return best[0] if len(best) == 1 else None


def _form(answer_type: AnswerType, value: object) -> str | None:
    """The canonical form of a bare answer, or of the answer of a worked solution."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict) and str(value.get("number") or "").strip():
        value = value["number"]  # DROP's record of a number
    if not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    if "####" in text:
        return extraction.canonical(answer_type, text.rsplit("####", 1)[1].strip())
    worked = "\\boxed" in text or "\n" in text or "</think>" in text
    form = None if worked else extraction.canonical(answer_type, text)
    if worked or form is None or _STATEMENT.search(text):
        return extraction.extract(answer_type, text, end=EndReason.END).answer or form
    return form


def _one_hot(value: Any) -> Any:
    """The marks of TruthfulQA's `{choices, labels}`."""
    return value.get("labels") if isinstance(value, dict) else value


def _inferences(value: object, task: str, first: int) -> tuple[str, ...]:
    """Labels as words, as ANLI's letters, or as numbers: 0 entailed, 1 neutral, 2 contradicted.

    RTE has only two labels; its "not entailment" can be either of the other two.
    """
    text = str(value).strip().lower() if isinstance(value, str | int | float) else ""
    if re.fullmatch(r"\d(?:\.0+)?", text):
        text = str(int(text[0]) - first)
    two_way = task == "rte"
    if re.fullmatch(r"not[_ -]entailment", text) or (two_way and text in ("1", "no")):
        return ("no", UNKNOWN)
    if two_way and text == "2":
        return ()
    labels = {"0": "yes", "1": UNKNOWN, "2": "no", "e": "yes", "n": UNKNOWN, "c": "no"}
    form = labels.get(text) or extraction.canonical(AnswerType.NLI, text)
    return (form,) if form else ()


# Spans. A dictionary is a record of one answer or of several, never a list of its keys.


def _spans(value: Any) -> list[str]:
    """The accepted answers in the layouts of DROP, SQuAD and TriviaQA."""
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, str):
        return [part.strip() for part in value.split("|")]
    if isinstance(value, int | float):
        return [str(value)]
    if isinstance(value, list):
        return [span for part in value for span in _spans(part)]
    return _record_spans(value) if isinstance(value, dict) else []


def _record_spans(record: dict[str, Any]) -> list[str]:
    """The accepted answers of a record of `number`, `date`, `spans`, `text` or `value`."""
    spans = record.get("spans")
    nested = isinstance(spans, list) and any(isinstance(span, list) for span in spans)
    if nested or any(isinstance(record.get(name), list) for name in ("number", "date")):
        return [span for answer in _untransposed(record) for span in _record_spans(answer)]
    number = record.get("number")
    if isinstance(number, str | int | float) and str(number).strip():
        return [str(number).strip()]
    if isinstance(spans, list) and spans:
        return [" and ".join(str(span) for span in spans)]
    for name in ("text", "value", "answer"):
        if isinstance(record.get(name), list | str):
            return [*_spans(record[name]), *_spans(record.get("aliases"))]
    return _dates(record["date"]) if isinstance(record.get("date"), dict) else []


def _untransposed(record: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """The records of a dictionary of lists, as `datasets` stores a list of records."""
    columns = {name: values for name, values in record.items() if isinstance(values, list)}
    for place in range(max(map(len, columns.values()))):
        yield {name: values[place] for name, values in columns.items() if place < len(values)}


def _dates(date: dict[str, Any]) -> list[str]:
    """A date as text; the canonical form accepts its other wordings."""
    day, month, year = (str(date.get(part) or "").strip() for part in ("day", "month", "year"))
    if month.isdigit() and 1 <= int(month) <= 12:
        month = _MONTHS.split()[int(month) - 1]
    return [" ".join(part for part in (day, month, year) if part)]


def why_unreadable(value: object, answer_type: AnswerType) -> str:
    """Why a row's answer is not used."""
    missing = value is None or value in ([], {}) or not str(value).strip()
    if missing or (isinstance(value, float) and math.isnan(value)):
        return "it has no answer"
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"{UNREADABLE} {shown!r} cannot be read as {answer_type}"
