"""The one written form of an answer, for each type: what is counted, stored and trained on.

Nothing here looks for an answer in a path; `engine.answers` does. Every function returns `None`
for what is not an answer of its type. A canonical form is its own canonical form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
UNKNOWN = "it is not possible to tell"
"""The paper's third answer to an inference question."""
INFERENCES = ("yes", "no", UNKNOWN)

LONGEST = 1000
"""Characters of a text that are looked at: an answer is not longer."""

_EMPHASIS = re.compile(
    r"(?<!\d)\*\*|\*\*(?!\d)|(?<![\w*\s])\*(?=\S)|(?<![^\s])\*(?=\S)|(?<=\S)\*(?![\w*])"
    r"|`|(?<!\w)__?(?=\w)|(?<=\w)__?(?!\w)"
)
_THIN = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3})")
_SPACES = re.compile(r"\s+")


def plain(text: str) -> str:
    """One line without Markdown emphasis, with simple spaces."""
    return _SPACES.sub(" ", _EMPHASIS.sub("", _THIN.sub("", text[:LONGEST]))).strip()


# Numbers.

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
_GOES_ON = re.compile(
    r"\d|,\d|:\d| ?[*×·+÷^=/]| ?x ?\d| ?[-−–] ?[($]?[\d.]|\.\d|[xyzn]\b| ?\(\d"
)
_OPERAND_BEFORE = re.compile(r"[\w)] ?[-−–*×·+÷^/] ?[($]?$")

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_WORDS = {word: value for value, word in enumerate(_ONES)} | {
    word: 10 * value for value, word in enumerate(_TENS, 2)
}
_WORD = rf"(?:{'|'.join([*_WORDS, 'hundred', 'thousand', 'million'])})"
_SPELLED = re.compile(rf"\b(?:minus |negative )?{_WORD}(?:(?: |-| and ){_WORD}){{0,20}}\b", re.I)

_LATEX_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|boldsymbol)\s?\{([^{}]*)\}")
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


def _without_latex(text: str) -> str:
    """LaTeX of simple arithmetic as a person would type it."""
    if "\\" in text or "{" in text or "≈" in text:
        text = _LATEX_FRACTION.sub(
            lambda found: f" {found[1] or found[3]}/{found[2] or found[4]}", text
        )
        text = _LATEX_TEXT.sub(r" \1 ", text)
        for written, meant in _LATEX_WORDS:
            text = text.replace(written, meant)
        text = _LATEX_SPACE.sub("", text)
    return text


def number_text(value: Fraction) -> str:
    """A decimal where it ends (`9`, `-4.5`), a reduced fraction where it does not (`1/3`)."""
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


def _value(found: re.Match[str]) -> Fraction | None:
    """The value of a match of `_AMOUNT`; None when it divides by zero."""
    whole = (found["whole"] or "").replace(",", "")
    value = Fraction(f"{whole or '0'}{found['part'] or found['only'] or ''}")
    if found["under"]:
        under = int(found["under"])
        if under == 0:
            return None
        value = value + Fraction(int(found["over"]), under) if found["over"] else value / under
    value *= Fraction(10) ** int(found["power"] or 0)
    value *= _SCALES.get((found["scale"] or "").lower(), 1)
    negative = (found["sign"] or "+")[0] not in "+" or found["inner"]
    return -value if negative else value


def _spelled_value(text: str) -> Fraction:
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


def first_number(text: str) -> tuple[Fraction, int, int] | None:
    """The number that a statement gives, with its place in `plain` text.

    After the last equals sign where there is one; in words only where there are no digits. None
    where the first number is only a part of an expression, a list, a time or a range.
    """
    start = text.rfind("=") + 1
    found = _AMOUNT.search(text, start)
    if found:
        before, after = text[start : found.start()], text[found.end() : found.end() + 8]
        if _OPERAND_BEFORE.search(before[-8:]) or _GOES_ON.match(after):
            return None
        value = _value(found)
        return (value, *found.span()) if value is not None else None
    spelled = _SPELLED.search(text, start)
    if spelled and not re.search(r"\d", text[start:]):
        return (_spelled_value(spelled[0]), *spelled.span())
    return None


def number_in(text: str) -> str | None:
    """The number that an answer statement gives, whatever words stand around it."""
    found = first_number(plain(_without_latex(text[:LONGEST])))
    return number_text(found[0]) if found else None


_HALF_WORDS = {"half": "0.5", "one half": "0.5", "a half": "0.5", "a dozen": "12", "none": "0"}
_BEFORE_NUMBER = re.compile(r"(?:[a-z] ?=|about|approximately|around|exactly|is|[=:(\[\"'~$]| )*", re.I)
_AFTER_NUMBER = re.compile(r"[^\d=+*/<>]*")


