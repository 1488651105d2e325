"""Sentences, and the ends of texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

STATED = 600
"""Maximum length of an answer statement, in characters."""
_ABBREVIATIONS = (
    "St Mr Ms Mrs Dr Jr Sr No vs Mt Ft Rs Gen Lt Col Capt Sgt Maj Gov Sen Rep Prof Rev Pres"
    " Vol Inc Ltd Corp Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec"
)
_NOT_AFTER = "".join(rf"(?<!\b{word})" for word in _ABBREVIATIONS.split())
_NEW_SENTENCE = (
    r"(?:He|She|It|They|We|You|I|This|That|These|Those|There|The|His|Her|Its|Their|So|Therefore"
    r"|Thus|Hence|However|But|And|In|On|If|As|Because|Since|When|After)\b"
)
_UNITS = ("ft", "in", "lb", "lbs", "oz", "hr", "hrs", "min", "yd", "yds")
_SHORT_UNITS = "".join(rf"(?!(?<=\d {unit})\. \d)" for unit in _UNITS)
SENTENCE_END = re.compile(
    rf"(?=[.!?])(?<![\s.][A-Za-z])(?<!^[A-Za-z]){_NOT_AFTER}{_SHORT_UNITS}[.!?]+[\"')\]*]*(?=\s|$)"
    # "the U.S. They won" are two sentences, "J. K. Rowling" is one name.
    r"|\.(?:(?<=[.\s][A-Za-z]\.)|(?<=\b[JS]r\.)|(?<=\bInc\.)|(?<=\bLtd\.)|(?<=\bCorp\.))"
    rf"(?=\s+{_NEW_SENTENCE})"
)
DOLLARS = re.compile(r"\$\$?([^$\n]{1,400})\$|\\\((.{1,400}?)\\\)|\\\[(.{1,400}?)\\\]")
"""A formula between its delimiters."""


def first_sentence(text: str) -> str:
    """The first sentence; periods in numbers and after initials do not end it."""
    end = SENTENCE_END.search(text)
    return text[: end.start()] if end else text


def as_shown(stated: str) -> str:
    """The statement as shown to users: its first sentence, without surrounding marks."""
    return first_sentence(stated.strip()).strip(" \t\"'`*()[]<>")[:200] or stated.strip()[:200]


def last_sentence(line: str) -> str:
    """The last sentence of a line."""
    line = line.rstrip()
    starts = [match.end() for match in SENTENCE_END.finditer(line) if match.end() < len(line)]
    return line[starts[-1] if starts else 0 :].strip()


_ITEM = re.compile(r"(?:[-–—•*>]|\(?1[.)](?![^\n]*\n\s*\(?2[.)]))[ \t]+(?=\S)")


def item_start(line: str) -> int:
    """The length of the mark of a list, or of a quote, that a line begins with: `- 25` is 25."""
    mark = _ITEM.match(line)
    return mark.end() if mark else 0


_WORD = re.compile(r"\w")
_LAYOUT = re.compile(r"\s*(?:\\end\s?\{[a-z*]{1,20}\}[\s\\\])$]*|`{3}\w*\s*)$")
_DECORATION = re.compile(
    r"(?:[\s\u200d\u220e\u25a0-\u27bf\u2b00-\u2bff\ufe0f\U0001f000-\U0001faff]|\s[:;]-?[)D])+$"
)
_COURTESY = re.compile(
    r"\W*(?:(?:i |we )?hope (?:this|that|it|you)\b|(?:please )?(?:let me know|feel free)\b"
    r"|(?:do you|if you|should you) have any\b|would you like\b|is there anything\b"
    r"|(?:i am|i'm) (?:happy|glad|here) to\b|happy to help|good luck|great (?:job|question|work)\b"
    r"|thank(?:s| you)\b|you're welcome|have a (?:great|nice|good)\b)",
    re.IGNORECASE,
)


def last_line(text: str) -> str:
    """The last line with words, without courtesies, emojis and LaTeX or code fences behind it."""
    lines = text.splitlines()
    for number in range(len(lines) - 1, -1, -1):
        line = _without_courtesies(lines[number][-STATED:])
        if line and (line[0] not in "-–—" or _begins_formula(lines[:number])):
            return line
        if line:
            return line[item_start(line) :]
    return ""


def _begins_formula(lines: Sequence[str]) -> bool:
    """Whether a minus sign after these lines is part of a formula, and not the mark of a list."""
    before = next((line.strip() for line in reversed(lines) if line.strip()), "=")
    return before.endswith(("=", "\\[", "$$"))


def _without_courtesies(line: str) -> str:
    while _WORD.search(line) and not _LAYOUT.match(line):
        line = (line[:-40] + _DECORATION.sub("", line[-40:])).strip()
        sentence = last_sentence(line)
        if not _COURTESY.match(sentence):
            return line
        line = line[: len(line) - len(sentence)]
    return ""
