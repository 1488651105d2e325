"""Make text safe for the terminal; all text of models and data sets passes through here.

Such text is untrusted: it may contain terminal escapes, markup, characters that change the writing
direction, hundreds of marks on one letter, or a line of a million letters.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from store.counted import counted

if TYPE_CHECKING:
    from rich.text import Text
    from textual.content import Content

LONGEST = 20_000
"""Most characters of a text in a widget: laying out more takes longer than a key press may."""

_BIDI = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)
_CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (0x09, 0x0A)}
_CONTROLS |= {0x7F: 0x2421}
_CONTROLS |= dict.fromkeys((*range(0x80, 0xA0), *_BIDI), 0xFFFD)
_CONTROLS |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)
_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in _CONTROLS if code >= 0x7F}

_MARKS = 8
"""Most characters without a width in a row; no writing system needs more on one letter."""
_WITHOUT_WIDTH = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff"  # invisible
    "\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0711"
    "\u0730-\u074a\u07a6-\u07b0\u07eb-\u07f3\u0816-\u082d\u0859-\u085b\u0898-\u0902\u093c\u0941-"
    "\u0948\u094d\u0951-\u0957\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece"
    "\u0f18-\u0f39\u0f71-\u0fbc\u135d-\u135f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u2cef-\u2cf1"
    "\u2de0-\u2dff\u302a-\u302f\u3099\u309a\ua66f-\ua69f\ua6f0\ua6f1\ua802-\ua826\ua8e0-\ua8f1"
    "\ufe20-\ufe2f\U0001d165-\U0001d1ad\U0001e000-\U0001e02a"  # combining
)
_STORM = re.compile(f"([{_WITHOUT_WIDTH}]{{{_MARKS}}})([{_WITHOUT_WIDTH}]+)")


def printable(text: str) -> str:
    """The text with control, bidi and surrogate characters replaced by visible ones.

    Of many marks on one letter, the first are kept.
    """
    if text.isascii():
        return text if text.isprintable() else text.translate(_CONTROLS)
    return _STORM.sub("\\1\ufffd", text.translate(_CONTROLS))


def excerpt(text: str) -> str:
    """The text, printable, for a widget; of a very long one, the start, and how much follows."""
    if len(text) <= LONGEST:
        return printable(text)
    return f"{printable(text[:LONGEST])}… ({counted(len(text) - LONGEST, 'more character')})"


def plain(text: str) -> Text:
    """The text for rich, without markup and control characters."""
    from rich.text import Text

    return Text(excerpt(text))


def content(text: str) -> Content:
    """The text for a widget, without markup and control characters."""
    from textual.content import Content

    return Content(excerpt(text))


def snippet(text: str, width: int) -> str:
    """The start of the text, on one line of at most `width` characters."""
    line = " ".join(printable(text[: 4 * width]).split())
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"


def json_line(value: object, *, only_ascii: bool = False) -> str:
    """The value as JSON on one line, with characters that `printable` replaces as escapes."""
    try:
        text = json.dumps(value, ensure_ascii=only_ascii, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=only_ascii)
    if text.isascii():
        return text.replace("\x7f", "\\u007f")
    return _STORM.sub(_escape_storm, text.translate(_JSON_ESCAPES))


def _escape_storm(match: re.Match[str]) -> str:
    return match[1] + json.dumps(match[2])[1:-1]


def _finite(value: Any) -> Any:
    """The value with `null` for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and value - value != 0 else value
