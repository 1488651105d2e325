"""Find the columns of the question, the options, the passage and the answer.

The names below are those of public data sets. `--field MEANING=COLUMN` overrides them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.importing.labels.options import option_columns
from store.enums import AnswerType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.importing.row import Row

MEANINGS = ("question", "answer", "options", "passage")

_QUESTION = [
    "question",
    "questionstem",
    "question.stem",
    "stem",
    "problem",
    "input",
    "prompt",
    "query",
    "instruction",
    "questiontext",
    "sentence",
    "q",
    "goal",
    "ctx",
    "startphrase",
    "text",
]
QUESTION_COLUMNS = frozenset(_QUESTION)
_HYPOTHESIS = ["hypothesis", "sentence2", "claim", "statement"]
_PASSAGE = [
    "passage",
    "premise",
    "context",
    "paragraph",
    "article",
    "background",
    "support",
    "sentence1",
    "body",
]
_OPTIONS = [
    "options",
    "choices",
    "question.choices",
    "answerchoices",
    "endings",
    "candidates",
    "targetscores",
]
_ANSWER = [
    "rewardmodel.groundtruth",
    "answer",
    "answernumber",
    "answerkey",
    "goldlabel",
    "gold",
    "label",
    "correct",
    "correctanswer",
    "finalanswer",
    "groundtruth",
    "target",
    "answers",
    "reftext",
    "correctoption",
    "cop",
    "answerspans",
    "answersspans",
    "validatedanswers",
    "expected",
    "expectedanswer",
    "referenceanswer",
    "references",
    "reference",
    "targets",
    "rightanswer",
    "correctchoice",
    "output",
    "completion",
    "response",
    "answeridx",
    "answerindex",
    "correctindex",
    "correctanswerid",
    "label1",
    "labels",
    "solution",
]
_PROMPT = re.compile(
    r"\A\s*(?:Passage|Context):(.*?)\n\s*Question:(.*?)(?:\n\s*Answer:\s*)?\Z", re.S
)


def flat(row: Row) -> Row:
    """The row with the keys of nested objects as further columns, such as `question.stem`."""
    inner = {
        f"{name}.{key}": value
        for name, values in row.items()
        if isinstance(values, dict)
        for key, value in values.items()
    }
    return {**row, **inner}


def find_columns(
    columns: Sequence[str], answer_type: AnswerType, given: Mapping[str, str]
) -> dict[str, str]:
    """The column of each meaning that the file has.

    Args:
        columns: names of the flat columns, in order.
        answer_type: for `NLI`, the question is the hypothesis and the passage is the premise.
        given: meaning to column as the user gave them, already checked.
    """
    simple = {re.sub(r"[^a-z0-9.]", "", name.lower()): name for name in reversed(columns)}
    question = _QUESTION
    if answer_type is AnswerType.NLI:
        question = _HYPOTHESIS + _QUESTION
    by_meaning = dict(given)
    if answer_type is AnswerType.CHOICE and "mc1_targets" in columns:
        # TruthfulQA's only column of choices: it marks the right one.
        by_meaning = {"options": "mc1_targets", "answer": "mc1_targets", **given}
    for meaning, names in (
        ("question", question),
        ("passage", _PASSAGE),
        ("options", _OPTIONS),
        ("answer", _ANSWER),
    ):
        for name in names:
            column = simple.get(name)
            if (
                meaning not in by_meaning
                and column is not None
                and column not in by_meaning.values()
            ):
                by_meaning[meaning] = column
    if "question.stem" in columns and "question" not in given:
        by_meaning["question"] = "question.stem"
        if "question.choices" in columns and "options" not in given:
            by_meaning["options"] = "question.choices"
    if "options" not in by_meaning:
        own = option_columns([name for name in columns if name not in by_meaning.values()])
        if own:
            by_meaning["options"] = " + ".join(own)
    return by_meaning


def prompt_parts(text: str) -> tuple[str, str] | None:
    """(passage, question) of a text that is a complete prompt: `Passage: … Question: … Answer:`."""
    match = _PROMPT.match(text)
    return (match[1].strip(), match[2].strip()) if match else None
