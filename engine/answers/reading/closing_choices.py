"""The choice in the closing sentence of a path without an answer statement."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.answers.forms import choices
from engine.answers.forms.markup import without_markup
from engine.answers.reading.sentences import as_shown

if TYPE_CHECKING:
    from collections.abc import Sequence

_THEREFORE = (
    r"(?:so|only|thus|therefore|hence|consequently|then|finally|overall|in conclusion|in summary"
    r"|(?:this|that|which) means|i(?:'d| would)? (?:think|believe|say|guess|conclude)"
    r"|i(?:'m| am) (?:(?:fairly|quite|pretty|very) )?(?:sure|certain|confident|going with))"
)
_IT_IS = (
    r"(?:(?:it|this|that|which|the description)?[ ]?"
    r"(?:matches|corresponds to|points to|gives(?: us)?|leaves(?: us)?(?: with)?(?: only)?)"
    r"|(?:the )?(?:answer|ans)(?: choice| option)?"
    r"|(?:(?:we|i|you|let us|let's) )?(?:choose|pick|select|go with|mark)"
    r"|(?:(?:the|my|correct|right|final|best) )*(?:choice|option|pick|letter|verdict) ?[:=]"
    r"|(?:it|this|that|my (?:final )?(?:choice|pick|guess|verdict|decision)|the (?:(?:only|correct"
    r"|right|best|final|remaining|most likely) )*(?:one|choice|option|letter|solution|fit|match))"
    r"(?: is|'s| must be| has to be| would be| should be| can only be)"
    r"(?: (?:therefore|thus|then|clearly|probably|definitely|(?:most )?likely|just|simply))?)"
)
_RULES_OUT = re.compile(r"\b(?:wrong|incorrect|not|never|false|ruled out|eliminated)\b", re.I)
_BEFORE_LETTER = re.compile(
    rf"(?:^|(?<=[.!?,;:–—] )|(?<=\band )|(?<=\bbut )|(?<=\bso )|(?<=\bthat ))\W*"
    rf"(?:(?:{_THEREFORE}[,:]? (?:that )?)+(?:{_IT_IS}:? )?|{_IT_IS}:? )",
    re.IGNORECASE,
)
_LETTER = re.compile(
    r"\W*(?:(?i:the )?(?i:option|choice|letter|answer) )?"
    r"(?:[(\[\"*]{0,3}[A-J](?!['’])(?:\W*$|[).:,;]|[]\"*]+(?!\w)| (?:because|since|as|it is)\b"
    r"| (?:holds|works|fits|satisfies|remains)\b"
    r"| is (?:the )?(?:only |most )?(?:correct|right|best|likely)\b)|[(\[][a-j][)\]])"
)


_CLOSEST = re.compile(
    r"\bbut (?:(?i:option|choice) )?[(\[]?([A-J])[)\]]? (?:is|comes|seems)(?: to be)?(?: the)?"
    r" (?:closest|nearest|best|most (?:likely|plausible))\b"
)


def closing_choice(closing: str, options: Sequence[str]) -> tuple[str, str] | None:
    """The letter, or the exact option, of a sentence such as `Therefore, it is (b).`"""
    line = without_markup(closing)
    closest = _CLOSEST.search(line)
    if closest:
        letter = choices.choice(closest[1], options)
        return (letter, closest[1]) if letter else None
    for match in reversed(list(_BEFORE_LETTER.finditer(line))):
        rest = line[match.end() :]
        if _LETTER.match(rest) or choices.option_with_text(rest, options):
            letter = choices.choice(rest, options)
            return (letter, as_shown(rest)) if letter else None
    return None


def bare_choice(text: str, options: Sequence[str]) -> tuple[str, str] | None:
    """A letter, or a text that can mean only one option and does not rule it out."""
    letter = choices.choice(text, options)
    is_sure = _LETTER.match(text) or choices.option_with_text(text, options)
    if letter is None or (not is_sure and _RULES_OUT.search(text)):
        return None
    return letter, as_shown(text)
