"""The canonical form of an answer of each type, which is counted, stored and trained on.

`engine.answers.extraction` finds answers in paths; this module only normalizes them. Every function
returns None for a text that is not an answer of its type. Normalization is idempotent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.answers.markup import half_width, without_markup
from engine.answers.numbers import LONGEST, plain

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
