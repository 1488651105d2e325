"""Parse numbers with commas, currencies, units and fractions, in words and in LaTeX."""

from __future__ import annotations

import re
from fractions import Fraction

LONGEST = 1000
"""Maximum number of characters that are parsed: an answer is not longer."""

_EMPHASIS = re.compile(
    r"(?<!\d)\*\*|\*\*(?!\d)|(?<![\w*\s])\*(?=\S)|(?<![^\s])\*(?=\S)|(?<=\S)\*(?![\w*])"
    r"|`|(?<!\w)__?(?=\w)|(?<=\w)__?(?!\w)"
)
_THIN = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3})")
_SPACES = re.compile(r"\s+")


def plain(text: str) -> str:
    """One line without Markdown emphasis, with simple spaces."""
    return _SPACES.sub(" ", _EMPHASIS.sub("", _THIN.sub("", text[:LONGEST]))).strip()


_CURRENCY = r"(?:US\$|USD|EUR|GBP|Rs\.?|[$€£¥₹])"
_AMOUNT = re.compile(
    rf"""
    (?<![\w.])
    (?P<sign>[-−–+]|\b(?:minus|negative)\s)?
    (?:{_CURRENCY}\s?)?(?P<inner>[-−–])?
    (?:(?P<whole>\d{{1,3}}(?:,\d{{2,3}}){{0,12}},\d{{3}}(?!\d)|\d{{1,40}}(?!\d))(?P<part>\.\d{{1,40}})?
       |(?P<only>\.\d{{1,40}}))
    (?:(?P<over>[ ]\d{{1,9}})?[ ]?/[ ]?(?P<under>\d{{1,20}})(?![\d.]))?
    (?:e(?P<power>[-+]?\d{{1,2}})\b)?
    (?:[ ]?(?P<scale>hundred|thousand|million|billion|trillion|k)\b)?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SCALES = {
    "hundred": 100,
    "thousand": 1000,
    "k": 1000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_GOES_ON = re.compile(r"\d|,\d|:\d| ?[*×·+÷^=/]| ?x ?\d| ?[-−–] ?[($]?[\d.]|\.\d|[xyzn]\b| ?\(\d")
_SEVERAL = re.compile(
    r"%?(?: \w{1,20})?,? or (?:about |maybe |even )?(?=[$€£]?[\d.])|%? to (?=[$€£]?\d)", re.I
)
_BETWEEN = re.compile(r"\bbetween\b\W{0,4}$", re.I)
_OPERAND_BEFORE = re.compile(r"[\w)] ?[-−–*×·+÷^/] ?[($]?$")

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORDS = {word: value for value, word in enumerate(_ONES)} | {
    word: 10 * value for value, word in enumerate(_TENS, 2)
}
_WORD = rf"(?:{'|'.join([*_WORDS, 'hundred', 'thousand', 'million'])})"
SPELLED = re.compile(rf"\b(?:minus |negative )?{_WORD}(?:(?: |-| and ){_WORD}){{0,20}}\b", re.I)

LATEX_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|boldsymbol)\s?\{([^{}]*)\}")
_LATEX_FRACTION = re.compile(r"\\[dtc]?frac\s?(?:\{([^{}]*)\}\s?\{([^{}]*)\}|(\d)(\d))")
_LATEX_WORDS = (
    ("{,}", ","),
    (r"\$", "$"),
    (r"\%", "%"),
    (r"\times", "*"),
    (r"\cdot", "*"),
    (r"\approx", "="),
    ("≈", "="),
    (r"\left", ""),
    (r"\right", ""),
)
_LATEX_SPACE = re.compile(r"\\[,;:!() \[\]]|\\quad|~")


def without_latex(text: str) -> str:
    """Simple arithmetic in LaTeX as plain text."""
    if "\\" in text or "{" in text or "≈" in text:
        text = _LATEX_FRACTION.sub(
            lambda match: f" {match[1] or match[3]}/{match[2] or match[4]}", text
        )
        text = LATEX_TEXT.sub(r" \1 ", text)
        for latex, plain_text in _LATEX_WORDS:
            text = text.replace(latex, plain_text)
        text = _LATEX_SPACE.sub("", text)
    return text


def number_text(value: Fraction) -> str:
    """A decimal if it is finite (`9`, `-4.5`), else a reduced fraction (`1/3`)."""
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    places = max(twos, fives)
    if not places:
        return str(value.numerator)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' * (value < 0)}{digits[:-places]}.{digits[-places:]}"


def _value(match: re.Match[str]) -> Fraction | None:
    """The value of a match of `_AMOUNT`; None for a division by zero."""
    whole = (match["whole"] or "").replace(",", "")
    value = Fraction(f"{whole or '0'}{match['part'] or match['only'] or ''}")
    if match["under"]:
        under = int(match["under"])
        if under == 0:
            return None
        value = value + Fraction(int(match["over"]), under) if match["over"] else value / under
    value *= Fraction(10) ** int(match["power"] or 0)
    value *= _SCALES.get((match["scale"] or "").lower(), 1)
    negative = (match["sign"] or "+")[0] not in "+" or match["inner"]
    return -value if negative else value


def spelled_value(text: str) -> Fraction:
    """The value of number words such as `two hundred and five`."""
    total = group = 0
    words = re.split(r"[ -]", text.lower())
    for word in words:
        if word in _WORDS:
            group += _WORDS[word]
        elif word == "hundred":
            group = max(group, 1) * 100
        elif word in _SCALES:
            total, group = total + max(group, 1) * _SCALES[word], 0
    value = Fraction(total + group)
    return -value if words[0] in ("minus", "negative") else value


def _names_another(after: str, value: Fraction | None) -> bool:
    """Whether another number follows, as in `5 or 6`; `1/2 or 0.5` is the same number twice."""
    several = _SEVERAL.match(after[:60])
    if several is None:
        return False
    other = _AMOUNT.match(after[several.end() :])
    return other is None or _value(other) != value


def first_number(text: str) -> tuple[Fraction, int, int] | None:
    """The number that a statement gives, as (value, start, end) in `plain` text.

    The number after the last equals sign, if there is one; a number in words only if there are no
    digits. None if the first number is part of an expression, a list, a time or a range.
    """
    start = text.rfind("=") + 1
    match = _AMOUNT.search(text, start)
    if match:
        before, after = text[start : match.start()], text[match.end() : match.end() + 8]
        if _OPERAND_BEFORE.search(before[-8:]) or _GOES_ON.match(after):
            return None
        value = _value(match)
        if _BETWEEN.search(before[-16:]) or _names_another(text[match.end() :], value):
            return None
        return (value, *match.span()) if value is not None else None
    spelled = SPELLED.search(text, start)
    if spelled and not re.search(r"\d", text[start:]):
        return (spelled_value(spelled[0]), *spelled.span())
    return None


def number_in(text: str) -> str | None:
    """The number that an answer statement gives, with any words around it."""
    first = first_number(plain(without_latex(text[:LONGEST])))
    return number_text(first[0]) if first else None


_HALF_WORDS = {"half": "0.5", "one half": "0.5", "a half": "0.5", "a dozen": "12", "none": "0"}
_BEFORE_NUMBER = re.compile(
    r"(?:[a-z] ?=|about|approximately|around|exactly|is|[=:(\[\"'~$]| )*", re.I
)
_AFTER_NUMBER = re.compile(r"[^\d=+*/<>]*")


def number(text: str) -> str | None:
    """`text` as a number, if it is a number with at most a few words of unit."""
    line = plain(without_latex(text[:LONGEST]))
    if line.rstrip(".").lower() in _HALF_WORDS:
        return _HALF_WORDS[line.rstrip(".").lower()]
    first = first_number(line)
    if first is None or len(line) > 120:
        return None
    value, start, end = first
    before = line[line.rfind("=", 0, start) + 1 : start]
    after = line[end:]
    fits = _BEFORE_NUMBER.fullmatch(before) and _AFTER_NUMBER.fullmatch(after)
    return number_text(value) if fits and len(after.split()) <= 4 else None
