"""The answer of a path without an answer statement: a bare answer, or a closing sentence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.answers import choices, normalization, numbers, spans
from engine.answers.formulas.form import math_text
from engine.answers.markup import without_markup
from engine.answers.statements import (
    DOLLARS,
    GIVES_NONE,
    SENTENCE_END,
    STATED,
    STATEMENT,
    as_shown,
    first_sentence,
)
from store.enums import AnswerType

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONCLUDES = re.compile(
    r"(?:^|(?<=[.!?\n]))\W*(?:so|therefore|thus|hence|in total|altogether|in conclusion|finally"
    r"|in summary|overall|this means(?: that)?)\b[, ]*",
    re.I,
)
_THEREFORE = (
    r"(?:so|thus|therefore|hence|consequently|then|finally|overall|in conclusion|in summary"
    r"|(?:this|that|which) means|i(?:'d| would)? (?:think|believe|say|guess|conclude)"
    r"|i(?:'m| am) (?:(?:fairly|quite|pretty|very) )?(?:sure|certain|confident|going with))"
)
_IT_IS = (
    r"(?:it|this|that|my (?:choice|pick|guess)|the (?:(?:only|correct|right|best|final|remaining"
    r"|most likely) )*(?:one|choice|option|letter))"
    r"(?: is|'s| must be| has to be| would be| should be| can only be)"
    r"(?: (?:therefore|thus|then|clearly|probably|definitely|(?:most )?likely|just|simply))?"
)
_BEFORE_LETTER = re.compile(
    rf"(?:^|(?<=[,;:–—] )|(?<=\band )|(?<=\bso )|(?<=\bthat ))\W*"
    rf"(?:(?:{_THEREFORE}[,:]? (?:that )?)+(?:{_IT_IS}:? )?|{_IT_IS}:? )",
    re.IGNORECASE,
)
_LETTER = re.compile(
    r"\W*(?:(?i:the )?(?i:option|choice|letter|answer) )?"
    r"(?:[A-J](?!['’])(?:\W*$|[).:,;]|[]\"*]+(?!\w)| (?:because|since|as)\b"
    r"| is (?:the )?(?:only |most )?(?:correct|right|best|likely)\b)|[(\[][a-j][)\]])"
)
_VALUE_AT_END = re.compile(r"=\s*\**\s*([^=\n]{1,80})$")
_OPTION_LINE = re.compile(r"^[ \t]{0,8}[(*]{0,3}[A-J][).:]", re.MULTILINE)
_BOLD = re.compile(r"\*\*([^*\n]{1,120})\*\*")


def concluded_answer(  # noqa: PLR0911 - a case for each answer type
    answer_type: AnswerType, own: str, options: Sequence[str]
) -> tuple[str, str] | None:
    """The answer of a path without an answer statement: a bare answer, or a closing sentence."""
    own = own.strip()
    if STATEMENT.search(own[-STATED:]) and answer_type is not AnswerType.SPAN:
        tail_says_none = _last_says_none(own)
        if tail_says_none:
            return None
    alone = own if len(own) <= 200 and "\n" not in own else ""
    last = own.rsplit("\n", 1)[-1].strip()[-STATED:]
    if answer_type is AnswerType.CHOICE and len(_OPTION_LINE.findall(own)) > 1:
        return None  # the end of a list of the options
    closing = _last_sentence(last)
    # An answer statement that is not of the type is not read in another way.
    alone, last, closing = (
        "" if STATEMENT.search(text) else text for text in (alone, last, closing)
    )
    match answer_type:
        case AnswerType.NUMBER:
            return _concluded_number(alone, last, closing)
        case AnswerType.CHOICE:
            for text in (alone, last):
                letter = choices.choice(text, options) if _is_short(text) else None
                if letter:
                    return letter, as_shown(text)
            return _concluded_choice(closing, options)
        case AnswerType.YES_NO | AnswerType.NLI:
            opening = first_sentence(own[:STATED])
            for text in (alone, closing, opening if len(opening.split()) <= 8 else ""):
                bare = _CONCLUDES.sub("", text, count=1)
                answer = (
                    normalization.yes_no(bare)
                    if answer_type is AnswerType.YES_NO
                    else normalization.inference(bare, options)
                )
                if answer:
                    return answer, as_shown(text)
        case AnswerType.SPAN:
            answer = spans.span(alone) if _is_short(alone) else None
            return (answer, as_shown(alone)) if answer else None
        case AnswerType.MATH:
            fenced = list(DOLLARS.finditer(closing))
            stated = next((group for group in fenced[-1].groups() if group), "") if fenced else ""
            stated = stated.rsplit("=", 1)[-1] if stated else (alone if len(alone) <= 60 else "")
            answer = math_text(stated) if stated else None
            return (answer, as_shown(stated)) if answer else None
    return None


def _concluded_choice(closing: str, options: Sequence[str]) -> tuple[str, str] | None:
    """The letter, or the exact option, of a sentence such as `Therefore, it is (b).`"""
    line = without_markup(closing)
    for match in reversed(list(_BEFORE_LETTER.finditer(line))):
        rest = line[match.end() :]
        if _LETTER.match(rest) or choices.option_with_text(rest, options):
            letter = choices.choice(rest, options)
            return (letter, as_shown(rest)) if letter else None
    return None


def _last_says_none(own: str) -> bool:
    """Whether the last statement is that there is no answer."""
    *_, last = STATEMENT.finditer(own[-STATED:])
    return GIVES_NONE.match(own[-STATED:][last.end() :].lstrip(" \"'(:*")) is not None


def _concluded_number(alone: str, last: str, closing: str) -> tuple[str, str] | None:
    """A bare number, one in bold or after the last equals sign, or the only one in a sentence."""
    for text in (alone, last):
        answer = numbers.number(text) if text else None
        if answer:
            return answer, as_shown(text)
    is_sentence = last.endswith((".", "!", "**", "$", "\\)", "\\]"))
    bold = _BOLD.findall(closing)
    candidates = bold[-1:]
    value = _VALUE_AT_END.search(closing.rstrip(" ."))
    if value:
        candidates.append(value[1])
    elif is_sentence and len(set(re.findall(r"\d[\d,.]*\d|\d", closing))) <= 1:
        candidates.append(closing)
    for text in candidates:
        answer = numbers.number(text) or (
            numbers.number_in(text) if text is closing or text in bold else None
        )
        if answer:
            return answer, as_shown(text)
    return None


def _last_sentence(line: str) -> str:
    """The last sentence of a line."""
    ends = [match.end() for match in SENTENCE_END.finditer(line.rstrip())]
    starts = [end for end in ends if end < len(line.rstrip())]
    return line[starts[-1] if starts else 0 :].strip()


def _is_short(text: str) -> bool:
    """Whether a text can be a bare answer."""
    return 0 < len(text) <= 160 and len(text.split()) <= 20