def number(text: str) -> str | None:
    """`text` as a number, if it is one with at most a few words of unit."""
    whole = plain(_without_latex(text[:LONGEST]))
    if whole.rstrip(".").lower() in _HALF_WORDS:
        return _HALF_WORDS[whole.rstrip(".").lower()]
    found = first_number(whole)
    if found is None or len(whole) > 120:
        return None
    value, start, end = found
    before = whole[whole.rfind("=", 0, start) + 1 : start]
    after = whole[end:]
    fits = _BEFORE_NUMBER.fullmatch(before) and _AFTER_NUMBER.fullmatch(after)
    return number_text(value) if fits and len(after.split()) <= 4 else None


def number_value(canonical: str) -> Fraction:
    """The value of a canonical number."""
    return Fraction(canonical)


# Choices.

_LABEL = re.compile(
    r"""\W*(?:(?:the\s)?(?:(?:correct|right|best)\s)?(?:answer|option|choice|letter)\b\W*)?
    (?:(?P<upper>[A-Z])(?:[)\].:,;"'}]|$|\s?[-–—]\s)|[(\[](?P<in>[a-z])[)\]]
       |(?P<lower>[a-z])(?:[)\]]|[.:](?:\s|$)|$))""",
    re.VERBOSE,
)
_BARE = re.compile(r"\W*(?:(?i:the )?(?i:option|choice|letter) )?([A-Z]) (?=(\w+))")
_AFTER_A = {"because", "since", "as", "is", "which", "with", "for", "based", "due"}
_SEVERAL = re.compile(
    r"\W*(?:(?:either|both|options?|choices?)\W+)*[(\[]?([A-Za-z])[)\]]?"
    r"(?:\s?,\s?(?:or|and)?\s?|\s(?:or|and)\s|\s?[/&]\s?)(?:option |choice )?"
    r"(?:[(\[]([A-Za-z])[)\]]|([A-Z])\b(?!['\w]| [a-z]))"
)
_NONE = re.compile(
    r"\b(?:none|neither|not (?:any |one )?(?:of|in|among|listed))\b"
    r"|\b(?:no|not a) (?:correct|valid|right|such|suitable) (?:answer|option|choice)\b"
)
_NONE_OPTION = re.compile(r"none(?: of (?:the|these|them|those|above|all).{0,20})?|no correct answer")
_NOT_WORDS = re.compile(r"[^\w.+\-/%√^²³]+")


def _bare_text(text: str) -> str:
    """Words of an option or of a statement, for comparing."""
    words = _NOT_WORDS.sub(" ", plain(text).casefold()).strip(" .")
    return re.sub(r"^(?:the|an?) (?=\w)", "", words).replace(". ", " ")


def choice(text: str, options: Sequence[str] = ()) -> str | None:
    """The letter that `text` names, or whose option it writes out.

    Args:
        text: such as `(b)`, `B`, `option B`, `b) the moon`, `the moon`.
        options: texts of the choices; without them any letter from A to J is a choice.

    Returns:
        An upper-case letter; None when no option or more than one is meant.
    """
    line = plain(_LATEX_TEXT.sub(r"\1", text[:LONGEST])).lstrip("\"'")
    letters = LETTERS[: len(options)] if options else LETTERS[:10]
    if names_no_choice(line, options):
        return None
    labelled = _LABEL.match(line)
    if labelled:
        letter = (labelled["upper"] or labelled["in"] or labelled["lower"]).upper()
        return letter if letter in letters else None
    said = _bare_text(line)
    bare = [_bare_text(one) for one in options]
    if said and bare.count(said) == 1:
        return LETTERS[bare.index(said)]
    unlabelled = _BARE.match(line)
    if unlabelled and unlabelled[1] in letters:
        if unlabelled[1] != "A" or unlabelled[2].lower() in _AFTER_A:
            return unlabelled[1]
    return _option_meant(line, said, options, bare) if options else None


def names_no_choice(text: str, options: Sequence[str]) -> bool:
    """Whether `text` names several options, or a letter that is not among them."""
    line = plain(text).lstrip("\"'")
    labelled = _LABEL.match(line)
    letters = LETTERS[: len(options)] if options else LETTERS[:10]
    outside = labelled and labelled["upper"] and labelled["upper"] not in letters
    return bool(outside or _SEVERAL.match(line) or re.match(r"\W*(?:either|both)\b", line))


