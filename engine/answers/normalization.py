"""The canonical form of an answer of each type, which is counted, stored and trained on.

`engine.answers.extraction` finds answers in paths; this module only normalizes them. Every function
returns None for a text that is not an answer of its type. Normalization is idempotent.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from engine.answers.numbers import (
    LATEX_TEXT,
    LONGEST,
    SPELLED,
    number,
    number_text,
    plain,
    spelled_value,
    without_latex,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
UNKNOWN = "it is not possible to tell"
"""The paper's third answer to an inference question."""
INFERENCES = ("yes", "no", UNKNOWN)

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
_RULED_OUT = re.compile(
    r"\W*(?:option |choice |answer )?[(\[]?[A-J][)\]]? (?:is|can be|would be|was) "
    r"(?:not\b|incorrect|wrong|false|invalid|ruled out|eliminated)",
    re.I,
)
_NONE = re.compile(
    r"\b(?:none|neither|not (?:any |one )?(?:of|in|among|listed))\b"
    r"|\b(?:no|not a) (?:correct|valid|right|such|suitable) (?:answer|option|choice)\b"
)
_NONE_OPTION = re.compile(
    r"none(?: of (?:the|these|them|those|above|all).{0,20})?|no correct answer"
)
_NOT_WORDS = re.compile(r"[^\w.+\-/%√^²³]+")


def _bare_text(text: str) -> str:
    """The words of an option or a statement, for comparison."""
    words = _NOT_WORDS.sub(" ", plain(text).casefold()).strip(" .")
    return re.sub(r"^(?:the|an?) (?=\w)", "", words).replace(". ", " ")


def choice(text: str, options: Sequence[str] = ()) -> str | None:
    """The letter that `text` gives, or whose option it spells out.

    Args:
        text: such as `(b)`, `B`, `option B`, `b) the moon`, `the moon`.
        options: texts of the choices; without them any letter from A to J is a choice.

    Returns:
        An upper-case letter; None for no option or more than one.
    """
    line = plain(LATEX_TEXT.sub(r"\1", text[:LONGEST])).lstrip("\"'")
    letters = LETTERS[: len(options)] if options else LETTERS[:10]
    if names_no_choice(line, options):
        return None
    labeled = _LABEL.match(line)
    if labeled:
        letter = (labeled["upper"] or labeled["in"] or labeled["lower"]).upper()
        return letter if letter in letters else None
    words = _bare_text(line)
    bare = [_bare_text(option) for option in options]
    if words and bare.count(words) == 1:
        return LETTERS[bare.index(words)]
    unlabeled = _BARE.match(line)
    # "A bird" is an article and a word, "A because" is a letter.
    article = unlabeled and unlabeled[1] == "A" and unlabeled[2].lower() not in _AFTER_A
    if unlabeled and not article and unlabeled[1] in letters:
        return unlabeled[1]
    return _option_meant(line, words, options, bare) if options else None


def names_no_choice(text: str, options: Sequence[str]) -> bool:
    """Whether `text` names several options, rules one out, or has a letter without an option."""
    line = plain(text).lstrip("\"'")
    labeled = _LABEL.match(line)
    letters = LETTERS[: len(options)] if options else LETTERS[:10]
    outside = labeled and labeled["upper"] and labeled["upper"] not in letters
    several = _SEVERAL.match(line) or re.match(r"\W*(?:either|both)\b", line)
    return bool(outside or several or _RULED_OUT.match(line))


def _option_meant(line: str, words: str, options: Sequence[str], bare: Sequence[str]) -> str | None:
    """The only option that a statement without a letter can refer to."""
    if _NONE.search(words):
        return _only([bool(_NONE_OPTION.fullmatch(option)) for option in bare])
    value = number(line)
    if value is not None:
        same = _only([number(option) == value for option in options])
        if same:
            return same
        # "The answer is 2" is the second option if no option contains a number.
        if value.isdigit() and not any(re.search(r"\d", option) for option in options):
            return LETTERS[int(value) - 1] if 1 <= int(value) <= len(options) else None
        return None
    padded = f" {words} "
    contained = [len(option) > 2 and f" {option} " in padded for option in bare]
    longest = [
        inside
        and not any(
            other_inside and option != other and option in other
            for other_inside, other in zip(contained, bare, strict=True)
        )
        for inside, option in zip(contained, bare, strict=True)
    ]
    if any(longest):
        return _only(longest)
    long_enough = len(words) >= 12 or len(words.split()) >= 2
    return _only([long_enough and f" {words} " in f" {option} " for option in bare])


def _only(chosen: Sequence[bool]) -> str | None:
    """The letter of the chosen option; None unless exactly one is chosen."""
    return LETTERS[chosen.index(True)] if sum(chosen) == 1 else None


# Yes and no, inference.

