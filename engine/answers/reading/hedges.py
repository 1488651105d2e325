"""Whether a statement gives the path's own answer: not as a supposition, nor as one of others."""

from __future__ import annotations

import re

from engine.answers.reading.sentences import STATED, first_sentence

_HYPOTHETICAL = re.compile(r"\b(?:if|whether|unless|suppose|assuming)\b[^.,:;\n]{0,40}\Z", re.I)
REPORTED = re.compile(
    r"(?:\b(?:common|typical|frequent|easy) (?:mistake|error|misconception)\b"
    r"|\b(?:(?:one|you|someone) (?:might|may|could|would)|(?:people|students|many|some|others|they)"
    r"(?: (?:might|may|could|would|will|often|wrongly|incorrectly|mistakenly)){0,2}) "
    r"(?:think|say|guess|assume|conclude|believe|answer|suppose|argue|claim|expect)\b"
    r"|\bat first (?:glance|sight|look)\b|\btempt(?:ing|ed)\b"
    r"|\b(?:wrong|incorrect) to (?:say|think|claim)\b"
    r"|\bprevious (?:example|question|problem)\b)"
    r"(?:(?!\b(?:so|thus|therefore|hence|then|but)\b)[^.!?\n]){0,80}\Z"
    r"|\b(?:wrong|incorrect|naive) \Z",
    re.I,
)
"""Before a statement of an answer that is not the path's own."""
_CONDITIONAL = re.compile(
    r"(?:^|[.!?:\n]\s{0,4})(?:(?:also|note|however|but)(?: that)?[:,]? )?"
    r"(?:if|suppose|assuming|had)\b[^.!?\n]{0,150}, (?:then )?(?:the |my )?\Z",
    re.I,
)
_IF = re.compile(r"\b(?:if|without|otherwise|had)\b", re.I)


def is_of_others(match: re.Match[str], before: str) -> bool:
    """Whether a statement is a supposition, or not the path's own answer."""
    is_supposed = match[0][0].isalpha() and _HYPOTHETICAL.search(before[-60:])
    return bool(is_supposed or REPORTED.search(before))


def is_conditional(match: re.Match[str], before: str, own: str) -> bool:
    """Whether a statement says what the answer would be under a condition."""
    if _CONDITIONAL.search(before):
        return True
    sentence = before[before.rfind(". ") + 1 :] + first_sentence(
        own[match.end() : match.end() + STATED]
    )
    return " would " in match[0] and _IF.search(sentence) is not None
