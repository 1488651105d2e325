"""What before or after a number changes its value, so that it must not be read alone."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from engine.answers.forms.spelled_numbers import PART, SPELLED

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction

_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?"
    r"|Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)"
)
_MONEY_SIGN = "[$€£₹]?"
_CHANGES_BEFORE = re.compile(
    "|".join(
        (
            r"[\w)%] ?[-−–*×·+÷^/] ?[($]?$",  # 10 - 3
            r"[√∛∜±∓≤≥≠^_] ?[(\[{]?$|(?:^|\s)[<>] ?\(?$|[|⌊⌈]$",  # √16, > 3, |-3|
            r"\w\($|\\[a-z]+ ?\{?\(?$",  # f(3), \lfloor 3
            r"\b(?:root|square|cube|half|third|quarter|factorial|percent|%) of (?:about )?\$?$",
            r"\b(?:twice|double|triple|thrice|log(?:_\w+)?|ln|sin|cos|tan|sqrt|exp) ?\(?\$?$",
            r"\b(?:past|quarter to|half|few|several|couple|couple of|many|some) $",
            rf"\b{_MONTH}\.? (?:the )?$",  # May 5
            r"(?:^|\s)[–—] ?$|(?<!\bno )\b(?:more|less|fewer|greater|higher|lower) than \$?$",
            rf"{SPELLED.pattern}(?: and)? \$?$",  # two thousand and 5
            r"\b(?:(?<!left )over|under|above|below|beyond|exceed(?:s|ing)?) \$?$",
        )
    ),
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"\bbetween\b\W{0,4}$", re.I)
_SIGN_FITS = re.compile(r"(?:^|[=(\[:$\"']|\b(?:is|be|was|equals|to|of|are|about))\s*$", re.I)

_NUMBER = rf"(?:{_MONEY_SIGN}\.?\d|{SPELLED.pattern})"
_PERCENT = re.compile(r" ?(?:%|percent\b|per cent\b)", re.I)
_SHORT_UNIT = (
    r"(?:[gmshlwvf]|st|nd|rd|th|km|cm|mm|nm|µm|ml|cl|dl|kg|mg|lb|oz|ft|in|yd|mi|hr|am|pm|gb|mb|kb"
    r"|tb|hz|kw|pt|qt|°)"
)
_MEASURE = (
    r"(?:h|hrs?|hours?|mins?|minutes?|m|meters?|metres?|ft|feet|foot|inch(?:es)?|lbs?|pounds?|oz"
    r"|ounces?|yds?|yards?|kg|g|km|cm|mi|miles?|days?|weeks?|months?|years?|dollars?|quarts?|gallons?"
    r"|cups?|°|['′’\"″])"
)
_CHANGES_AFTER = re.compile(
    "|".join(
        (
            r"\d|[,;.'’]\d| \.?\d|_| ?: ?\d|°\s?\d",
            r" ?[*×·⋅÷^=+√±]|!=| ?/(?![a-z]{2})|\)\s?[*×·÷^/+√²³]|\) ?[-−–] ?\d",
            r" ?x ?[\d(]| ?[-–—−] ?[($€£]?[\d.]| [-−] ?\(?[b-hj-z](?!\w)|-(?:to|by|in|of|for)-",
            # 3x, 2e, 5a, but not 5km
            rf"(?!{_SHORT_UNIT}(?![^\W\d_]))[^\W\d_]{{1,2}}(?![^\W\d_])|[^\W\d_]{{1,5}}\d",
            r" ?[πφθ∞√]| [xyz](?![a-z'’])",
            r"\.?\s?\\[a-z]|\.?[{}]|\((?=[\d.])|\.\(",  # LaTeX that is not understood, 2(3), 0.(3)
            rf" ?{_MEASURE}\.?,? \$?\d|[h'′’°\"″] ?\d",  # 5 ft 3 in
            rf" (?:hour|minute|pound|dollar|year|week|meter|yard)s?,? {SPELLED.pattern} "
            r"(?:minute|second|ounce|cent|month|day|centimeter|foot|feet|inch)",
            rf" f(?:oo|ee)t,? {SPELLED.pattern} inch",
            rf" (?:out of|in|of) every {_NUMBER}| (?:out )?of {_NUMBER}| in {_NUMBER}\d*\W*$",
            rf"(?: [a-z]{{1,12}}){{0,4}} (?:than|as) (?:\$?\d|{SPELLED.pattern}\W*$)",
            r" of (?:an? )?(?:dozen|hundred|\w+illion)\b",
            r"(?: [a-z]{1,20}){0,3} or (?:more|less|fewer|greater|higher|lower|over|under|above"
            r"|below|up)\b| and (?:up|above|over|below|under)\b",
            r"(?! (?:per|each|an?|is|was|are|as|because)\b)(?: [a-z]{1,20}){1,2} of "
            rf"(?!one\b){_NUMBER}",  # 3 boxes of 4
            rf"(?: [a-z]{{1,20}}){{0,3}} (?:at|for|costing) {_NUMBER}[\d.,]*(?: [a-z]+)?,? "
            r"(?:each|apiece|per|a piece)\b",
            r" plus\b| (?:double|triple)d?\W*$",
            rf"(?: [a-z]{{1,20}})?,? (?:and )?(?-i:[A-Z])[a-z]+:? {_MONEY_SIGN}\d",  # Tom 3, Ann 4
            r"(?: minutes?)? (?:past|before|after|till) "
            r"(?!\d{1,4} (?:hours?|days?|weeks?|months?|years?)\b)\d| choose \d| oh\b",
            r" ?\(?(?:plus or minus|give or take)",
            r"\)? ?\(?(?:in )?(?:base\b|binary|hexadecimal|octal)",
            r" ?[≤≥≠]| [<>] |[<>] ?\d|<[a-z]<| (?:repeating|recurring)\b",
            r" (?:by|per|over|less|mod|modulo) \$?\d",
            rf" (?:divided by|times|minus|plus|multiplied by) {_NUMBER}",
            r" to the (?:power\b|\d|\w+ power\b|\w+(?:th|rd|nd)\b)",
            r" (?:raised|squared|cubed|factorial)\b",
            r" ?r(?:em)?\.? ?\d| (?:with )?(?:a )?remainder| with \d+ (?:left|remaining)",
            r" ?(?:‰|‱|per mille\b)",
            r" (?:hal(?:ve|f)|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|\w+ieth)s\b",
            rf"-{PART}|[ -](?:ten|hundred|thousand|million)ths?\b",
            r" (?:score|gross|couple|tens|ones)\b",
            r" ?\(?(?:\w+ )?in (?:thousands|hundreds|millions|billions|lakhs|crores|dozens)\b",
            rf"(?:st|nd|rd|th)?,? (?:of )?{_MONTH}\b",
            r"(?: [a-z.]{1,20}){1,3} ?[+*×·÷] ?[$(]?\d|(?: [a-z.]{1,20}){1,3} [-−–] ?\$?\d",
        )
    ),
    re.IGNORECASE,
)
_ORDINAL = re.compile(r"^(?:st|nd|rd|th)(?= (?:and|or|to) )")
_QUARTERS = re.compile(r" quarters?\b", re.I)  # 3 coins, or 0.75
_JOINED = re.compile(
    r"(?:(?: [a-z°%'’.-]{1,20}){0,3}(?:,? or|,| to|,? then|;)"
    r"|(?: [a-z°%'’.-]{1,20}){0,5}(?:,? and| ?&| plus|,? as well as)),? "
    r"(?:(?:about|even|maybe|perhaps|another|an?|the|other) ){0,2}(?P<other>"
    rf"[-−–+]?{_NUMBER}|(?:half|quarter|third)\b)",
    re.I,
)
_IN_PARENTHESES = re.compile(
    r" \((?P<or>or |maybe |perhaps |possibly )?(?P<inside>\$?[\d.][^()]*)\)?"
)
_OPERATOR = re.compile(r"[+*/×÷=−]|\d ?[-x] ?\(?\d")
_MONEY = re.compile(
    r" ?(?:dollars?|USD|US\$|euros?|EUR|pounds?|GBP|rupees?|INR|yen|[$€£¥₹])(?!\w)", re.I
)


_WITH_PARTS = re.compile(
    r"(?<![\w.,/$])(?P<whole>\$?\d{1,9})(?P<unit>(?: [a-z]{1,20}){0,3})"
    r"(?: \((?P<inside>[^()]{3,80})\)|: (?P<rest>[^():]{3,80})$)"
)
_PART = re.compile(r"(?<![\w.,/])\d{1,9}(?![\w/]|[.,]\d)")


def without_parts(text: str) -> str:
    """A text without the numbers that a number is the sum or product of: `5 (2 red, 3 blue)`."""
    if "(" not in text and ":" not in text:
        return text
    return _WITH_PARTS.sub(_without_parts, text)


def _without_parts(match: re.Match[str]) -> str:
    inside = match["inside"] or match["rest"]
    parts = [int(part) for part in _PART.findall(inside)]
    whole = int(match["whole"].lstrip("$"))
    if len(parts) < 2 or _OPERATOR.search(inside) or whole not in (sum(parts), math.prod(parts)):
        return match[0]
    return f"{match['whole']}{match['unit']}"


def is_money_after(after: str) -> bool:
    """Whether a currency follows a number."""
    return _MONEY.match(after) is not None


def changed_before(before: str, *, spaced_sign: bool) -> bool:
    """Whether what is before a number changes its value.

    Args:
        before: the text up to the number.
        spaced_sign: whether the number begins with a minus sign and a space.
    """
    if spaced_sign and not _SIGN_FITS.search(before[-12:]):
        return True
    return bool(_CHANGES_BEFORE.search(before[-40:]) or _BETWEEN.search(before[-16:]))


def changed_after(after: str, value: Fraction, value_of: Callable[[str], Fraction | None]) -> bool:
    """Whether what follows a number changes its value, or names another number.

    `1/2 or 0.5` is the same number twice.

    Args:
        after: the text behind the number.
        value: the number.
        value_of: the value of the number that a text begins with.
    """
    after = after[:120].lstrip("$")
    after = _ORDINAL.sub("", after)
    percent = _PERCENT.match(after)
    if percent:
        after = after[percent.end() :]
        if re.match(r" of (?:the )?\$?\d", after):
            return True
    if _CHANGES_AFTER.match(after) or (value < 4 and _QUARTERS.match(after)):
        return True
    joined = _JOINED.match(after)
    if joined:
        is_other_form = " or" in after[: joined.start("other")]  # 1/2 or 0.5
        return not is_other_form or value_of(after[joined.start("other") :]) != value
    inside = _IN_PARENTHESES.match(after)
    if inside is None or (not inside["or"] and _OPERATOR.search(inside["inside"])):
        return False
    return value_of(inside["inside"]) != value
