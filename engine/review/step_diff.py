"""A path as steps, and where two paths part.

Two models of the same arithmetic seldom use the same words, so the first difference that a person
wants to see is not the first other word: it is the first step that states a value which the other
path never states.
"""

from __future__ import annotations

import itertools
import re
from decimal import Decimal, InvalidOperation

_BOUNDARY = re.compile(
    r"\n+[ \t]*"
    r"|(?<=[.!?])(?<!\b[A-Z]\.)(?<!\bMr\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)"
    r"(?<!\bvs\.)(?<!\be\.g\.)(?<!\bi\.e\.)[\"')\]*]{0,4}[ \t]+"
)
"""Between two steps: the end of a line, or of a sentence."""
_VALUE = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+")


def split_steps(text: str) -> tuple[str, ...]:
    """The steps of a path, lines and sentences; put together again they are the text.

    A step keeps the white space that follows it. A text without any word is one step; an empty one
    has none.
    """
    if not text:
        return ()
    end = len(text.rstrip())
    cuts = [0]
    for found in _BOUNDARY.finditer(text):
        if text[cuts[-1] : found.end()].strip() and found.end() < end:
            cuts.append(found.end())
    return tuple(text[a:b] for a, b in itertools.pairwise([*cuts, len(text)]))


def first_difference(
    left: tuple[str, ...], right: tuple[str, ...]
) -> tuple[int | None, int | None]:
    """The place in each path at which it first differs from the other one.

    What both begin with, in the same words, is passed over. Then it is the first step that states
    a value that the other path never states; where there is none, the first step in other words.

    Returns:
        A step of each, from 0; None where the path has no step that differs.
    """
    common = 0
    for a, b in zip(left, right, strict=False):
        if _words(a) != _words(b):
            break
        common += 1
    if common == len(left) == len(right):
        return None, None
    return _differs(left, right, common), _differs(right, left, common)


def _differs(own: tuple[str, ...], other: tuple[str, ...], start: int) -> int | None:
    known = set(itertools.chain.from_iterable(map(_values, other)))
    for place in range(start, len(own)):
        if not _values(own[place]) <= known:
            return place
    return start if start < len(own) else None


def _words(step: str) -> str:
    return " ".join(step.split()).casefold()


def _values(step: str) -> set[Decimal | str]:
    found: set[Decimal | str] = set()
    for one in _VALUE.findall(step):
        try:
            found.add(Decimal(one.replace(",", "")).normalize())
        except InvalidOperation:
            found.add(one)
    return found
