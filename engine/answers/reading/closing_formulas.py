"""The formula, or the list of formulas, that ends a path without an answer statement."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.answers.formulas.form import VARIABLE, split_top
from engine.answers.reading.closing_numbers import CONCLUDES
from engine.answers.reading.sentences import DOLLARS, STATED
from engine.answers.reading.statements import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

_JOINS = re.compile(r"\s*(?:,|,?\s(?:and|or))\s*")
_BETWEEN = re.compile(r"\b(?:between|from|of)\s*$", re.IGNORECASE)
_ASSIGNED = re.compile(rf"\s*({VARIABLE}(?:\([^()]{{1,20}}\))?)\s*=\s*([^=]+)")
_BLOCK = re.compile(
    r"(?:\\\[|\$\$)\s*("
    r"[^$&\n]{1,200}|[^$&\n]{0,60}\\begin\{[pbv]?matrix\}[^$]{1,400}\\end\{[pbv]?matrix\}[^$&\n]{0,20}"
    r")\s*(?:\\\]|\$\$)[\s.*]*$"
)
"""A formula on lines of its own, which ends the text."""


_LEADS = re.compile(
    rf"(?:{CONCLUDES.pattern})?"
    r"(?:(?:the|we|there|it|this|that|our|[a-z])\b[^=$\d\\]{0,60}?"
    r"(?<!to )\b(?:is|are|equals?|get|have|becomes|find|obtain)\b[: ]*(?:that )?)?",
    re.IGNORECASE,
)
"""What comes before the value in a sentence: `So the sum is`."""
_VALUE = re.compile(
    r"(?:(?:[^\W\d_](?![^\W\d_])|\\[A-Za-z]+|[\d\s{}()\[\].,:=+*/^_<>|-]|and\b|or\b){1,80}"
    r"|-?\d[\d,]*(?:\.\d+)? (?!(?:or|and|is|to|if|in|at|more|less|am|pm)\b)"
    r"[a-z]{2,20}(?: [a-z]{2,20})?[.!]?)"
)
_LISTS = re.compile(r",|\b(?:and|or)\b")
_SENTENCE = re.compile(
    r"(?<!\\)\b(?:I|we|you|is|are|was|were|has|have|need|so|therefore|thus|hence|because|can)\b",
    re.IGNORECASE,
)


def formula_at_end(alone: str, closing: str, own: str) -> str:
    """The formula that ends a path, or the whole of a short one; else empty."""
    formulas = _formulas_at_end(closing)
    if formulas:
        return _joined(formulas)
    block = _BLOCK.search(own, max(0, len(own) - STATED))
    if block:
        return _side(block[1])
    sentence = alone or (closing if CONCLUDES.match(closing) else "")
    leads = _LEADS.match(sentence)
    value = sentence[leads.end() :] if leads else ""
    if leads and leads.end() and _VALUE.fullmatch(value):
        return value if _LISTS.search(value) else _side(value)
    return alone if len(alone) <= 60 and not _SENTENCE.search(alone) else ""


def _formulas_at_end(closing: str) -> list[str]:
    """The last formula of a sentence, after those that `and` or `or` join to it."""
    found = list(DOLLARS.finditer(closing))
    first = len(found) - 1
    has_word = False
    while first > 0:
        gap = closing[found[first - 1].end() : found[first].start()]
        has_word = has_word or gap.strip() != ","
        if not _JOINS.fullmatch(gap) or not has_word:
            break
        first -= 1
    if _BETWEEN.search(closing[: found[first].start()] if found else ""):
        first = len(found) - 1
    return [next(filter(None, match.groups())) for match in found[first:]]


def _side(formula: str) -> str:
    """The last side of an equation."""
    return split_top(formula, ("=",))[-1]


def _joined(formulas: Sequence[str]) -> str:
    """Several values as a list; the last side of the last equation, if they are steps."""
    named = [_ASSIGNED.fullmatch(formula) for formula in formulas]
    names = {match[1] for match in named if match}
    if len(formulas) == 1 or not (all(named) or not any("=" in formula for formula in formulas)):
        return _side(formulas[-1])
    if len(names) <= 1:
        return listed(
            [match[2] if match else text for match, text in zip(named, formulas, strict=True)]
        )
    return listed(formulas) if len(names) == len(formulas) else _side(formulas[-1])
