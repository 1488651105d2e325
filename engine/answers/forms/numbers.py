"""Parse numbers with commas, currencies, units and fractions, in words and in LaTeX.

A number is read whole or not at all: if what surrounds the digits changes their value in a way that
is not understood (`3x`, `5 ft 3 in`, `5 or 6`), there is no number. `number_context`
decides that.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache

from engine.answers.forms.number_context import (
    changed_after,
    changed_before,
    is_money_after,
    without_parts,
)
from engine.answers.forms.spelled_numbers import SCALES, parts_in_digits, spelled_number

LONGEST = 1000
"""Maximum number of characters that are parsed: an answer is not longer."""
_LONGEST_FORM = 100
"""Maximum number of characters of a number."""

_EMPHASIS = re.compile(
    r"(?<!\d)\*\*|\*\*(?!\d)|(?<![\w*\s])\*(?=\S)|(?<![^\s])\*(?=\S)|(?<=\S)\*(?![\w*])"
    r"|`|(?<!\w)__?(?=\w)|(?<=\w)__?(?!\w)"
)
_THIN = re.compile(r"(?<=\d)(?:[\u00a0\u2009\u202f](?=\d{3})|_(?=\d{3}(?!\d)))")
_SPACES = re.compile(r"\s+")


def plain(text: str) -> str:
    """One line without Markdown emphasis, with simple spaces."""
    return _SPACES.sub(" ", _EMPHASIS.sub("", _THIN.sub("", text[:LONGEST]))).strip()


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


# Digits in all notations as plain ones.

_BRACED_POWER = re.compile(r"\^\s?\{\s?([-+−]?\d{1,4})\s?\}")
_DEGREES = re.compile(r"\^\s?\{?\s?\\circ\s?\}?|\\degree(?![a-zA-Z])")
_UNIT_POWER = re.compile(r"(?<=[a-zA-Z])\^\s?\{?([23])\}?(?!\d)")
_LATEX_MARKS = re.compile(
    r"\\(?P<name>geq?|leq?|neq?|gt|lt|pm|pi|infty|sqrt|sim|div|ldots|dots|cdots|boxed|fbox"
    r"|displaystyle|implies|Rightarrow|rightarrow|to|therefore|pounds|quad|qquad)(?![a-zA-Z])"
    r"|\\(?P<space>[,;: ])|\\(?P<none>!)"
)
_NAMES = {
    "ge": "≥", "geq": "≥", "le": "≤", "leq": "≤", "ne": "≠", "neq": "≠", "gt": " > ", "lt": " < ",
    "pm": "±", "pi": "π", "infty": "∞", "sqrt": "√", "sim": "~", "div": "÷", "boxed": "",
    "fbox": "", "displaystyle": "", "implies": "=", "Rightarrow": "=", "rightarrow": "=", "to": "=",
    "therefore": "", "pounds": "£", "quad": " ", "qquad": " ",
}  # fmt: skip
_BRACED = re.compile(r"(√?)(?<!frac)(?<!frac )\{\s?([^{}]{0,60}?)\s?\}")
_VULGAR = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5",
    "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅐": "1/7", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8",
    "⅑": "1/9", "⅒": "1/10",
}  # fmt: skip
_OTHER_FORMS = re.compile(
    rf"(?P<vulgar>[{''.join(_VULGAR)}])|(?<=[\d)])(?P<power>[⁻⁺]?[⁰¹²³⁴-⁹]+)|⁄"
)
_TIMES_ROOT = re.compile(r"(?<![\w.,/])(\d{1,9}) ?√ ?(?:\((?=\d+\)))?(\d{1,9})\b(?![.,/^]\d)\)?")
_TIMES_TEN = re.compile(r"(?<=\d) times (?=10\b)")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")


def _in_plain_digits(text: str) -> str:
    """One line in which fractions, powers and LaTeX are written in digits and signs."""
    if "\\" in text or "^" in text:
        text = _DEGREES.sub("°", text)
        text = _BRACED_POWER.sub(r"^\1", text)
        text = _UNIT_POWER.sub(lambda match: "²" if match[1] == "2" else "³", text)
        text = _LATEX_FRACTION.sub(
            lambda match: f" {match[1] or match[3]}/{match[2] or match[4]}", text
        )
        text = LATEX_TEXT.sub(r" \1 ", _LATEX_MARKS.sub(_latex_mark, text))
        text = _LATEX_FRACTION.sub(r" \1\3/\2\4", LATEX_TEXT.sub(r" \1 ", text))
    if "{" in text:
        text = _BRACED.sub(lambda match: match[1] + match[2], text)
    text = plain(without_latex(text))
    if "√" in text:
        text = _TIMES_ROOT.sub(_times_root, text)
    text = without_parts(text)
    if not text.isascii():
        text = _OTHER_FORMS.sub(_other_form, text).replace("  ", " ")
    return parts_in_digits(_TIMES_TEN.sub("*", text))


def _times_root(match: re.Match[str]) -> str:
    root = math.isqrt(int(match[2]))
    return str(int(match[1]) * root) if root * root == int(match[2]) else match[0]


def _latex_mark(match: re.Match[str]) -> str:
    if match["name"]:
        return _NAMES.get(match["name"], "...")
    return " " if match["space"] else ""


def _other_form(match: re.Match[str]) -> str:
    if match["vulgar"]:
        return f" {_VULGAR[match['vulgar']]}"
    return f"^{match['power'].translate(_SUPERSCRIPTS)}" if match["power"] else "/"


# Amounts.

_CURRENCY = r"(?:US\$|USD|EUR|GBP|Rs\.?|[$€£¥₹])"
_AMOUNT = re.compile(
    rf"""
    (?<![\w.])(?P<root>√[ ]?\(?)?
    (?P<sign>[-−–+]|[-−][ ]|\b(?:minus|negative)\s)?
    (?P<money>{_CURRENCY}\s?)?(?P<inner>[-−–])?
    (?:(?P<whole>\d{{1,3}}(?:,\d{{2,3}}){{0,12}},\d{{3}}(?!\d)
               |[1-9]\d{{0,2}}(?:[ ]\d{{3}}){{1,6}}(?![\d'’]|[ ]?/)
               |\d{{1,3}}(?:['’]\d{{3}}){{1,6}}(?!\d)
               |\d{{1,3}}(?:,[ ]000){{1,4}}(?!\d)
               |\d{{1,{_LONGEST_FORM}}}(?!\d))(?P<part>\.\d{{1,{_LONGEST_FORM}}})?
       |(?P<only>\.\d{{1,40}}))
    (?:(?P<over>[ ](?:and[ ])?\d{{1,9}})?[ ]?/[ ]?(?P<under>\d{{1,20}})(?!\d|\.\d))?
    (?P<factorial>!(?![!=\w]))?
    (?:e(?P<power>[-+]?\d{{1,2}})\b)?
    (?:(?P<ten>[ ]?[*×x·⋅][ ]?10)?[ ]?(?:\^|\*\*)[ ]?\(?(?P<exponent>[-+−]?\d{{1,3}})\)?(?!\.?\d))?
    (?P<scales>(?:[ -]?(?:{"|".join(SCALES)})s?\b){{0,2}})
    (?P<letters>[ ]?(?:k|mm?|b|t|bn|mn|mln|mio|mil|tn|trn|cr|lacs?|l)(?![\w²³^'’/&-]))?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SCALE = re.compile("|".join(SCALES))
_LETTERS = {"bn": 10**9, "mn": 10**6, "mln": 10**6, "mio": 10**6, "lac": 10**5, "lacs": 10**5}
_MONEY_LETTERS = {
    "m": 10**6, "mm": 10**6, "mil": 10**6, "b": 10**9, "t": 10**12, "tn": 10**12, "trn": 10**12,
    "k": 1000, "cr": 10**7, "l": 10**5,
}  # fmt: skip
_WITHOUT_MONEY = {"k": 1000, "K": 1000, " k": 1000, "M": 10**6, "B": 10**9} | dict.fromkeys(
    ("m", "mm", " m", " mm", " mil", " l", " L", "l", "L", " t"), 1
)
"""Letters behind an amount without a currency: thousands and millions, or the unit of a measure."""


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


def _value(match: re.Match[str], *, is_money: bool) -> Fraction | None:
    """The value of a match of `_AMOUNT`; None for a division by zero and what is not understood."""
    whole = re.sub(r"[, '’]", "", match["whole"] or "")
    value: Fraction | None = Fraction(f"{whole or '0'}{match['part'] or match['only'] or ''}")
    if match["under"]:
        value = _fraction(value, match["over"], int(match["under"]))
    for step in (_with_factorial, _with_power, _with_root):
        value = None if value is None else step(value, match)
    if value is None:
        return None
    for scale in _SCALE.findall(match["scales"].lower()):
        value *= SCALES[scale]
    multiplier = _multiplier(match["letters"], is_money=is_money or bool(match["money"]))
    if multiplier is None:
        return None
    negative = (match["sign"] or "+")[0] != "+" or match["inner"]
    return -value * multiplier if negative else value * multiplier


def _fraction(whole: Fraction | None, over: str | None, under: int) -> Fraction | None:
    if under == 0 or whole is None:
        return None
    return whole + Fraction(int(over.split()[-1]), under) if over else whole / under


def _with_factorial(value: Fraction, match: re.Match[str]) -> Fraction | None:
    if not match["factorial"]:
        return value
    if value.denominator != 1 or value > 60 or match["under"]:
        return None
    return Fraction(math.factorial(value.numerator))


def _with_power(value: Fraction, match: re.Match[str]) -> Fraction | None:
    value *= Fraction(10) ** int(match["power"] or 0)
    if not match["exponent"]:
        return value
    exponent = int(match["exponent"].replace("−", "-"))
    if match["ten"]:
        return value * Fraction(10) ** exponent if abs(exponent) < _LONGEST_FORM else None
    # (1/2)^2 and 1/2^2, (-2)^2 and -2^2 are not the same.
    if match["under"] or match["sign"] or match["factorial"] or (value == 0 and exponent <= 0):
        return None
    size = len(str(value.numerator)) + len(str(value.denominator))
    return value**exponent if size * abs(exponent) <= 4 * _LONGEST_FORM else None


def _with_root(value: Fraction, match: re.Match[str]) -> Fraction | None:
    if not match["root"]:
        return value
    if any(match[name] for name in ("sign", "under", "exponent", "scales", "letters")):
        return None
    root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
    return root if root * root == value else None


def _multiplier(letters: str | None, *, is_money: bool) -> int | None:
    """What letters such as `k`, `m` and `bn` stand for; None if that is unclear."""
    if not letters:
        return 1
    name = letters.strip().lower()
    if name in _LETTERS:
        return _LETTERS[name]
    if is_money:
        return _MONEY_LETTERS.get(name)
    return _WITHOUT_MONEY.get(letters)


def _other_value(text: str) -> Fraction | None:
    """The value of the number that a text begins with."""
    match = _AMOUNT.match(text)
    return _value(match, is_money=False) if match else None


_COMPUTED = re.compile(r"[\d)] ?[-−+*×·/÷x] ?\$?\(?[\d.]")


_CONVERTED = re.compile(r"\W*(?:is )?(?P<from>[$€£]?\d[\d.,]*%?)(?: [a-z]+){0,2} ?=\s*$", re.I)
_TWO_NAMES = re.compile(
    r"\b[a-z]\w{0,12} ?= ?(?P<from>[^=,;]{0,40}?\d[^=,;]{0,20}?)(?:,|;| and\b| or\b)"
    r" ?\\?[a-z]\w{0,12} ?= ?$",
    re.I,
)
_COEFFICIENT = re.compile(r"(?:^\W*(?:is )?|(?<![=\s])\s)\d+ ?[xyzn] ?= ?$")
_ONE_OF_THEM = re.compile(r"one of (?:them|these|those|the|us|my|his|her|their)\b", re.I)
_PACKS = re.compile(r" ?(?:ml|g|mg|cm|mm|grams?|pages?|pieces?|watts?)\b", re.I)


def first_number(text: str) -> tuple[Fraction, int, int] | None:
    """The number that a statement gives, as (value, start, end) in plain digits.

    The number after the last equals sign, if there is one; a number in words only if there are no
    digits. None if the first number is part of an expression, a list, a time or a range.
    """
    start = text.rfind("=") + 1
    match = _AMOUNT.search(text, start)
    if match is None:
        found = None if re.search(r"\d", text[start:]) else spelled_number(text, start)
        if found and _ONE_OF_THEM.match(text, found[1]):
            return None
    else:
        amount = _amount(text, match, start)
        found = None if amount is None else (amount, *match.span())
    if found is None:
        return None
    value, begin, end = found
    has_spaced_sign = match is not None and (match["sign"] or "")[1:] == " "
    if changed_before(text[start:begin], spaced_sign=has_spaced_sign):
        return None
    if changed_after(text[end:], value, _other_value) or _is_one_of_two(text[:start], value):
        return None
    return found


def _amount(text: str, match: re.Match[str], start: int) -> Fraction | None:
    """The value of a number in digits, with the letters and marks that follow it."""
    after = text[match.end() :]
    value = _value(match, is_money=is_money_after(after))
    if value is None or ((match["part"] or match["only"]) and after.startswith(("...", "…"))):
        return None
    if " " in (match["whole"] or "")[:3] and _PACKS.match(after):
        return None  # 3 500 ml bottles
    if start and "dozen" in match["scales"].lower():
        # `60/12 = 5 dozen` are 5: what was computed. Without an operator it may be 60.
        return value / 12 if _COMPUTED.search(text, 0, start) else None
    return value


def _is_one_of_two(before: str, value: Fraction) -> bool:
    """Whether the equation before a number gives another one: `x = 1, y = 2`, `1 hour = 60 min`."""
    if not before:
        return False
    if _COEFFICIENT.search(before):
        return True  # 2x = 8
    other = _CONVERTED.match(before) or _TWO_NAMES.search(before)
    return other is not None and _other_value(other["from"]) != value


def number_in(text: str) -> str | None:
    """The number that an answer statement gives, with any words around it."""
    first = first_number(_in_plain_digits(text[:LONGEST]))
    return _form(first[0]) if first else None


def is_only_number(text: str) -> bool:
    """Whether a sentence gives a number and has no digits apart from it."""
    line = _in_plain_digits(text[:LONGEST])
    first = first_number(line)
    return first is not None and not re.search(r"\d", line[: first[1]] + line[first[2] :])


def _form(value: Fraction) -> str | None:
    form = number_text(value)
    return form if len(form) <= _LONGEST_FORM else None


_ZERO = {"none"}
_BEFORE_NUMBER = re.compile(
    r"(?:[a-z] ?=|(?:about|approximately|approx\.?|around|exactly|roughly|at least|at most"
    r"|no (?:more|less|fewer) than|is|an?|the)\b"
    r"|[=:(\[\"'~$]| )*",
    re.I,
)
_PLAIN_AFTER = r"(?:[^\d=+*/<>(]|/(?=[a-zA-Z]{2}))*"
_AFTER_NUMBER = re.compile(rf"{_PLAIN_AFTER}(?:\([^()]*\)|\()?{_PLAIN_AFTER}")


@lru_cache(maxsize=1024)  # the options of a question are asked for with every path
def number(text: str) -> str | None:
    """`text` as a number, if it is a number with at most a few words of unit."""
    line = _in_plain_digits(text[:LONGEST])
    if line.rstrip(".").lower() in _ZERO:
        return "0"
    first = first_number(line)
    if first is None or len(line) > _LONGEST_FORM + 20:
        return None
    value, start, end = first
    before = line[line.rfind("=", 0, start) + 1 : start]
    after = line[end:]
    fits = _BEFORE_NUMBER.fullmatch(before) and _AFTER_NUMBER.fullmatch(after)
    units = re.sub(r"\([^()]*\)", "", after)
    return _form(value) if fits and len(units.split()) <= 4 else None
