"""Answers that a path takes back, or that it gives as someone else's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.answers.reading.closing_numbers import CONCLUDES
from engine.answers.reading.conclusions import concluded_answer
from engine.answers.reading.sentences import last_line, last_sentence
from store.enums import AnswerType

if TYPE_CHECKING:
    from collections.abc import Sequence

_DOUBTS = re.compile(
    r"(?:[.!?\n;]\W{0,6}(?=[a-z])|,? but \W{0,3}|, (?=no,? wait\b))"
    r"(?:(?:oh|no|hmm+|um|uh|but|and|yes|however)\b[\s,.:;…!—-]{1,4}){0,2}"
    r"(?P<marker>wait|hold on|actually|correction|oops|scratch that|sorry(?! for)"
    r"|on second thoughts?|upon (?:re-?checking|reflection|review)|no(?=[:,])"
    r"|let me (?:re-?(?:check|compute|calculate|consider|think|do|examine|read|evaluate)|correct"
    r"|double[ -]check|check again|fix)"
    r"|i (?:made (?:an?|one) (?:mistake|error)|forgot(?! to (?:mention|say|note))|missed|misread"
    r"|miscounted|was wrong)"
    r"|that(?:'s| is| was) (?:not right|not correct|wrong|incorrect)"
    r"|(?:the )?(?:second|other|next) part|part (?:2|two|b|\(b\)))\b"
    r"(?:\W{1,3}(?:no|wait|actually|sorry|hold on)\b(?!\W*$))?[\s,.:;…!—-]*",
    re.I,
)
"""Begins a sentence in which the path doubts an answer that it has stated."""
_WITHDRAWS = re.compile(
    r"\b(?:correction|oops|scratch|forgot(?! to (?:mention|say|note))|mistake|error|missed"
    r"|misread|miscounted"
    r"|(?:that|this|it|i|my \w+|the (?:answer|above|result))(?:['’]s|['’]m| is| was| am) "
    r"(?:wrong|incorrect)|re-?(?:compute|calculate|do)"
    r"|(?:not|n['’]t)(?: be)?(?: quite)? (?:right|correct)"
    r"|correct (?:this|that|it|myself))\b",
    re.I,
)
_CONFIRMS = re.compile(
    r"\W*yes\b|\bmatch(?:es)?\b|\bchecks? out\b|\bworks\b|\bconfirm(?:s|ed)?\b|\bverified\b"
    r"|\bagrees?\b|\bconsistent\b|\bas (?:before|expected)\b"
    r"|, which is (?:the (?:same|given)|what|given|correct|right|as|equal|consistent)\b"
    r"|\b(?:is|was|are|that's|it's|looks|seems) (?:indeed |still )?(?:correct|right|fine|good)\b",
    re.I,
)
_VERIFIES = re.compile(
    r"\b(?:verif(?:y|ying)|(?:double[ -])?check(?:ing)?|confirm|make sure|sanity)\b", re.I
)
_CONCLUDES_LATE = re.compile(r"[,;] (?:so|therefore|thus|hence)\b", re.I)
_LOOKED_AT = 300
"""Characters after a doubt in which the path says that its answer is wrong."""
_BARE = 5
"""Maximum number of words of a bare answer."""


def corrected_answer(
    answer_type: AnswerType, own: str, end: int, options: Sequence[str]
) -> tuple[str | None, str] | None:
    """The answer that replaces the last stated one, as (answer, shown).

    `The answer is 5. Wait, I forgot one. So there are 6.` The answer is None if the stated one is
    taken back and there is no other.

    Args:
        answer_type: decides what an answer is.
        own: the path.
        end: where its last answer statement ends.
        options: texts of the choices.

    Returns:
        None if the stated answer is not taken back.
    """
    doubt = _DOUBTS.search(own, end)
    if doubt is None:
        return None
    after = own[doubt.end() :]
    closing = last_sentence(last_line(after))
    is_bare = len(after.split()) <= _BARE
    answer = (
        concluded_answer(answer_type, after, options)
        if is_bare or answer_type is not AnswerType.SPAN
        else None
    )
    if _CONFIRMS.search(closing):
        return None
    if _WITHDRAWS.search(own[doubt.start() : doubt.start() + _LOOKED_AT]):
        return answer or (None, closing)
    is_value = answer_type in (AnswerType.NUMBER, AnswerType.MATH)
    if is_value and _VERIFIES.search(own[doubt.start() : doubt.start() + _LOOKED_AT]):
        return None  # the values of a check are not the answer
    concludes = is_bare or CONCLUDES.match(closing) or _CONCLUDES_LATE.search(closing)
    is_part = doubt["marker"].lower().find("part") >= 0
    return answer if concludes or is_part else None
