"""Where a path has given its answer, and what follows is no longer part of it.

The worked examples, and the instructions of a chat, ask for a last sentence of the form `The answer
is 5.` Some models do not end there: they say it again and again until the token limit cuts them
off, and the path abstains. A path ends after this sentence if

- a new line follows it,
- it is said again without another answer in between, or
- another sentence that follows it is said twice in a row.

Only this form counts, so that the answer that is read stays the same: after `The correct answer is
…`, a colon, or a conclusion within a sentence, paths do go on to another answer.
`python -m benchmarks.endings` compares what is read of whole paths and of paths that end here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.answers.extraction import extract
from store.enums import EndReason

if TYPE_CHECKING:
    from store.enums import AnswerType

_SENTENCE = re.compile(
    rb"(?<!\w)(?:(?:So|Thus|Therefore|Hence|Finally),? the|The) (?:final )?answer is "
    rb"(?:[^\n:.!?]|[.!?](?=\S)){1,60}[.!][^\w\s]{0,3}(?=\s)"
)
_NEW_LINE = re.compile(rb"[ \t\r]*\n")
_TWICE = re.compile(rb"(?P<words>[^.!?\n]{8,}[.!?])\s+(?P=words)\s")
_BEGINS = re.compile(rb"\s*[A-Z]")
"""A token that may begin the next sentence."""
_LOOKED_AT = 1000
"""Bytes before the newest token that are searched: about two hundred tokens."""


def may_follow_answer(piece: bytes) -> bool:
    """Whether a path may be known to have ended when it goes on with this token."""
    return b"\n" in piece or _BEGINS.match(piece) is not None


def end_of_answer(answer_type: AnswerType, path: bytes) -> int | None:
    """Where a path ends that has given its answer, in bytes; None if it goes on.

    Args:
        answer_type: a sentence that states no answer of this type does not count.
        path: the path up to a token that `may_follow_answer`.
    """
    start = max(0, len(path) - _LOOKED_AT)
    stated = list(_SENTENCE.finditer(path, start))
    if not stated:
        return None
    last, end = stated[-1], None
    if len(stated) > 1 and stated[-2][0] == last[0]:
        end = stated[-2].end()
    elif _NEW_LINE.match(path, last.end()) or _TWICE.search(path, last.end()):
        end = last.end()
    if end is None:
        return None
    text = path[:end].decode(errors="replace")
    return end if extract(answer_type, text, end=EndReason.STOP).answer is not None else None


_PLACES = re.compile(rb"\n|\s[A-Z]")


def end_in_text(answer_type: AnswerType, text: str) -> int | None:
    """Where a whole text would have ended, in characters; None if it would not have ended before
    its own end."""
    path = text.encode(errors="replace")
    for place in _PLACES.finditer(path):
        end = end_of_answer(answer_type, path[: place.end()])
        if end is not None:
            return len(path[:end].decode(errors="replace"))
    return None
