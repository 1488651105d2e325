"""The canonical form of words of a passage, and which of them are the same answer."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

from engine.answers.forms.markup import half_width, without_markup
from engine.answers.forms.normalization import fixed_point
from engine.answers.forms.numbers import LONGEST, number_text, plain, without_latex
from engine.answers.forms.spelled_numbers import SPELLED, spelled_value

_ARTICLES = re.compile(r"\b(?:an|the)\b|\ba\b(?= +\w)")
"""The last letter of `vitamin A` is no article."""
_UNIT_WORDS = (
    "%|percent|percentage points?|points?|yards?|yrs?|years?|months?|weeks?|days?|hours?|minutes?"
    "|seconds?|dollars?|cents?|euros?|pounds?|francs?|people|persons|inhabitants|men|women|children"
    "|soldiers|troops|games?|touchdowns?|tds?|field goals?|goals?|times|wins|losses|passes|miles?"
    "|kilometers?|km|meters?|metres?|feet|ft|inches|acres?|tons?|households|families|housing units"
)
_NUMBER = r"-?(?:\d{1,3}(?:,\d{2,3})*,\d{3}|\d+)(?:\.\d+)?"
_SCALES = {
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_WITH_UNIT = re.compile(
    rf"({_NUMBER}) ?(?:({'|'.join(_SCALES)})(?: (?:{_UNIT_WORDS}))?|(?:{_UNIT_WORDS})(?: old)?)"
)
_NUMBER_TOKEN = re.compile(_NUMBER)
_NOT_SPAN = re.compile(r"(?<!\d)[.,:](?!\d)|(?<=\d)[.,:](?!\d)|(?<!\d)[.,:](?=\d)|[^\w\s.,:%+-]|_")
_HYPHEN = re.compile(r"(?<=\w)[-–—](?=\w)|(?<!\S)[-–—]+(?!\S)")

# Abbreviations: U.S. is US, J. R. Smith is JR Smith.

_INITIALS_APART = re.compile(r"\b([^\W\d_]\.) (?=[^\W\d_]\.)")
_PERIOD_INSIDE = re.compile(
    r"(?:(?<=\b[^\W\d_])|(?<=\b[^\W\d_]{2}))\.(?=[^\W\d_]\b)|(?<=[^\W\d_])\.(?=-\w)"
)
_HALF_OF_DAY = re.compile(r"(?<=\d)(?=[ap]m\b)")
_LETTERS_APART = re.compile(r"\b([^\W\d_]) (?=[^\W\d_]\b)")

# Dates: May 5, 1998 is 5 May 1998.

_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_ORDINALS = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"),
    *("tenth", "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth"),
    *("seventeenth", "eighteenth", "nineteenth"),
    *("twentieth", "twenty-first", "twenty-second", "twenty-third", "twenty-fourth"),
    *("twenty-fifth", "twenty-sixth", "twenty-seventh", "twenty-eighth", "twenty-ninth"),
    *("thirtieth", "thirty-first"),
)
_DAY = (
    r"(?:the )?(?P<day>(?:0?[1-9]|[12]\d|3[01])(?=\D|$)(?:st|nd|rd|th)?"
    rf"|{'|'.join(reversed(_ORDINALS))})"
)
_YEAR = r"(?P<year>\d{4})"
_WEEKDAY = (
    r"(?:on )?(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\.?,? )?(?:on )?"
)
_NUMERIC_MONTH = r"(?P<month>0?[1-9]|1[0-2])"
_DATES = tuple(
    re.compile(rf"\b{pattern}\b")
    for pattern in (
        rf"{_WEEKDAY}{_MONTH} {_DAY}(?:,? |,)(?:of )?{_YEAR}",
        rf"{_WEEKDAY}{_DAY} (?:day )?(?:of )?{_MONTH}(?:,? |,)(?:of )?{_YEAR}",
        rf"{_YEAR},? {_MONTH} {_DAY}",
        rf"{_YEAR}[-/.]{_NUMERIC_MONTH}[-/.](?P<day>0?[1-9]|[12]\d|3[01])",
        # Which of two small numbers is the month cannot be known.
        rf"(?P<day>1[3-9]|2\d|3[01])[-/.]{_NUMERIC_MONTH}[-/.]{_YEAR}",
        rf"{_NUMERIC_MONTH}[-/.](?P<day>1[3-9]|2\d|3[01])[-/.]{_YEAR}",
        rf"{_DAY}-{_MONTH}-{_YEAR}",
        rf"{_MONTH}, (?:of )?{_YEAR}",
    )
)
_SHORT_DATES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:on )?{_MONTH} {_DAY}",
        rf"(?:on )?{_DAY} (?:day )?(?:of )?{_MONTH}",
        rf"(?:in )?(?:the month of )?{_MONTH} (?:of )?{_YEAR}",
        rf"{_YEAR} {_MONTH}",
        rf"(?:in )?(?:the )?(?:year )?{_YEAR}",
    )
)
"""Dates only if they are the whole span: elsewhere, `may` and `march` can be verbs."""

# Several spans.

_SEPARATOR = re.compile(
    r" ?(?:(?<!\d),|,(?!\d{2,3}(?!\d))|;) ?(?:(?:and|&) (?:also )?)?"
    r"| (?:and also|and|&|as well as|along with) | [/+] (?=\D)"
    r"|(?<=[^\W\d_]{3})/(?=[^\W\d_]{3})"
)
_FIRST_ITEM = re.compile(r"\(?1[.)] (?=.* \(?2[.)] )")
_ITEM = re.compile(r",? (?:and )?\(?[2-9][.)] ")
_BOTH = re.compile(r"\W*both (?=.* (?:and|&) )")
_SUFFIX = re.compile(r", (?=(?:jr|sr|ii|iii|iv|inc|ltd|llc|phd|md|dc)\b)")
_HUNDRED_AND = re.compile(rf"\b(hundred|thousand|million) and (?={SPELLED.pattern})")


def span(text: str) -> str | None:
    """Words of a passage: lower case, without articles and punctuation, numbers normalized.

    A number with a unit is the bare number, as in the comparison of DROP: `21 yards` is `21`.
    Several spans keep their order, with `, ` and ` and ` between them. A date is day, month and
    year, as in DROP's records: `5 may 1998`.
    """
    return fixed_point(_span_words, text)


_REMARK = re.compile(r"(?<=[\w.\"'”*)]) ?\([^()\n]{1,200}\)(?=\W*$)")
_EXPLAINED = re.compile(
    r"\s\W{0,4}(?:explanation|reason(?:ing)?|justification|rationale|evidence|note|context)\*{0,2}:"
    r"|,? (?:because|since)\b"
    r"|, (?:who|whom|whose|which|as (?:the|stated|mentioned|it|he|she|they))\b",
    re.I,
)
_SENTENCE = re.compile(r"\W*(?:it|they|he|she|we|i|there|this|that|to)\b", re.I)


def without_remarks(text: str) -> str:
    """The words before a remark in brackets, an explanation or a clause about them."""
    explained = _EXPLAINED.search(text)
    answer = text[: explained.start()] if explained else text
    if not re.search(r"\w", answer) or _SENTENCE.match(answer):
        answer = text
    if answer.count("(") == 1:
        answer = _REMARK.sub("", answer)
    return answer


def _span_words(text: str) -> str | None:
    words = plain(without_latex(without_markup(half_width(text[:LONGEST])))).casefold()
    words = _without_accents(words.replace("−", "-"))
    words = _PERIOD_INSIDE.sub("", _INITIALS_APART.sub(r"\1", words))
    words = _HALF_OF_DAY.sub(" ", words)
    if _FIRST_ITEM.match(words):
        words = _ITEM.sub(", ", _FIRST_ITEM.sub("", words))
    for pattern in _DATES:
        words = pattern.sub(_date, words)
    words = _HUNDRED_AND.sub(r"\1 ", _SUFFIX.sub(" ", _BOTH.sub("", words)))
    form, joint, start = "", "", 0
    for separator in [*_SEPARATOR.finditer(words), None]:
        part = _part(words[start : separator.start() if separator else None])
        form = f"{form}{joint if form and part else ''}{part}"
        if separator:
            start = separator.end()
            joint = ", " if separator[0].strip() in (",", ";") else " and "
    return form or None


_ACCENTS = re.compile("(?<=[a-z])[\u0300-\u036f]+")


def _without_accents(words: str) -> str:
    """Latin letters without accents: `beyonce` for `beyoncé`."""
    if words.isascii():
        return words
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", words)))


def _part(words: str) -> str:
    """One of several spans."""
    for pattern in _SHORT_DATES:
        date = pattern.fullmatch(words.strip(" .,"))
        if date:
            return _date(date)
    words = _ARTICLES.sub(" ", _NOT_SPAN.sub(" ", _HYPHEN.sub(" ", words)))
    words = " ".join(_number_token(word) for word in words.split())
    words = _LETTERS_APART.sub(r"\1", words)
    with_unit = _WITH_UNIT.fullmatch(words)
    if with_unit:
        scale = _SCALES.get(with_unit[2] or "", 1)
        words = number_text(Fraction(with_unit[1].replace(",", "")) * scale)
    value = spelled_value(words) if SPELLED.fullmatch(words) else None
    return words if value is None else number_text(value)


def _number_token(word: str) -> str:
    if not _NUMBER_TOKEN.fullmatch(word) or len(word) > 40:
        return word
    return number_text(Fraction(word.replace(",", "")))


def _date(match: re.Match[str]) -> str:
    """A date as day, month and year, those of them that it has."""
    found = match.groupdict()
    day, month, year = found.get("day"), found.get("month"), found.get("year")
    if day in _ORDINALS:
        day = str(_ORDINALS.index(day) + 1)
    if month is None:
        return year or ""
    if month.isdigit():
        month = _MONTHS[int(month) - 1]
    else:
        month = next(name for name in _MONTHS if name.startswith(month[:3]))
    day = re.sub(r"\D", "", day).lstrip("0") if day else ""
    return " ".join(part for part in (day, month, year) if part)


def same_span(canonical: str) -> tuple[str, ...]:
    """The parts of a canonical span in sorted order, which are the same for the same answer."""
    return tuple(sorted(re.split(", | and ", canonical)))


@lru_cache(maxsize=4096)
def spans_equal(a: str, b: str) -> bool:
    """Whether two canonical spans can be the same answer, of the vote and of a known answer.

    The order of several spans does not matter, nor whether a comma is written within one. A bare
    number equals a span of that number and a few words (`5` and `5 ships`), so that this is not
    transitive: `same_span` is.
    """
    # The forms of stored answers may be those of an earlier version.
    a, b = span(a) or a, span(b) or b
    if same_span(a) == same_span(b) or a.replace(", ", " ") == b.replace(", ", " "):
        return True
    short, long = sorted((a, b), key=len)
    follows = long[len(short) :]
    return (
        _NUMBER_TOKEN.fullmatch(short) is not None
        and long.startswith(f"{short} ")
        and not re.search(r"[\d,]|\b(?:and|or|to)\b", follows)
        and follows.split()[0] not in _MONTHS
        and len(follows.split()) <= 3
    )
