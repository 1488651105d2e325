"""Numbers in words: `two hundred and five`, `two and a half`, `three quarters`, `half a dozen`."""

from __future__ import annotations

import re
from fractions import Fraction

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {word: value for value, word in enumerate(_ONES)} | {
    word: 10 * value for value, word in enumerate(_TENS, 2)
}
SCALES = {
    "hundred": 100,
    "thousand": 1000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
    "lakh": 10**5,
    "crore": 10**7,
}
_WORD = rf"(?:{'|'.join([*_WORDS, *SCALES])})"
SPELLED = re.compile(
    rf"\b(?:minus |negative )?{_WORD}"
    rf"(?:(?: |-| and |-and-|(?:(?<=thousand)|(?<=million)|(?<=billion)), ){_WORD}){{0,20}}\b",
    re.I,
)
_POINT = re.compile(rf" point((?: (?:{'|'.join(_ONES[:10])})\b){{1,20}})", re.I)

_PARTS = {
    "half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6,
    "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10, "twelfth": 12, "sixteenth": 16,
    "twentieth": 20, "hundredth": 100, "thousandth": 1000,
}  # fmt: skip
PART = rf"(?:{'|'.join(_PARTS)})"
_MAY_HAVE_PARTS = re.compile(r"hal[fv]|third|quarter|(?:[dfnrhx]|en)th|ieth", re.I)
_COUNT = rf"(?:{'|'.join(_ONES[1:])})"
_MIXED = re.compile(
    rf"(?P<whole>(?<![\w.,/])\d{{1,12}}|{SPELLED.pattern})[- ](?:and|&)[- ]"
    rf"(?:(?P<count>an?|{_COUNT})[- ])?(?P<part>{PART})s?\b(?! (?:past|to)\b)",
    re.I,
)
_FRACTION = re.compile(
    rf"(?<![\w-])(?:(?P<count>{_COUNT})[- ]|(?P<digits>(?<![\d.,/])\d{{1,6}})[- ]"
    rf"(?!halves|quarters))(?P<part>{PART})(?P<plural>s?)\b(?! (?:past|to)\b)",
    re.I,
)
_SINGULAR = re.compile(
    r"(?:two|three|four|five|six|seven|eight|nine)[- ]"
    r"(?:third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth)",
    re.I,
)
_AT_START = re.compile(
    r"^(?P<before>\W*)(?:half\b(?![-\w]| (?:past|to)\b)"
    r"|an? (?P<part>half|third|quarter)\b(?=\W*$|[,.;]| of\b))",
    re.I,
)
_HALF_A = re.compile(
    r"\b(?:(?:one[- ]|a )?half|an? (?P<part>quarter|third)) (?:an? )?"
    r"(?=(?:dozen|hundred|thousand|million|billion|trillion)\b)",
    re.I,
)


def spelled_value(text: str) -> Fraction | None:
    """The value of number words; None if they are several numbers, as `two and three`."""
    words = re.split(r"[ ,-]+", text.lower())
    negative = words[0] in ("minus", "negative")
    total, group, room, last_scale, previous = 0, 0, 99, 0, ""
    for word in words[negative:]:
        if word == "and":
            if previous not in SCALES:
                return None
            continue
        if word in _WORDS:
            value = _WORDS[word]
            if value > room or (value == 0 and previous):
                return None
            group, room = group + value, 9 if value >= 20 else 0
        elif word == "hundred":
            if group >= 100 or (group == 0 and previous):
                return None
            group, room = max(group, 1) * 100, 99
        else:
            scale = SCALES[word]
            if (group == 0 and previous) or (last_scale and scale >= last_scale):
                return None
            total, group, last_scale = total + max(group, 1) * scale, 0, scale
            room = 99 if scale >= 1000 else 0
        previous = word
    return Fraction(-(total + group) if negative else total + group)


def spelled_number(text: str, start: int) -> tuple[Fraction, int, int] | None:
    """The first number in words, as (value, start, end); None also if the words are several."""
    match = SPELLED.search(text, start)
    value = spelled_value(match[0]) if match else None
    if match is None or value is None:
        return None
    point = _POINT.match(text, match.end())
    if point is None:
        return value, *match.span()
    digits = "".join(str(_WORDS[word]) for word in point[1].lower().split())
    part = Fraction(int(digits), 10 ** len(digits))
    return value - part if value < 0 else value + part, match.start(), point.end()


def parts_in_digits(text: str) -> str:
    """Fractions in words as digits: `2 1/2` for `two and a half`, `2/3` for `two-thirds`."""
    if not _MAY_HAVE_PARTS.search(text):
        return text
    text = _MIXED.sub(_mixed, text)
    text = _HALF_A.sub(lambda match: f"1/{_PARTS[(match['part'] or 'half').lower()]} ", text)
    text = _FRACTION.sub(_fraction, text)
    return _AT_START.sub(
        lambda match: f"{match['before']}1/{_PARTS[(match['part'] or 'half').lower()]}", text
    )


def _mixed(match: re.Match[str]) -> str:
    whole = match["whole"]
    value = Fraction(int(whole)) if whole.isdigit() else spelled_value(whole)
    count = _WORDS.get((match["count"] or "one").lower(), 1)
    part = _PARTS[match["part"].lower()]
    is_scaled = re.split(r"[ -]", whole.lower())[-1] in SCALES  # a million and a half
    if value is None or count >= part or is_scaled:
        return match[0]
    return f"{value} {count}/{part}"


def _fraction(match: re.Match[str]) -> str:
    count = int(match["digits"] or _WORDS[match["count"].lower()])
    if count > 1 and not match["plural"] and not _SINGULAR.fullmatch(match[0]):
        return match[0]  # an ordinal
    return f"{count}/{_PARTS[match['part'].lower()]}"
