"""Extract the answer of a path.

A reader looks for the path's answer statement: the last one, outside its thoughts, before the
model continues with another question. Each answer type has a reader with a version: raise it
whenever its results change, so that the answers of stored paths are extracted again
(`docs/readers.md`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answers.forms import choices, normalization, numbers, spans
from engine.answers.forms.markup import half_width, plain_tags, without_markup
from engine.answers.formulas import math_structure
from engine.answers.formulas.form import math_text
from engine.answers.reading.conclusions import concluded_answer
from engine.answers.reading.corrections import corrected_answer
from engine.answers.reading.refusals import refuses
from engine.answers.reading.statements import first_statement_end, stated_answer
from engine.answers.reading.thoughts import own_turn
from store.enums import Abstention, AnswerType, EndReason

if TYPE_CHECKING:
    from collections.abc import Sequence

_VERSIONS = {
    AnswerType.NUMBER: 3,
    AnswerType.CHOICE: 3,
    AnswerType.YES_NO: 2,
    AnswerType.NLI: 2,
    AnswerType.SPAN: 2,
    AnswerType.MATH: 3,
}

_SEARCHED = 20_000
"""Characters at the end of a path that are searched: an answer statement comes last."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """The answer of a path; exactly one of `answer` and `abstention` is None."""

    answer: str | None
    """Canonical form."""
    shown: str | None
    """The answer as the path wrote it."""
    abstention: Abstention | None


def reader_name(answer_type: AnswerType) -> str:
    """Name and version of the reader of a type, such as `number/1`."""
    return f"{answer_type}/{_VERSIONS[answer_type]}"


def extract(
    answer_type: AnswerType, text: str, *, options: Sequence[str] = (), end: EndReason
) -> Extraction:
    """Extract the answer that a path states.

    Args:
        answer_type: decides the reader.
        text: the path as generated, of any length and content.
        options: texts of the choices, for `CHOICE` (and for letters in `NLI`).
        end: a truncated path abstains, whatever it states.
    """
    if end is EndReason.LENGTH:
        return Extraction(None, None, Abstention.TRUNCATED)
    own = own_words(answer_type, text, options)
    if not own.strip():
        only_thinks = bool(text.strip())
        return Extraction(None, None, Abstention.NO_ANSWER if only_thinks else Abstention.EMPTY)
    own = plain_tags(half_width(own))
    statement = stated_answer(answer_type, own, options)
    found: tuple[str | None, str] | None
    if statement is None:
        found = concluded_answer(answer_type, own, options)
    else:
        found = corrected_answer(answer_type, own, statement[2], options) or statement[:2]
    if found is None or found[0] is None:
        return Extraction(None, None, Abstention.NO_ANSWER)
    answer, shown = found
    takes_words = answer_type in (AnswerType.SPAN, AnswerType.MATH)
    if takes_words and refuses(without_markup(shown)):
        return Extraction(None, None, Abstention.NO_ANSWER)
    return Extraction(answer, shown, None)


def canonical(answer_type: AnswerType, text: str, options: Sequence[str] = ()) -> str | None:
    """The canonical form of a bare answer; None if it is not of the type."""
    match answer_type:
        case AnswerType.NUMBER:
            return numbers.number(text)
        case AnswerType.CHOICE:
            return choices.choice(text, options)
        case AnswerType.YES_NO:
            return normalization.yes_no(text)
        case AnswerType.NLI:
            return normalization.inference(text, options)
        case AnswerType.SPAN:
            return spans.span(text)
        case AnswerType.MATH:
            return math_text(text)


def equal(answer_type: AnswerType, a: str, b: str) -> bool:
    """Whether two canonical answers are the same answer.

    Numbers are compared exactly. `MATH` compares structure (`math_structure`), and
    single values with math-verify, in a separate process and for a limited time.
    """
    if a == b:
        return True
    if answer_type is AnswerType.SPAN:
        return spans.spans_equal(a, b)
    if answer_type is not AnswerType.MATH:
        return False
    return math_structure.same(a, b)


# The path's own words.

_STARTS_ANEW = re.compile(
    r"\n[ \t]*\*{0,2}Q\d{0,4}\*{0,2}[:.]\*{0,2}(?:\s|$)"
    r"|\n[ \t]*(?:#{1,4} ?|\*\*)?(?:Human|User)(?:\*\*)?:"
)
"""Begins a new question or a new turn."""
_TASK = (
    r"(?:Question|Problem|Exercise|Example|Instruction|Passage|Premise|Input|Context|Assistant|Task"
    r"|Follow-?up|Quiz|Your turn)"
)
_MAY_START_ANEW = re.compile(
    rf"\n[ \t]*(?:#{{1,4}} ?|\*\*|\[)?"
    rf"(?:{_TASK}|(?:Next|New|Similar|Another|Related|Bonus|Practice|Extra|Additional"
    rf"|Second|Follow-?up) (?i:{_TASK}))\b"
    r" ?#?\d{0,4}(?:\*\*|\])?[:.\]\n]"
    r"|(?:\n[ \t]*|(?<=[.!?] ))(?i:(?:(?:now|next|then),? )?"
    r"(?:let'?s|let us|here(?:'s| is)|moving on to|try)) "
    r"(?i:(?:now )?(?:try|do|solve|look at|move on to|consider|work on|take)? ?"
    r"(?:another|the next|a (?:new|similar|different)|one more) "
    r"(?:one|problem|question|exercise|puzzle|task)\b)"
)
"""Begins a new question after the answer, but may be part of the reasoning before it."""
_GIVES_QUESTION = re.compile(
    rf"\W*(?:{_TASK}|Hypothesis|Sentence|Options)\b ?#?\d{{0,4}}\W*[:.\n]"
    r"|\W*(?i:sure|ok(?:ay)?|certainly|of course|all ?right|no problem|let|here|first|step|given"
    r"|suppose|assume|below|the (?:question|passage|problem)|this|i|we|you|to)\b"
)
"""Begins the question repeated, or words before it, and not an answer."""
_BARE = 5
"""Maximum number of words of an answer that no blank line separates from the next question."""
_ANNOTATION = re.compile(r"<<[^<>\n]{0,200}>>")


def own_words(answer_type: AnswerType, text: str, options: Sequence[str] = ()) -> str:
    """The end of the path's own text: outside its thoughts, before another question begins.

    A heading such as `Question:` begins another one if the text before it gives an answer; else it
    may be the path's own question, repeated.
    """
    text = plain_tags(half_width(own_turn(text)))
    anew = _STARTS_ANEW.search(text)
    text = text[: anew.start()] if anew else text
    own = _ANNOTATION.sub("", text[-_SEARCHED:])
    anew = _MAY_START_ANEW.search(own)
    if anew is None:
        return own
    before = own[: anew.start()]
    is_apart = anew[0].startswith("\n") and before.endswith("\n")
    if (
        (is_apart or len(before.split()) <= _BARE)
        and not _GIVES_QUESTION.match(before)
        and concluded_answer(answer_type, before, options)
    ):
        return before
    stated = first_statement_end(own)
    anew = None if stated is None else _MAY_START_ANEW.search(own, stated)
    return own[: anew.start()] if anew else own
