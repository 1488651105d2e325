r"""The canonical form of a mathematical answer.

Notation is unified without changing what it means (`engine.answers.formulas.reading`); units,
percent signs and the name of a value (`x = 5`) are left out. Which canonical forms are the same
answer is decided by `engine.answers.formulas.math_structure`.
"""

from __future__ import annotations

import re
from fractions import Fraction

from engine.answers.forms.numbers import LONGEST, number_text
from engine.answers.forms.spelled_numbers import SPELLED, spelled_value
from engine.answers.formulas.names import FUNCTIONS
from engine.answers.formulas.pieces import (
    DEGREE,
    PERCENT,
    Piece,
    ends_item,
    fractions,
    is_product,
    written,
)
from engine.answers.formulas.reading import NotLatexError, pieces_of

_SCALES = {
    "dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9,
    "trillion": 10**12,
}  # fmt: skip
_UNITS = frozenset([
    "cm", "mm", "km", "ft", "in", "yd", "mi", "kg", "mg", "lb", "oz", "ml", "mL", "min", "sec",
    "hr", "hrs", "mph", "rad", "deg", "st", "nd", "rd", "th", "sq", "cu",
])  # fmt: skip
_NOT_UNITS = re.compile(
    r"\s*(?:or|and|to|by|if|for|when|where|with|mod|is|are|in|on|more|less|plus|minus|times|the"
    r"|not|no|any|all|each|[ap]\.?\s?m)\b",
    re.IGNORECASE,
)
_MANY_LETTERS = 4


def _and_or(pieces: list[Piece]) -> list[Piece]:
    """`3 and -3`, `x=1 or x=2` as lists; `salt and pepper` stays."""
    result: list[Piece] = []
    for place, piece in enumerate(pieces):
        joins = re.fullmatch(r",? ?(?:and|or)", piece.text) and piece.kind in ("words", "letters")
        around = [*result[-1:], *pieces[place + 1 : place + 2]]
        if joins and len(around) == 2 and not any(_is_word(other) for other in around):
            if result[-1].text != ",":
                result.append(Piece("mark", ","))
        else:
            result.append(piece)
    return result


def _is_word(piece: Piece) -> bool:
    return piece.kind == "words" or (piece.kind == "letters" and len(piece.text) > 1)


def _without_units(pieces: list[Piece]) -> list[Piece]:
    """Without units and percent signs at the ends of items; `2 million` is 2000000."""
    angles = not any(piece.text[1:] in FUNCTIONS for piece in pieces)
    result: list[Piece] = []
    place = 0
    while place < len(pieces):
        piece = pieces[place]
        end = _unit_end(pieces, place) if result and result[-1].kind in _VALUED else place
        if end > place:
            place = end
        elif piece.text == DEGREE and angles:
            after = pieces[place + 1] if place + 1 < len(pieces) else None
            celsius = after is not None and after.text in ("C", "F")
            ends = place + 2 == len(pieces) or (celsius and ends_item(pieces[place + 2]))
            place += 2 if celsius and ends else 1
        elif piece.kind == "words" and piece.text in _SCALES and _is_number(result):
            value = Fraction(result[-1].text) * _SCALES[piece.text]
            result[-1] = Piece("number", number_text(value), result[-1].gap)
            place += 1
        else:
            result.append(piece)
            place += 1
    return result


_VALUED = frozenset(
    ["number", "fraction", "value", "command", "close", "script", "unit", "letters"]
)


def _is_number(pieces: list[Piece]) -> bool:
    return bool(pieces) and pieces[-1].kind == "number"


def _unit_end(pieces: list[Piece], start: int) -> int:
    """The end of the unit that begins at `start`; `start` if none does, or an item goes on."""
    before = pieces[start - 1]
    place = start
    while place < len(pieces):
        piece = pieces[place]
        first = place == start
        if piece.kind == "unit":
            if piece.text != PERCENT:
                break
        elif piece.kind == "words":
            if piece.text in _SCALES or _NOT_UNITS.match(piece.text):
                break
        elif piece.kind == "letters":
            if first and not _is_plain_unit(before, piece):
                break
            if len(piece.text) > 1 and _NOT_UNITS.match(piece.text) and piece.text not in _UNITS:
                break
        elif first or not (piece.kind == "script" or piece.text in ("/", r"\cdot")):
            break
        place += 1
    follows = pieces[place] if place < len(pieces) else None
    return place if ends_item(follows) else start


def _is_plain_unit(before: Piece, piece: Piece) -> bool:
    """Whether letters after a value are a unit, not a factor."""
    if before.kind not in ("number", "fraction") and before.text != PERCENT:
        return False
    return piece.text in _UNITS or (piece.gap and len(piece.text) >= _MANY_LETTERS)


