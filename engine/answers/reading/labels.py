"""What a label such as `Answer:` states: an answer, or the reasoning that leads to one.

Many models write the label before they reason. What follows it is an answer only as a whole: a
value with a few words of unit, a letter or the text of an option, yes or no, a short span.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.answers.forms import choices, normalization, numbers, spans
from engine.answers.forms.markup import without_markup
from engine.answers.forms.spelled_numbers import SPELLED
from engine.answers.reading.closing_numbers import closing_number, has_one_number
from engine.answers.reading.sentences import DOLLARS, first_sentence, last_line
from store.enums import AnswerType

if TYPE_CHECKING:
    from collections.abc import Sequence

LINE_LABEL = r"""
    [ \t]*(?:[>\#•\-*_]{1,6}[ \t]*){0,2}
    (?:A[*_]{0,3}:
      |(?:(?:the|my|your)[ ])?(?:(?:final|correct|short|numeric|numerical|full)[ _])?
       (?:answer|ans|solution|soln?|response|result|output|conclusion
          |(?:grand[ ])?total|(?<=final[ ])value)
       (?:[ ]\([^()\n]{1,40}\))?[*_]{0,3}
       (?:[ ]?(?:[-–—=]>|→|⇒)|[ ]?[:=]|[ ][-–—](?=[ ])|(?=[ \t]*\n)|(?<=\bans)\.)
    )[*_]{0,3}[ \t]*
"""
"""A label at the start of a line, with Markdown around it; for a verbose pattern."""
_LABEL = re.compile(LINE_LABEL, re.VERBOSE | re.IGNORECASE)
GIVES_NONE = re.compile(
    r"\W*(?:(?:n't|not) (?:any|one|among|in|on|listed|given|available|here|present|provided)\b"
    r"|none\b|neither\b|unknown|undetermined|cannot be|can't be|impossible|n/?a\b|there is no\b"
    r"|no (?:correct |valid )?(?:answer|option|choice)|undefined|null\b)",
    re.I,
)
_SURELY_NONE = re.compile(r"(?!\W*there is no (?!answer|solution|correct|such|valid|way))", re.I)
_FIRM = re.compile(r"final|ans\b|^####\s*$", re.I)
_TOTAL = re.compile(r"total", re.I)
_LIST_ITEM = re.compile(r"\W*(?:step )?\d{1,2}[.):] ", re.I)
_SECOND_ITEM = re.compile(r"\n\W*2[.)] ")
_NAMED = re.compile(r"\W*[a-zA-Z_]{1,12}\s?=(?!=)\s?")
_REASON = re.compile(r",? (?:because|since|as)\b|;\s| [-–—] (?=[a-zA-Z])", re.I)
_BEGINS = re.compile(r"\W{0,3}\d")
_IN_PARENTHESES = re.compile(r"\([^()]*\)")
_WORD = re.compile(r"[a-zA-Z]{2,}")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_YES_NO = re.compile(
    r"\W*(?:yes|no|true|false|entailment|entailed|contradiction|neutral|unknown)\b"
    r"(?=\W*$|[.,;:!)\]*\"'<]|\s[-–—(]"
    r"|\s(?:because|since|as|for|it|this|that|there|he|she|they|we|you|the|a|an|in)\b)",
    re.I,
)
_LETTER = re.compile(
    r"\W*(?:(?i:the )?(?i:answer|option|choice|letter)\b\W*(?:is\b\W*)?)?"
    r"(?:[A-Z](?=[)\].:,;\"*$]|'(?!\w)|\s*$|\s[-–—(]|\s(?:because|since|as|which|or|and)\b)"
    r"|[(\[][a-z][)\]]|[a-z](?=[)\]]|[.:](?:\s|$)|\s*$))"
)
_IS_CORRECT = re.compile(r"\bis (?:the )?(?:only |most )?(?:correct|right|best|likely)\b", re.I)
_REASONS = re.compile(r"\b(?:because|so|since|therefore|thus|hence|but|however)\b", re.I)


def without_label(line: str) -> str:
    """The line without a label at its start."""
    label = _LABEL.match(line)
    return line[label.end() :] if label else line


def answer_text(
    answer_type: AnswerType, label: str, line: str, own: str, end: int, options: Sequence[str]
) -> str | None:
    """The answer behind a label, as written; None if the text there is reasoning.

    Args:
        answer_type: decides what an answer is.
        label: as written.
        line: the first line behind it.
        own: the path.
        end: where the line ends in it.
        options: texts of the choices.
    """
    line = line.strip()
    rest = own[end : end + 1000]
    if GIVES_NONE.match(line) and answer_type is not AnswerType.SPAN:
        return line if len(line.split()) <= 5 and _SURELY_NONE.match(line) else None
    match answer_type:
        case AnswerType.NUMBER:
            return _number(label, line, own, end)
        case AnswerType.CHOICE:
            return line if _is_choice(line, rest, options) else None
        case AnswerType.YES_NO | AnswerType.NLI:
            return line if _is_verdict(answer_type, line, rest, options) else None
        case AnswerType.SPAN:
            return line if _is_span(line, rest) else None
        case AnswerType.MATH:
            return line if _is_formula(line, rest) else None


def _number(label: str, line: str, own: str, end: int) -> str | None:
    """A number with a few words of unit; a value in words or an equation only at the end."""
    sentence = first_sentence(line)
    after = line[len(sentence) :] + own[end : end + 1000]
    if _LIST_ITEM.match(line) and ("\n" in label or _SECOND_ITEM.search(after)):
        return None
    if last_line(own).endswith(line) and _is_one_sentence(line) and has_one_number(sentence):
        return sentence
    ends = not re.search(r"\d", after) and not SPELLED.search(after)
    if ends and numbers.number(sentence):
        return sentence
    reason = _REASON.search(sentence)
    stated = sentence[: reason.start()] if reason else sentence
    return stated if _is_number(label, stated, own, after) else None


def _is_number(label: str, stated: str, own: str, after: str) -> bool:
    """Whether a value that is followed by other numbers is the answer, and not the first step."""
    closing = closing_number(without_label(last_line(own)), is_whole=True)
    answer = numbers.number(stated)
    if answer is None:
        begins = _BEGINS.match(stated) is not None and has_one_number(stated)
        return begins and closing is not None and closing[0] == numbers.number_in(stated)
    named = _NAMED.match(stated)
    value = _IN_PARENTHESES.sub("", stated[named.end() :] if named else stated)
    is_bare = _WORD.search(_COMMAND.sub("", value)) is None
    is_firm = _FIRM.search(label) is not None
    if "=" in value and not after.startswith("\n\n"):
        return is_firm and is_bare  # an equation is a step
    is_plain = is_bare and not named and "=" not in value and not _TOTAL.search(label)
    if is_firm or is_plain:
        return True
    if after.startswith("\n\n") and not named and "=" not in value:
        return True
    return closing[0] == answer if closing else not named


def _is_choice(line: str, rest: str, options: Sequence[str]) -> bool:
    sentence = first_sentence(line)
    if _LETTER.match(numbers.plain(without_markup(line))) or choices.option_with_text(
        sentence, options
    ):
        return True
    if _IS_CORRECT.search(sentence):
        return True
    ends = not rest.strip() and _is_one_sentence(line)
    return ends and (len(line.split()) <= 4 or not _REASONS.search(line))


def _is_verdict(answer_type: AnswerType, line: str, rest: str, options: Sequence[str]) -> bool:
    if _YES_NO.match(line):
        return True
    sentence = first_sentence(line)
    is_short = len(sentence.split()) <= 8 and not normalization.yes_no(line)
    if answer_type is AnswerType.NLI and is_short:
        return normalization.inference(sentence, options) is not None
    return not rest.strip() and len(line.split()) <= 8


def _is_span(line: str, rest: str) -> bool:
    sentence = first_sentence(line)
    answer = spans.without_remarks(sentence)
    if len(answer) < len(sentence):
        return len(answer.split()) <= 5
    words, is_sentence = len(sentence.split()), sentence != line
    if not rest.strip() and _is_one_sentence(line):
        return words <= 20
    return words <= 4 or (not is_sentence and words <= 10 and rest.startswith("\n\n"))


def _is_formula(line: str, rest: str) -> bool:
    sentence = first_sentence(line)
    ends = not rest.strip() and _is_one_sentence(line)
    fenced = DOLLARS.match(line)
    written = line[fenced.end() : len(sentence)] if fenced else _COMMAND.sub("", sentence)
    words = len(_WORD.findall(written))
    if fenced:
        return ends or words <= 4
    looks_like_one = words <= 1 or (words <= 3 and re.search(r"[\d\\]", sentence) is not None)
    return ends or (looks_like_one and ("=" not in sentence or "=" not in rest))


def _is_one_sentence(line: str) -> bool:
    return not line[len(first_sentence(line)) :].strip(" .!?*\"')]")