def _option_meant(
    line: str, said: str, options: Sequence[str], bare: Sequence[str]
) -> str | None:
    """The one option that a statement without a letter can only mean."""
    if _NONE.search(said):
        return _only([bool(_NONE_OPTION.fullmatch(one)) for one in bare])
    value = number(line)
    if value is not None:
        same = _only([number(one) == value for one in options])
        if same:
            return same
        # Options are also counted: "the answer is 2" where no option holds a number.
        if value.isdigit() and not any(re.search(r"\d", one) for one in options):
            return LETTERS[int(value) - 1] if 1 <= int(value) <= len(options) else None
        return None
    padded = f" {said} "
    held = [len(one) > 2 and f" {one} " in padded for one in bare]
    longest = [
        inside and not any(other and one != two and one in two for other, two in zip(held, bare, strict=True))
        for inside, one in zip(held, bare, strict=True)
    ]
    if any(longest):
        return _only(longest)
    long_enough = len(said) >= 12 or len(said.split()) >= 2
    return _only([long_enough and f" {said} " in f" {one} " for one in bare])


def _only(chosen: Sequence[bool]) -> str | None:
    """The letter of the one that is chosen."""
    return LETTERS[chosen.index(True)] if sum(chosen) == 1 else None


# Yes and no, inference.

_YES_NO = re.compile(
    r"\W*(?:(?:that |it )?(?:is|would be|should be) )?"
    r"(?:(?P<yes>yes|true|yeah|yep)|(?P<no>no|false|nope))\b"
    r"(?!-| (?:answer|one|body|way|matter|doubt|longer|more|less|single|other|evidence)\b)",
    re.I,
)
_UNKNOWN = re.compile(
    r"not possible to (?:tell|say|know|determine|conclude)|impossible to (?:tell|say|know|determine)"
    r"|(?:can ?not|can't|could not|unable to) (?:be )?(?:tell|told|say|said|know|known|determined?|conclude)"
    r"|not enough information|insufficient|inconclusive|undetermined|indeterminate|unclear|uncertain"
    r"|\b(?:neutral|unknown|maybe|neither)\b",
    re.I,
)
_ENTAILED = re.compile(r"\W*(?:(?:an?|the|it is|it's|this is) )*(?:entail(?:ment|ed|s)|implied|definitely true)\b", re.I)
_CONTRADICTED = re.compile(
    r"\W*(?:(?:an?|the|it is|it's|this is) )*(?:contradict(?:ion|ed|s|ory)|not[ _-]entail(?:ment|ed)|refuted)\b",
    re.I,
)
_LETTERED = re.compile(r"\W*(?:option |choice )?(?:[(\[]([a-c])[)\]]|([a-c])(?:[).:]|$))\s*", re.I)


def yes_no(text: str) -> str | None:
    """`yes` or `no`; true and false are read as such."""
    found = _YES_NO.match(plain(text))
    if found is None:
        return None
    return "yes" if found["yes"] else "no"


def inference(text: str, options: Sequence[str] = ()) -> str | None:
    """`yes`, `no` or `it is not possible to tell`, from the paper's or from NLI's own words.

    A letter alone means that option; without options (a) is yes, (b) is no, (c) is neither.
    """
    line = plain(text)
    lettered = _LETTERED.match(line)
    if lettered:
        rest = line[lettered.end() :]
        if rest:
            return inference(rest)
        number_of = LETTERS.index((lettered[1] or lettered[2]).upper())
        meant = options or INFERENCES
        return inference(meant[number_of]) if number_of < len(meant) else None
    if _UNKNOWN.search(line[:80]):
        return UNKNOWN
    if _ENTAILED.match(line):
        return "yes"
    if _CONTRADICTED.match(line):
        return "no"
    return yes_no(line)


# Spans.

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_UNIT_WORDS = (
    "%|percent|percentage points?|points?|yards?|yrs?|years?|months?|weeks?|days?|hours?|minutes?"
    "|seconds?|dollars?|cents?|euros?|pounds?|francs?|people|persons|inhabitants|men|women|children"
    "|soldiers|troops|games?|touchdowns?|tds?|field goals?|goals?|times|wins|losses|passes|miles?"
    "|kilometers?|km|meters?|metres?|feet|ft|inches|acres?|tons?|households|families|housing units"
)
_WITH_UNIT = re.compile(rf"(-?\d[\d,]*(?:\.\d+)?) ?(?:{_UNIT_WORDS})(?: old)?")
_NUMBER_TOKEN = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_NOT_SPAN = re.compile(r"(?<!\d)[.,:](?!\d)|(?<=\d)[.,:](?!\d)|(?<!\d)[.,:](?=\d)|[^\w\s.,:%+-]|_")
_HYPHEN = re.compile(r"(?<=\w)[-–—](?=\w)|(?<!\S)[-–—]+(?!\S)")


