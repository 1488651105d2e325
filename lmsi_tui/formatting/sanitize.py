"""Make text safe for the terminal; all text of models and data sets passes through here.

Such text is untrusted: it may contain terminal escapes, markup, characters that change the writing
direction, or a line of a million letters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text
    from textual.content import Content

_CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (0x09, 0x0A)}
_CONTROLS |= {0x7F: 0x2421}
_CONTROLS |= dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F)), 0xFFFD)
_CONTROLS |= dict.fromkeys((*range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C), 0xFFFD)
_CONTROLS |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)


def printable(text: str) -> str:
    """The text with control, bidi and surrogate characters replaced by visible ones."""
    return text.translate(_CONTROLS)


def plain(text: str) -> Text:
    """The text for rich, without markup and control characters."""
    from rich.text import Text

    return Text(printable(text))


def content(text: str) -> Content:
    """The text for a widget, without markup and control characters."""
    from textual.content import Content

    return Content(printable(text))


def snippet(text: str, width: int) -> str:
    """The start of the text, on one line of at most `width` characters."""
    line = " ".join(printable(text[: 4 * width]).split())
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"
