"""Split a path into steps and find the first step at which two paths diverge.

Two paths with the same arithmetic rarely use the same words. So the first difference worth showing
is not the first different word but the first step with a value that the other path never states.
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
"""The boundary between two steps: the end of a line or of a sentence."""
_VALUE = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+")


def split_steps(text: str) -> tuple[str, ...]:
    """Split a path into steps: lines and sentences. Joined, they give the text again.

    A step keeps the white space that follows it. A text without words is one step; an empty text
    has none.
    """
    if not text:
        return ()
    end = len(text.rstrip())
    cuts = [0]
    for boundary in _BOUNDARY.finditer(text):
        if text[cuts[-1] : boundary.end()].strip() and boundary.end() < end:
            cuts.append(boundary.end())
    return tuple(text[a:b] for a, b in itertools.pairwise([*cuts, len(text)]))


def first_difference(
    left: tuple[str, ...], right: tuple[str, ...]
) -> tuple[int | None, int | None]:
    """Find the first step in each path that differs from the other path.

    After the common beginning, that is the first step with a value that the other path never
    states or, if there is none, the first step in different words.

    Returns:
        The index of the step in each path; None if a path has no step that differs.
    """
    common = 0
    for a, b in zip(left, right, strict=False):
        if _words(a) != _words(b):
            break
        common += 1
    if common == len(left) == len(right):
        return None, None
    return _first_new(left, right, common), _first_new(right, left, common)


def _first_new(own: tuple[str, ...], other: tuple[str, ...], start: int) -> int | None:
    stated = set(itertools.chain.from_iterable(map(_values, other)))
    for index in range(start, len(own)):
        if not _values(own[index]) <= stated:
            return index
    return start if start < len(own) else None


def _words(step: str) -> str:
    return " ".join(step.split()).casefold()


def _values(step: str) -> set[Decimal | str]:
    values: set[Decimal | str] = set()
    for number in _VALUE.findall(step):
        try:
            values.add(Decimal(number.replace(",", "")).normalize())
        except InvalidOperation:
            values.add(number)
    return values