def span(text: str) -> str | None:
    """Words of a passage: lower case, no articles, no punctuation, numbers in their own form.

    A number with a unit is the number alone, as DROP's answers are compared: `21 yards` is `21`.
    """
    words = plain(_without_latex(text[:LONGEST])).casefold().replace("−", "-")
    words = _HYPHEN.sub(" ", words)
    words = _ARTICLES.sub(" ", _NOT_SPAN.sub(" ", words))
    words = " ".join(_number_token(one) for one in words.split())
    with_unit = _WITH_UNIT.fullmatch(words)
    if with_unit:
        words = with_unit[1]
    if _SPELLED.fullmatch(words):
        words = number_text(_spelled_value(words))
    return words or None


def _number_token(word: str) -> str:
    if not _NUMBER_TOKEN.fullmatch(word) or len(word) > 40:
        return word
    return number_text(Fraction(word.replace(",", "")))


def spans_equal(a: str, b: str) -> bool:
    """Whether two canonical spans are the same answer.

    The order of several spans does not matter, and a bare number is the number that begins the
    other one when only words follow it (`5` and `5 ships`).
    """
    if a == b or sorted(_span_parts(a)) == sorted(_span_parts(b)):
        return True
    short, long = sorted((a, b), key=len)
    follows = long[len(short) :]
    return (
        _NUMBER_TOKEN.fullmatch(short) is not None
        and long.startswith(f"{short} ")
        and not re.search(r"\d|\b(?:and|or|to)\b", follows)
        and len(follows.split()) <= 3
    )


def _span_parts(canonical: str) -> list[str]:
    return canonical.split(" and ")


# Mathematics.

_MATH_FENCE = re.compile(r"\\[()\[\]]|\$")
_MATH_SPACE = re.compile(r"\\[,;:! ]|\\(?:left|right|displaystyle|limits|quad|qquad)(?![A-Za-z])|~")
_MATH_UNIT = re.compile(r"(?<=[\d})])\s*\\(?:text|mathrm|mbox)\s?\{[^{}]*\}(?:\^\{?\d\}?)?$")
_MATH_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|textit)\s?\{([^{}]*)\}")
_SHORT_FRACTION = re.compile(r"\\frac\s?(\d|[a-z])\s?(\d|[a-z])(?!\w)")
_HALF_FRACTION = re.compile(r"\\frac\s?(?:\{([^{}]{1,200})\}\s?(\d)|(\d)\s?\{([^{}]{1,200})\})")
_PLAIN_FRACTION = re.compile(r"(-?)(\d{1,40})/(\d{1,40})")
_ASSIGNED = re.compile(r"[a-zA-Z]\w?\s?=\s?(?=[^=]+$)")
_PLAIN_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d{1,40})(?:\.\d{0,40})?|-?\.\d{1,40}")


def math_text(text: str) -> str | None:
    """LaTeX of a mathematical answer without fences, spacing commands and units.

    Plain numbers and fractions of plain numbers get one form; what else is equal is decided by
    `engine.math_equality`.
    """
    if len(text) > LONGEST:
        return None
    written = _MATH_FENCE.sub("", text.replace(r"\$", "").replace(r"\%", "").replace("%", ""))
    written = written.replace("{,}", ",").replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")
    written = _MATH_SPACE.sub(" ", plain(written)).replace("−", "-")
    written = re.sub(r"\^\s?\{?\s?\\circ\s?\}?|°", "", written)
    written = _MATH_TEXT.sub(r"\1", _MATH_UNIT.sub("", written.strip()))
    written = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", written)
    written = _HALF_FRACTION.sub(lambda m: rf"\frac{{{m[1] or m[3]}}}{{{m[2] or m[4]}}}", written)
    written = re.sub(r"\s+", " ", written).strip().rstrip(".").strip()
    written = re.sub(r" ?([-+*/=<>(){},^_\[\]]) ?", r"\1", written)
    written = _ASSIGNED.sub("", written, count=1) if _ASSIGNED.match(written) else written
    if not re.search(r"\w", written):
        return None
    if _PLAIN_NUMBER.fullmatch(written):
        return number_text(Fraction(written.replace(",", "").rstrip(".") or "0"))
    fraction = _PLAIN_FRACTION.fullmatch(written)
    if fraction:
        return rf"{fraction[1]}\frac{{{fraction[2]}}}{{{fraction[3]}}}"
    return written