def _trimmed(pieces: list[Piece]) -> list[Piece]:
    """Without punctuation around the answer; `!` after a value is a factorial and stays."""
    start, end = 0, len(pieces)
    while start < end and pieces[start].text in (",", ";", ":", "=", ".", "?", r"\\"):
        start += 1
    while start < end:
        last = pieces[end - 1]
        exclaimed = last.text == "!" and end - start > 1 and _is_word(pieces[end - 2])
        if last.text not in (",", ";", ":", ".", "?", r"\\") and not exclaimed:
            break
        end -= 1
    if end - start > 1 and pieces[start].text == "+":
        start += 1
    return pieces[start:end]


VARIABLE = r"(?:[A-Za-z]|\\[a-z]{2,7})(?:_(?:\w|\{[^{}]{1,20}\}))?'{0,3}"
_ASSIGNED = re.compile(
    rf"(?P<name>{VARIABLE}(?:\([^()]{{1,40}}\))?|\({VARIABLE}(?:,{VARIABLE}){{0,5}}\)|[A-Z]{{2,4}})"
    r"=(?P<value>[^=]+)"
)
_UNKNOWNS = re.compile(r"\\(?!pi(?![a-z])|[a-z]*frac|sqrt|text)[A-Za-z]+|[A-Za-z]+")
_CONSTANT = frozenset(
    [r"\infty", r"\cup", r"\cap", r"\emptyset", r"\pm", r"\cdot", r"\times", r"\binom", "e", "i"]
    + [rf"\{name}" for name in FUNCTIONS]
)


def has_unknowns(form: str) -> bool:
    """Whether a canonical form has variables, as `2x+1`; words are not variables."""
    names = list(_UNKNOWNS.findall(re.sub(r"\\\\|\\[{}]", " ", form)))
    return any(
        name not in _CONSTANT and (len(name) == 1 or name[0] == "\\" or is_product(name))
        for name in names
    )


def split_top(form: str, separators: tuple[str, ...]) -> list[str]:
    """The parts of a canonical form between separators that are outside brackets and groups."""
    parts, start, depth, place = [], 0, 0, 0
    while place < len(form):
        found = next((mark for mark in separators if form.startswith(mark, place)), None)
        if form.startswith(r"\begin{", place):
            depth += 1
        elif form.startswith(r"\end{", place):
            depth -= 1
        if (
            found
            and depth == 0
            and not (found[-1].isalpha() and form[place + len(found)].isalpha())
        ):
            parts.append(form[start:place])
            place += len(found)
            start = place
            continue
        if form[place] in "([{":
            depth += 1
        elif form[place] in ")]}":
            depth -= 1
        place += 2 if form[place] == "\\" and form[place + 1 : place + 2] == "\\" else 1
    return [*parts, form[start:]]


def _without_names(form: str) -> str:
    r"""`x=5` and `x=3,x=-3` as their values; `y=2x+1` stays, for it is the equation of a line."""
    items = split_top(form, (",",))
    matches = [_ASSIGNED.fullmatch(item.strip()) for item in items]
    first = matches[0]
    if first is None:
        return form
    names = {match["name"] for match in matches if match}
    listed = all(matches) or not any("=" in item for item in items[1:])
    values = [match["value"] if match else item for match, item in zip(matches, items, strict=True)]
    if len(names) > 1 or not listed or any(has_unknowns(value) for value in values):
        return form
    return ",".join(values)


def _form(text: str) -> str | None:
    try:
        pieces = pieces_of(_EMPHASIS.sub("", text))
    except NotLatexError:
        return None
    pieces = _trimmed(_without_units(fractions(_and_or(_trimmed(pieces)))))
    form = _without_names(written(pieces)).strip()
    form = re.sub(r"^\(([\dA-Z.]+)\)(?=_[\d{])", r"\1", form)  # `(101)_2`
    if SPELLED.fullmatch(form):
        value = spelled_value(form)
        form = form if value is None else number_text(value)
    if form == r"\{\}":
        return r"\emptyset"
    return form if re.search(r"\w", form) else None


_INTEGER = re.compile(r"0|-?[1-9]\d{0,30}", re.ASCII)
"""Most answers; they are canonical."""
_EMPHASIS = re.compile(
    r"^[\s*`_]+|(?<![\s*`_])[\s*`_]++(?=[\s*`_.]*$)|(?<!\S)\*\*(?=\S)|(?<=\S)\*\*(?=[\s.,;:)]|$)"
)


def math_text(text: str) -> str | None:
    r"""The canonical form of a mathematical answer; None if it has no content, or unmatched braces.

    The form is idempotent. Numbers are plain (`12000`, `0.5`), fractions stay as written
    (`\frac{1}{2}`, `1\frac{1}{2}`), and everything else is LaTeX in one notation.
    """
    form: str | None = text if len(text) <= LONGEST else None
    # One simplification may uncover another.
    for _ in range(8):
        if form and _INTEGER.fullmatch(form):
            return form
        simplified = _form(form) if form else None
        if simplified == form:
            return form
        form = simplified
    return None
