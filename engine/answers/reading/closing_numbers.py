"""The number that a closing sentence gives."""

from __future__ import annotations

import re

from engine.answers.forms import numbers
from engine.answers.reading.sentences import as_shown, last_sentence

_VALUE_AT_END = re.compile(r"=\s*\**\s*([^=\n]{1,120})$")
_BOLD = re.compile(r"\*\*([^*\n]{1,120})\*\*")
_DIGITS = re.compile(r"\d[\d,.]*\d|\d")
_ENDS = (".", "!", "**", "$", "\\)", "\\]")
CONCLUDES = re.compile(
    r"(?:^|(?<=[.!?\n]))\W*(?:so|therefore|thus|hence|in total|altogether|in conclusion|finally"
    r"|in summary|overall|this means(?: that)?)\b[, ]*",
    re.I,
)
_COUNTS_STEPS = re.compile(
    r"\b(?:step|part|case|question|problem|example|method|equation|figure|table|chapter)s? ?#?\d"
    r"|\bin \d+ (?:easy |simple )?(?:steps|parts|ways)\b"
    r"|:\**$",
    re.I,
)
_STEP = re.compile(r"^\W*step \d{1,2}\b\W{0,4}(?=\w)", re.I)
_LIST_ITEM = re.compile(r"\W*\d{1,2}[.)] +[A-Z]")
_FACTORIAL = re.compile(r"\W*1?\d!\W*")
_EXCLAMATION = re.compile(r"(?<=\d)!+(?=\W*$)")
_CLAUSE = re.compile(
    r"\b(?:so|therefore|thus|hence|for a total of|which (?:makes|leaves|gives|means|equals))\b"
    r"|(?<=[a-z]), (?=\$?\d[\d,.]*(?: [a-z]+){0,3} (?:altogether|in total|in all)\W*$)"
    r"|\d[^\d.]{1,40}\band\b[^\d.]{0,12}\d[^\d.]{1,40}\bmake\b",
    re.I,
)
SUPPOSES = re.compile(r"\W*(?:let (?!us\b)|suppose|assume|given (?:that )?|consider )", re.I)
_TO_DO = r"(?:solve|find|calculate|compute|determine|work|break|start|begin|look|figure|explain)"
_PLANS = re.compile(
    r"\W*(?:(?:so|now|first|then|next)\b[, ]*)?"
    rf"(?:please\b(?! note)|(?:we|i|you) (?:need|have|want) to (?:{_TO_DO}|know)\b"
    rf"|(?:we|i)(?:'ll| will| can| am going to| are going to) {_TO_DO}\b"
    rf"|to {_TO_DO} [^,]*$|(?:the|your) (?:question|problem) (?:asks|says|states|gives|has)\b)",
    re.I,
)
"""Begins a sentence that says what is asked or what is still to do."""
_GIVES_UP = re.compile(
    r"\b(?:unable|not able) to (?:solve|answer|determine|find|calculate|compute)\b"
    r"|\b(?:can ?not|can['’]t|could not|couldn['’]t) "
    r"(?:solve|answer|be (?:solved|answered|determined))"
    r"|\bnot enough information\b|\binsufficient\b|\bplease provide\b",
    re.I,
)
_DURATION = re.compile(
    r",?\s*\b(?:after|in|within|during|(?:at|by) the end of)(?: the| these| those| all)?"
    r"(?: first| last| next)? \d{1,4} (?:seconds?|minutes?|hours?|days?|weeks?|months?|years?)\b"
    r"(?!,? (?:and|or|to) |[ -](?:\d|old)),?",
    re.I,
)
_OF_PARTS = re.compile(r"^\W*(?:On|In|For|At|From) ")
_DENIES = re.compile(r"\b(?:not|cannot|never|no longer|impossible)\b|n't\b", re.I)
_ONE = re.compile(r"\b(?:one|zero)\b", re.I)


def closing_number(line: str, *, is_whole: bool) -> tuple[str, str] | None:
    """The number of a path's last line, as (answer, shown), if it can mean only one thing.

    A bare number, the number in bold, the value after the last equals sign, or the only number of
    the last sentence.

    Args:
        line: the last line, without a label.
        is_whole: whether the last sentence is complete, even without a period.
    """
    if _FACTORIAL.fullmatch(line):
        return None  # `5!` alone: 120, or 5 with an exclamation mark
    line = _EXCLAMATION.sub(".", _STEP.sub("", line))
    if _GIVES_UP.search(line):
        return None
    in_time = _DURATION.sub("", line)
    answer = None
    if not _LIST_ITEM.match(line) and not SUPPOSES.match(line):
        answer = numbers.number(line) or (numbers.number(in_time) if in_time != line else None)
    if answer:
        return answer, as_shown(line)
    closing = numbers.without_latex(last_sentence(line))
    value = _VALUE_AT_END.search(closing.rstrip(" .$"))
    bold = [text for text in _BOLD.findall(closing)[-1:] if _DIGITS.search(text)]
    candidates = [(text, text) for text in bold]
    if value and SUPPOSES.match(closing):
        return None
    if value:
        candidates.append((value[1], closing))
    elif _PLANS.match(closing) or SUPPOSES.match(closing) or _is_one_of_parts(line, closing):
        pass
    elif is_whole or line.endswith((*_ENDS, "altogether", "in total")) or CONCLUDES.match(closing):
        candidates.append((closing, closing))
        in_time = _DURATION.sub("", closing)
        candidates += [(in_time, in_time)] if _DIGITS.search(in_time) else []
        clauses = _CLAUSE.split(closing)
        candidates += [(clause, clause) for clause in clauses[1:][-1:]]
    for text, sentence in candidates:
        if numbers.number(text) or has_one_number(text):
            answer = numbers.number_in(sentence)
            if answer:
                return answer, as_shown(text)
    return None


def _is_one_of_parts(line: str, closing: str) -> bool:
    """Whether the sentence before begins as the last one: `On Monday, 10. On Tuesday, 15.`"""
    begins = _OF_PARTS.match(closing)
    if begins is None:
        return False
    before = last_sentence(line[: len(line.rstrip()) - len(closing)])
    return before.startswith(begins[0]) and _DIGITS.search(before) is not None


def has_one_number(text: str) -> bool:
    """Whether a sentence gives one number, in digits or in words, that counts no steps."""
    if _COUNTS_STEPS.search(text) or _DENIES.search(text):
        return False
    digits = set(_DIGITS.findall(text))
    if digits:
        return len(digits) == 1 or numbers.is_only_number(text)
    # "There is one way to see it" gives no number.
    return _ONE.search(CONCLUDES.sub("", text, count=1)) is None
