"""The canonical form of an answer of each type, which is counted, stored and trained on.

`engine.answers.extraction` finds answers in paths; this module only normalizes them. Every function
returns None for a text that is not an answer of its type. Normalization is idempotent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.answers.forms.markup import half_width, without_markup
from engine.answers.forms.numbers import LONGEST, plain

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
_ASKED = re.compile(
    r"\A\W*(?:yes(?: or |\s?/\s?)no|true(?: or |\s?/\s?)false)\s?[?:]\W*(?=\w)", re.I
)
"""The question, repeated before its answer."""
_TRUTH = re.compile(
    r"\W*(?:(?:the|this|that) (?:given |above |following )?"
    r"(?:statement|claim|assertion|sentence|hypothesis|conclusion|proposition)"
    r"|(?:it|this|that)(?=(?: is|'s|n't| was| not)+ (?:true|false)))"
    r"(?:'s| (?:is|was|must be))(?: (?:therefore|thus|clearly|definitely|actually))?"
    r"(?P<not> not|n't)?"
    r" (?:(?P<yes>true|correct|right)|(?P<no>false|incorrect|wrong))"
    r"(?=\W*$|[.,;!]| because\b| since\b| as\b)",
    re.I,
)
_VERDICT = (
    r"(?:yes|no|true|false|entail(?:ment|ed)|contradict(?:ion|ed)|neutral|maybe|unknown"
    r"|(?:it is |it's )?(?:not possible|impossible) to (?:tell|say))"
)
_SEVERAL = re.compile(
    r"\W*(?:(?:options|choices)\W+)?(?:(?:that |it )?(?:is|would be|could be) )?"
    rf"(?:(?:either|both) )?{_VERDICT}\b[\"'*]*"
    r"(?:,? (?:and|or|and/or|&|but)(?: also)? |\s?[/|]\s?"
    rf"|, (?={_VERDICT}\b\W*(?:$|,? or |, {_VERDICT})))[\"'*]*{_VERDICT}"
    r"(?:\W*$|[.,;:?!)/]| (?:or|at the same time)\b)",
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
_ABOUT = (
    r"\W*(?:(?:an?|the|it is|it's|this is|premise|hypothesis|text|passage|statement|sentence|is"
    r"|clearly|directly|therefore) )*"
)
_ENTAILED = re.compile(
    rf"{_ABOUT}(?:entail(?:ment|ed|s)|implied|definitely true)\b",
    re.I,
)
_CONTRADICTED = re.compile(
    rf"{_ABOUT}(?:contradict(?:ion|ed|s|ory)|not[ _-]entail(?:ment|ed)|refuted)\b",
    re.I,
)
_LETTERED = re.compile(r"\W*(?:option |choice )?(?:[(\[]([a-c])[)\]]|([a-c])(?:[).:]|$))\s*", re.I)


_LETTERED_VERDICT = re.compile(rf"[(\[][a-c][)\]] {_VERDICT}", re.I)
"""Of a list of the options."""


def _line(text: str) -> str:
    return plain(without_markup(half_width(text[:LONGEST])))


def yes_no(text: str) -> str | None:
    """`yes` or `no`; also from true and false. None for both (`yes and no`)."""
    line = _ASKED.sub("", _line(text), count=1)
    if _SEVERAL.match(line):
        return None
    truth = _TRUTH.match(line)
    if truth:
        return "yes" if (truth["yes"] is None) == (truth["not"] is not None) else "no"
    match = _YES_NO.match(line)
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
            return None if _LETTERED_VERDICT.search(rest) else inference(rest)
        number_of = LETTERS.index((lettered[1] or lettered[2]).upper())
        meant = options or INFERENCES
        return inference(meant[number_of]) if number_of < len(meant) else None
    if _SEVERAL.match(line):
        return None
    if _UNKNOWN.search(line[:80]):
        return UNKNOWN
    if _ENTAILED.match(line):
        return "yes"
    return "no" if _CONTRADICTED.match(line) else yes_no(line)


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
