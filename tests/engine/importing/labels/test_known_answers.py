"""Known answers in the layouts of public data sets."""

from __future__ import annotations

from typing import Any

import pytest

from engine.importing.labels.known_answers import best_scored, known_answers
from store.enums import AnswerType

NO_DATE = {"day": "", "month": "", "year": ""}
MAY = {"day": "5", "month": "May", "year": "1998"}

SPANS: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "text": ("The Nile", None, ("nile",)),
    "alternatives": ("Nile|White Nile", None, ("nile", "white nile")),
    "a list": (["Nile", "White Nile"], None, ("nile", "white nile")),
    "a number": (12, None, ("12",)),
    "DROP's number": ({"number": "3", "date": NO_DATE, "spans": []}, None, ("3",)),
    "DROP's spans": (
        {"number": "", "date": NO_DATE, "spans": ["Ann", "Bo"]},
        None,
        ("ann and bo",),
    ),
    "DROP's date": ({"number": "", "date": MAY, "spans": []}, None, ("5 may 1998",)),
    "a year": ({"date": {"day": "", "month": "", "year": "1998"}}, None, ("1998",)),
    "validated answers": (
        {"number": "3", "date": NO_DATE, "spans": []},
        [{"number": "4", "date": NO_DATE, "spans": []}, {"number": "3"}],
        ("3", "4"),
    ),
    "validated answers as a dictionary of lists": (
        {"number": "", "date": NO_DATE, "spans": ["Ann"]},
        {"number": ["3", ""], "date": [NO_DATE, NO_DATE], "spans": [[], ["Bo", "Cy"]]},
        ("ann", "3", "bo and cy"),
    ),
    "only validated answers": (
        {"number": ["3"], "date": [{"day": "", "month": "", "year": ""}], "spans": [[]]},
        None,
        ("3",),
    ),
    "no validated answers": ("Ann", {"number": [], "date": [], "spans": []}, ("ann",)),
    "DROP's answers_spans": (
        {"spans": ["Ann", "Bo"], "types": ["span", "span"]},
        None,
        ("ann and bo",),
    ),
    "SQuAD": ({"text": ["Ann", "Ann Lee"], "answer_start": [4, 4]}, None, ("ann", "ann lee")),
    "SQuAD without an answer": ({"text": [], "answer_start": []}, None, ()),
    "a list of records": (
        [{"text": "Ann", "answer_start": 4}, {"text": "Bo"}],
        None,
        ("ann", "bo"),
    ),
    "TriviaQA": (
        {"value": "Nile", "aliases": ["River Nile"], "type": "WikipediaEntity"},
        None,
        ("nile", "river nile"),
    ),
    "an unknown record": ({"first": "Ann", "second": "Bo"}, None, ()),
    "nothing": (None, None, ()),
    "a worked solution": ("The river is long.\nThe answer is Nile.", None, ("nile",)),
    "a statement": ("The answer is Nile.", None, ("nile",)),
}


@pytest.mark.parametrize("layout", SPANS)
def test_the_accepted_spans_of_every_layout(layout: str) -> None:
    value, others, expected = SPANS[layout]
    assert known_answers(AnswerType.SPAN, value, others=others) == expected


@pytest.mark.parametrize(
    ("answer_type", "value", "expected"),
    [
        (AnswerType.NUMBER, "3 + 4 = 7 eggs.\n#### 7", ("7",)),
        (AnswerType.NUMBER, ["19"], ("19",)),
        (AnswerType.NUMBER, "So she has 7.\nThe answer is 7.", ("7",)),
        (AnswerType.NUMBER, "She has 3 and 4, so the answer is 7.", ("7",)),
        (AnswerType.NUMBER, "\\boxed{7}", ("7",)),
        (AnswerType.NUMBER, {"number": "7", "date": NO_DATE, "spans": []}, ("7",)),
        (AnswerType.NUMBER, {"text": "7"}, ()),
        (AnswerType.NUMBER, True, ()),
        (AnswerType.NUMBER, "several", ()),
        (AnswerType.YES_NO, True, ("yes",)),
        (AnswerType.YES_NO, 0.0, ("no",)),
        (AnswerType.YES_NO, "1", ("yes",)),
        (AnswerType.YES_NO, 2, ()),
        (AnswerType.YES_NO, float("nan"), ()),
        (AnswerType.NLI, "entailment", ("yes",)),
        (AnswerType.NLI, 2.0, ("no",)),
        (AnswerType.NLI, -1, ()),
    ],
)
def test_the_accepted_answers_of_other_types(
    answer_type: AnswerType, value: object, expected: tuple[str, ...]
) -> None:
    assert known_answers(answer_type, value) == expected


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ({"yes": 1, "no": 0}, "yes"),
        ({"yes": 0.5, "no": 0.5}, None),
        ({"yes": 0, "no": 0}, None),
        ({"yes": "1", "no": [0]}, None),
        ({}, None),
        ("yes", None),
    ],
)
def test_the_best_score_names_the_answer(scores: object, best: str | None) -> None:
    assert best_scored(scores) == best