_YES_NO = re.compile(
    r"\W*(?:(?:that |it )?(?:is|would be|should be) )?"
    r"(?:(?P<yes>yes|true|yeah|yep)|(?P<no>no|false|nope))\b"
    r"(?!-| (?:answer|one|body|way|matter|doubt|longer|more|less|single|other|evidence)\b)",
    re.I,
)
_UNKNOWN = re.compile(
    r"not possible to (?:tell|say|know|determine|conclude)"
    r"|impossible to (?:tell|say|know|determine)"
    r"|(?:can ?not|can't|could not|unable to) (?:be )?"
    r"(?:tell|told|say|said|know|known|determined?|conclude)"
    r"|not enough information|insufficient|inconclusive|undetermined|indeterminate"
    r"|unclear|uncertain|\b(?:neutral|unknown|maybe|neither)\b",
    re.I,
)
_ENTAILED = re.compile(
    r"\W*(?:(?:an?|the|it is|it's|this is) )*(?:entail(?:ment|ed|s)|implied|definitely true)\b",
    re.I,
)
_CONTRADICTED = re.compile(
    r"\W*(?:(?:an?|the|it is|it's|this is) )*"
    r"(?:contradict(?:ion|ed|s|ory)|not[ _-]entail(?:ment|ed)|refuted)\b",
    re.I,
)
_LETTERED = re.compile(r"\W*(?:option |choice )?(?:[(\[]([a-c])[)\]]|([a-c])(?:[).:]|$))\s*", re.I)


def yes_no(text: str) -> str | None:
    """`yes` or `no`; also from true and false."""
    match = _YES_NO.match(plain(text))
    if match is None:
        return None
    return "yes" if match["yes"] else "no"


def inference(text: str, options: Sequence[str] = ()) -> str | None:
    """`yes`, `no` or `it is not possible to tell`, from the words of the paper or of NLI data sets.

    A bare letter is that option; without options, (a) is yes, (b) is no and (c) is neither.
    """
    line = plain(text)
    lettered = _LETTERED.match(line)
    if lettered:
        rest = line[lettered.end() :].strip(" .*\"')")
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
    """Words of a passage: lower case, without articles and punctuation, numbers normalized.

    A number with a unit is the bare number, as in the comparison of DROP: `21 yards` is `21`.
    """
    return _fixed_point(_span_words, text)


def _fixed_point(step: Callable[[str], str | None], text: str) -> str | None:
    """Repeat a simplification until nothing changes: one removal may uncover another.

    None if it still changes after eight times.
    """
    form = step(text)
    for _ in range(8):
        simplified = step(form) if form else None
        if simplified == form:
            return form
        form = simplified
    return None


def _span_words(text: str) -> str | None:
    words = plain(without_latex(text[:LONGEST])).casefold().replace("−", "-")
    words = _HYPHEN.sub(" ", words)
    words = _ARTICLES.sub(" ", _NOT_SPAN.sub(" ", words))
    words = " ".join(_number_token(word) for word in words.split())
    with_unit = _WITH_UNIT.fullmatch(words)
    if with_unit:
        words = with_unit[1]
    if SPELLED.fullmatch(words):
        words = number_text(spelled_value(words))
    return words or None


def _number_token(word: str) -> str:
    if not _NUMBER_TOKEN.fullmatch(word) or len(word) > 40:
        return word
    return number_text(Fraction(word.replace(",", "")))


def spans_equal(a: str, b: str) -> bool:
    """Whether two canonical spans are the same answer.

    The order of several spans does not matter, and a bare number equals a span of that number and
    a few words (`5` and `5 ships`).
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
_MATH_UNIT = re.compile(
    r"(?<=[\d})])\s*\\(?:text|mathrm|mbox)\s?\{(?!\s*[ap]\.?\s?m\b)[^{}]*\}(?:\^\{?\d\}?)?$", re.I
)
_MATH_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|textit)\s?\{([^{}]*)\}")
_SHORT_FRACTION = re.compile(r"\\frac\s?(\d|[a-z])\s?(\d|[a-z])(?!\w)")
_HALF_FRACTION = re.compile(r"\\frac\s?(?:\{([^{}]{1,200})\}\s?(\d)|(\d)\s?\{([^{}]{1,200})\})")
_PLAIN_FRACTION = re.compile(r"(-?)(\d{1,40})/(\d{1,40})")
_ASSIGNED = re.compile(r"[a-zA-Z]\w?\s?=\s?(?=[^=]+$)")
_PLAIN_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d{1,40})(?:\.\d{0,40})?|-?\.\d{1,40}")


def math_text(text: str) -> str | None:
    """LaTeX of a mathematical answer without delimiters, spacing commands and units.

    Plain numbers and fractions of plain numbers are normalized; `engine.answers.math_equality`
    decides about other forms.
    """
    return _fixed_point(_math_form, text) if len(text) <= LONGEST else None


def _math_form(text: str) -> str | None:
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
    if not re.search(r"\w", written) or written.count("{") != written.count("}"):
        return None
    if _PLAIN_NUMBER.fullmatch(written):
        return number_text(Fraction(written.replace(",", "").rstrip(".") or "0"))
    fraction = _PLAIN_FRACTION.fullmatch(written)
    if fraction:
        return rf"{fraction[1]}\frac{{{fraction[2]}}}{{{fraction[3]}}}"
    return written
