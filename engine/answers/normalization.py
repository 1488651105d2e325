"""The canonical form of an answer of each type, which is counted, stored and trained on.

`engine.answers.extraction` finds answers in paths; this module only normalizes them. Every function
returns None for a text that is not an answer of its type. Normalization is idempotent.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from engine.answers.markup import half_width, without_markup
from engine.answers.numbers import (
    LONGEST,
    number_text,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
UNKNOWN = "it is not possible to tell"
"""The paper's third answer to an inference question."""
INFERENCES = ("yes", "no", UNKNOWN)

# Yes and no, inference.

_YES_NO = re.compile(
    r"\W*(?:(?:that |it )?(?:is|would be|should be) )?"
    r"(?:(?P<yes>yes|true|yeah|yep)|(?P<no>no|false|nope))\b"
    r"(?!-| (?:answer|one|body|way|matter|doubt|longer|more|less|single|other|evidence)\b)",
    re.I,
)
_UNKNOWN = re.compile(
    r"not possible to (?:tell|say|know|determine|conclude)"
    r"|impossible to (?:tell|say|know|determine)"
    r"|(?:can ?not|can't|could not|unable to) (?:be )?"
    r"(?:tell|told|say|said|know|known|determined?|conclude)"
    r"|not enough information|insufficient|inconclusive|undetermined|indeterminate"
    r"|unclear|uncertain|\b(?:neutral|unknown|maybe|neither)\b",
    re.I,
)
_ENTAILED = re.compile(
    r"\W*(?:(?:an?|the|it is|it's|this is) )*(?:entail(?:ment|ed|s)|implied|definitely true)\b",
    re.I,
)
_CONTRADICTED = re.compile(
    r"\W*(?:(?:an?|the|it is|it's|this is) )*"
    r"(?:contradict(?:ion|ed|s|ory)|not[ _-]entail(?:ment|ed)|refuted)\b",
    re.I,
)
_LETTERED = re.compile(r"\W*(?:option |choice )?(?:[(\[]([a-c])[)\]]|([a-c])(?:[).:]|$))\s*", re.I)


def _line(text: str) -> str:
    return plain(without_markup(half_width(text[:LONGEST])))


def yes_no(text: str) -> str | None:
    """`yes` or `no`; also from true and false."""
    match = _YES_NO.match(_line(text))
    if match is None:
        return None
    return "yes" if match["yes"] else "no"


def inference(text: str, options: Sequence[str] = ()) -> str | None:
    """`yes`, `no` or `it is not possible to tell`, from the words of the paper or of NLI data sets.

    A bare letter is that option; without options, (a) is yes, (b) is no and (c) is neither.
    """
    line = _line(text)
    lettered = _LETTERED.match(line)
    if lettered:
        rest = line[lettered.end() :].strip(" .*\"')")
        if rest:
            return inference(rest)
        number_of = LETTERS.index((lettered[1] or lettered[2]).upper())
        meant = options or INFERENCES
        return inference(meant[number_of]) if number_of < len(meant) else None
    if _UNKNOWN.search(line[:80]):
        return UNKNOWN
    if _ENTAILED.match(line):
        return "yes"
    if _CONTRADICTED.match(line):
        return "no"
    return yes_no(line)


def fixed_point(step: Callable[[str], str | None], text: str) -> str | None:
    """Repeat a simplification until nothing changes: one removal may uncover another.

    None if it still changes after eight times.
    """
    form = step(text)
    for _ in range(8):
        simplified = step(form) if form else None
        if simplified == form:
            return form
        form = simplified
    return None


# Mathematics.

_MATH_FENCE = re.compile(r"\\[()\[\]]|\$")
_MATH_SPACE = re.compile(r"\\[,;:! ]|\\(?:left|right|displaystyle|limits|quad|qquad)(?![A-Za-z])|~")
_MATH_UNIT = re.compile(
    r"(?<=[\d})])\s*\\(?:text|mathrm|mbox)\s?\{(?!\s*[ap]\.?\s?m\b)[^{}]*\}(?:\^\{?\d\}?)?$", re.I
)
_MATH_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|textit)\s?\{([^{}]*)\}")
_SHORT_FRACTION = re.compile(r"\\frac\s?(\d|[a-z])\s?(\d|[a-z])(?!\w)")
_HALF_FRACTION = re.compile(r"\\frac\s?(?:\{([^{}]{1,200})\}\s?(\d)|(\d)\s?\{([^{}]{1,200})\})")
_PLAIN_FRACTION = re.compile(r"(-?)(\d{1,40})/(\d{1,40})")
_ASSIGNED = re.compile(r"[a-zA-Z]\w?\s?=\s?(?=[^=]+$)")
_PLAIN_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d{1,40})(?:\.\d{0,40})?|-?\.\d{1,40}")


def math_text(text: str) -> str | None:
    """LaTeX of a mathematical answer without delimiters, spacing commands and units.

    Plain numbers and fractions of plain numbers are normalized; `engine.answers.math_equality`
    decides about other forms.
    """
    return fixed_point(_math_form, text) if len(text) <= LONGEST else None


def _math_form(text: str) -> str | None:
    written = _MATH_FENCE.sub("", text.replace(r"\$", "").replace(r"\%", "").replace("%", ""))
    written = written.replace("{,}", ",").replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")
    written = _MATH_SPACE.sub(" ", plain(written)).replace("−", "-")
    written = re.sub(r"\^\s?\{?\s?\\circ\s?\}?|°", "", written)
    written = _MATH_TEXT.sub(r"\1", _MATH_UNIT.sub("", written.strip()))
    written = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", written)
    written = _HALF_FRACTION.sub(lambda m: rf"\frac{{{m[1] or m[3]}}}{{{m[2] or m[4]}}}", written)
    written = re.sub(r"\s+", " ", written).strip().rstrip(".").strip()
    written = re.sub(r" ?([-+*/=<>(){},^_\[\]]) ?", r"\1", written)
    written = _ASSIGNED.sub("", written, count=1) if _ASSIGNED.match(written) else written
    if not re.search(r"\w", written) or written.count("{") != written.count("}"):
        return None
    if _PLAIN_NUMBER.fullmatch(written):
        return number_text(Fraction(written.replace(",", "").rstrip(".") or "0"))
    fraction = _PLAIN_FRACTION.fullmatch(written)
    if fraction:
        return rf"{fraction[1]}\frac{{{fraction[2]}}}{{{fraction[3]}}}"
    return written
