"""Remove what models put around an answer: tags, LaTeX around words, full-width characters."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 2_000
"""Maximum length of an answer with its markup, in characters."""

# Full-width characters.

_WIDE = re.compile(r"[！-～　、。｡､【】⒜-ⓩ\U0001d400-\U0001d7ff]")
_PUNCTUATION = {"。": ".", "｡": ".", "、": ",", "､": ",", "【": "[", "】": "]"}


def half_width(text: str) -> str:
    """Full-width, circled and mathematical letters and digits, and their punctuation, in ASCII."""
    if text.isascii():
        return text
    return _WIDE.sub(
        lambda match: _PUNCTUATION.get(match[0]) or unicodedata.normalize("NFKC", match[0]), text
    )


# Tags.

_NAME = r"(?:(?:final[ _-]?)?(?:answer|ans)|final|result)"
_OPENS = re.compile(
    rf"<\s?{_NAME}(?:\s[^<>\n]{{0,100}})?>|\[{_NAME}\]|<\|begin_of_box\|>", re.IGNORECASE
)
_CLOSES = re.compile(
    rf"<\s?/\s?{_NAME}\s?(?:>|$)|<\s?{_NAME}\s?/>|\[/{_NAME}\]|<\|end_of_box\|>", re.IGNORECASE
)


_HTML = re.compile(
    r"</?(?:b|i|u|em|strong|p|span|div|code|mark|center|font)(?:\s[^<>\n]{0,80})?>|<br\s?/?>",
    re.IGNORECASE,
)


def plain_tags(text: str) -> str:
    """The tags that models put around an answer, all as `<answer>` and `</answer>`.

    Tags of HTML that only change how words look are left out.
    """
    if "&lt;" in text:
        text = text.replace("&lt;", "<").replace("&gt;", ">")
    if "<" in text:
        text = _HTML.sub("", text)
    if "<" in text or "[" in text:
        text = _OPENS.sub("<answer>", _CLOSES.sub("</answer>", text))
    return text


def tagged(text: str, start: int) -> str | None:
    """What follows an `<answer>` that ends at `start`, up to its end tag; None without one."""
    end = text.find("answer>", start, start + LONGEST)
    if end < 0:
        return None
    return text[start:end].rstrip("/").rstrip("<").strip()


_JSON_VALUE = re.compile(
    r""""(?P<text>(?:[^"\\\n]|\\.){0,600})"|'(?P<single>[^'\n]{0,600})'|\[(?P<list>[^\[\]\n]{0,600})\]"""
    r"|(?P<bare>[^\s,{}\[\]\"'][^,{}\n]{0,100})"
)


def json_value(text: str, start: int) -> str:
    """The value at `start` of a JSON object; the parts of a list with `and` between them."""
    match = _JSON_VALUE.match(text, start)
    if match is None:
        return ""
    if match["list"] is not None:
        parts = (json_value(part.strip(), 0) for part in match["list"].split(","))
        return " and ".join(part for part in parts if part)
    value = match["text"] or match["single"] or match["bare"] or ""
    return value.replace('\\"', '"').replace("\\\\", "\\").strip()


# LaTeX around words.

_STYLE = (
    r"\\(?:text(?:bf|it|rm|sf|tt|sc|normal)?|math(?:bf|it|rm|sf|tt|bb|cal|normal)|mbox|hbox"
    r"|boldsymbol|bm|emph|underline|operatorname|boxed|fbox|framebox)\*?"
)
_STYLED = re.compile(
    rf"{_STYLE}\s?\{{([^{{}}]*)\}}|\{{\s?\\(?:bf|it|rm|sf|tt)\s([^{{}}]*)\}}|{_STYLE}\s([A-Za-z])\b"
)
_LOOKS = re.compile(
    r"\\(?:textcolor|color)\s?\{[^{}]*\}"
    r"|\\(?:displaystyle|textstyle|[lL]arge|LARGE|[hH]uge|small|bf|rm|it|tt|sf|bfseries)(?![A-Za-z])"
)
_FENCED = re.compile(r"\$\$?([^$]+)\$\$?")
_SPACING = re.compile(r"\\(?:[,;:!~ ]|quad\b|qquad\b)|(?<!\\)~|\\(?:left|right)(?![A-Za-z])")
_INSIDE_BRACKETS = re.compile(r"([(\[]) ?(\w) ?([)\]])")


def without_markup(text: str) -> str:
    """Words without the LaTeX around them: `(b)` for `$\\boxed{\\textbf{(b)}}$`."""
    if "\\" in text:
        text = _LOOKS.sub("", text[:LONGEST])
        for _ in range(4):
            text, styled = _STYLED.subn(
                lambda match: match[1] or match[2] or match[3] or "", text[:LONGEST]
            )
            if not styled:
                break
        text = _SPACING.sub(" ", re.sub(r"\\[()\[\]]", " ", text))
    if "$" in text:
        text = _FENCED.sub(r"\1", text[:LONGEST])
    return _INSIDE_BRACKETS.sub(r"\1\2\3", text)
