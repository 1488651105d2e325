"""The answer of a path without an answer statement: a bare answer, or a closing sentence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.answers.forms import normalization, spans
from engine.answers.formulas.form import math_text
from engine.answers.reading.closing_choices import bare_choice, closing_choice
from engine.answers.reading.closing_formulas import formula_at_end
from engine.answers.reading.closing_numbers import CONCLUDES, SUPPOSES, closing_number
from engine.answers.reading.hedges import REPORTED
from engine.answers.reading.labels import without_label
from engine.answers.reading.refusals import refuses
from engine.answers.reading.sentences import (
    STATED,
    as_shown,
    first_sentence,
    last_line,
    last_sentence,
)
from engine.answers.reading.statements import find_statements
from store.enums import AnswerType

if TYPE_CHECKING:
    from collections.abc import Sequence

_BUT = re.compile(r"\b(?:but|however|whereas)\b(?:[^,]*,(?= (?:so|therefore|thus)\b))?[, ]*", re.I)
_OPTION_LINE = re.compile(r"^[ \t]{0,8}[(*]{0,3}[A-J][).:]", re.MULTILINE)


def concluded_answer(  # noqa: PLR0911 - a case for each answer type
    answer_type: AnswerType, own: str, options: Sequence[str]
) -> tuple[str, str] | None:
    """The answer of a path without an answer statement: a bare answer, or a closing sentence."""
    own = own.strip()
    alone = own if len(own) <= 200 and "\n" not in own else ""
    last = last_line(own)
    if answer_type is AnswerType.CHOICE and len(_OPTION_LINE.findall(own)) > 1:
        return None  # the end of a list of the options
    is_whole = not own.endswith(last)
    if answer_type in (AnswerType.NUMBER, AnswerType.YES_NO, AnswerType.NLI):
        alone, last = without_label(alone), without_label(last)
    closing = _own_clause(last_sentence(without_label(last)))
    # An answer statement that is not of the type is not read in another way.
    alone, last, closing = (
        "" if any(find_statements(text)) else text for text in (alone, last, closing)
    )
    match answer_type:
        case AnswerType.NUMBER:
            return closing_number(last or closing, is_whole=is_whole)
        case AnswerType.CHOICE:
            concluded = closing_choice(closing, options)
            for text in (alone, last):
                if concluded is None and _is_short(text):
                    concluded = bare_choice(text, options)
            return concluded
        case AnswerType.YES_NO | AnswerType.NLI:
            opening = first_sentence(own[:STATED])
            concludes = closing if CONCLUDES.match(closing) else ""
            short = opening if len(opening.split()) <= 8 else ""
            for text in (concludes, alone, closing, short):
                bare = CONCLUDES.sub("", text, count=1)
                answer = (
                    normalization.yes_no(bare)
                    if answer_type is AnswerType.YES_NO
                    else normalization.inference(bare, options)
                )
                if answer:
                    return answer, as_shown(text)
        case AnswerType.SPAN:
            stated = _span_in(alone, own)
            answer = spans.span(stated) if stated else None
            return (answer, as_shown(stated)) if answer else None
        case AnswerType.MATH:
            stated = "" if SUPPOSES.match(closing) else formula_at_end(alone, closing, own)
            answer = math_text(stated) if stated else None
            return (answer, as_shown(stated)) if answer else None
    return None


def _own_clause(sentence: str) -> str:
    """What the path says against an answer of others: `You might think the answer is 8, but …`."""
    statement = next(find_statements(sentence), None)
    if statement is None or not REPORTED.search(sentence[: statement.start()]):
        return sentence
    own = _BUT.search(sentence, statement.end())
    return sentence[own.end() :] if own else sentence


_LIST = re.compile(
    r"[^\n]{0,100}\b(?:are|is|were|was|include)\s?:\**[ \t]*\n"
    r"(?P<items>(?:\s{0,4}(?:[-*•]|\d{1,2}[.)])[ \t]+[^\n:]{1,40}(?:\n|$)){1,10})\s*"
)
_MARK = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])[ \t]+", re.MULTILINE)
_BOLD = re.compile(r"\*\*([^*\n]{1,80}[^*\n:.])\*\*")


def _span_in(alone: str, own: str) -> str:
    """The words that are the whole path, those of them in bold, or a list; else empty."""
    items = _LIST.fullmatch(own) if len(own) <= STATED else None
    if items:
        return ", ".join(_MARK.sub("", items["items"].strip()).splitlines())
    if not _is_short(alone) or refuses(last_sentence(alone)):
        return ""
    bold = _BOLD.findall(alone)
    return bold[0] if len(bold) == 1 else spans.without_remarks(alone)


def _is_short(text: str) -> bool:
    """Whether a text can be a bare answer."""
    return 0 < len(text) <= 160 and len(text.split()) <= 20
