"""The number that a closing sentence gives."""

from __future__ import annotations

import re

from engine.answers import numbers
from engine.answers.sentences import as_shown, last_sentence

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
    r"|:\**$",
    re.I,
)
_STEP = re.compile(r"^\W*step \d{1,2}\b\W{0,4}(?=\w)", re.I)
_LIST_ITEM = re.compile(r"\W*\d{1,2}[.)] +[A-Z]")
_FACTORIAL = re.compile(r"\W*1?\d!\W*")
_EXCLAMATION = re.compile(r"(?<=\d)!+(?=\W*$)")
_CLAUSE = re.compile(
    r"\b(?:so|therefore|thus|hence|for a total of|which (?:makes|leaves|gives|means|equals))\b",
    re.I,
)
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
    answer = None if _LIST_ITEM.match(line) else numbers.number(line)
    if answer:
        return answer, as_shown(line)
    closing = numbers.without_latex(last_sentence(line))
    value = _VALUE_AT_END.search(closing.rstrip(" .$"))
    bold = [text for text in _BOLD.findall(closing)[-1:] if _DIGITS.search(text)]
    candidates = [(text, text) for text in bold]
    if value:
        candidates.append((value[1], closing))
    elif is_whole or line.endswith(_ENDS) or CONCLUDES.match(closing):
        candidates.append((closing, closing))
        clauses = _CLAUSE.split(closing)
        candidates += [(clause, clause) for clause in clauses[1:][-1:]]
    for text, sentence in candidates:
        if numbers.number(text) or has_one_number(text):
            answer = numbers.number_in(sentence)
            if answer:
                return answer, as_shown(text)
    return None


def has_one_number(text: str) -> bool:
    """Whether a sentence gives one number, in digits or in words, that counts no steps."""
    if _COUNTS_STEPS.search(text) or _DENIES.search(text):
        return False
    digits = set(_DIGITS.findall(text))
    if digits:
        return len(digits) == 1 or numbers.is_only_number(text)
    # "There is one way to see it" gives no number.
    return _ONE.search(CONCLUDES.sub("", text, count=1)) is None
