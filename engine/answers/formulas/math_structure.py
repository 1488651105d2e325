r"""Which canonical forms are the same mathematical answer.

Structure is compared here: exact numbers, words, lists, sets, tuples and intervals, unions,
matrices, equations and inequalities. Only single values such as `\sqrt{8}`, and equations that are
written differently, are given to math-verify (`math_equality`), and only if it reads
everything in them: it would drop the base of `24_5`, the primes of `f'`, and units.
"""

from __future__ import annotations

import re
from fractions import Fraction

from engine.answers.formulas import math_equality
from engine.answers.formulas.form import VARIABLE, has_unknowns, math_text, split_top
from engine.answers.formulas.names import FUNCTIONS
from engine.answers.formulas.pieces import is_product

_SHORT = 3
"""A longer run of letters is not a product."""
_MOST_ITEMS = 20
"""Longer lists are compared in order: in any order takes the square of their length."""

_EXACT = re.compile(
    r"(?P<sign>-?)(?:(?P<decimal>\d+(?:\.\d+)?)"
    r"|(?P<whole>\d+)?\\frac\{(?P<above>-?\d+)\}\{(?P<below>-?\d+)\})"
)


def exact_value(form: str) -> Fraction | None:
    """The value of an integer, a decimal, a fraction or a mixed number."""
    match = _EXACT.fullmatch(form)
    if match is None:
        return None
    if match["decimal"]:
        value = Fraction(match["decimal"])
    else:
        above, below = int(match["above"]), int(match["below"])
        if below == 0:
            return None
        value = Fraction(above, below)
        if match["whole"]:
            if not 0 < above < below:
                return None  # `2\frac{4}{3}` may be a product
            value += int(match["whole"])
    return -value if match["sign"] else value


def same(a: str, b: str) -> bool:
    """Whether two canonical forms are the same answer; the order does not matter.

    May start a child process and take seconds.
    """
    return a == b or _same(*sorted((a, b)))


def _same(a: str, b: str) -> bool:
    if a == b:
        return True
    values = exact_value(a), exact_value(b)
    if None not in values:
        return values[0] == values[1]
    if a.casefold() == b.casefold() and _is_words(a):
        return True
    if any(
        _is_words(form) and not _may_be_product(form, other) for form, other in ((a, b), (b, a))
    ):
        return False
    first, second = _items(a), _items(b)
    if len(first) > 1 or len(second) > 1:
        ordered = all(re.fullmatch("[A-Z]", item) for item in (*first, *second))
        return _same_items(first, second, ordered=ordered)
    return _same_single(first[0], second[0]) if first and second else False


_WORDS = re.compile(r"[A-Za-z][A-Za-z.'-]*(?: [A-Za-z.'-]+)*")


def _is_words(form: str) -> bool:
    """Whether a form is words or a run of letters such as an ordering (`DCAB`), not a product.

    Two letters or more are words: `no` and `on` must differ, even if `ab` and `ba` then do, too.
    """
    letters = form.replace(" ", "")
    return len(letters) > 1 and _WORDS.fullmatch(form) is not None and not is_product(letters)


def _may_be_product(letters: str, other: str) -> bool:
    r"""Whether letters may be a product: the other form is one, as `p\cdot q`."""
    return len(letters) <= _SHORT and not _is_words(other) and _is_value(other)


_ELEMENT_OF = re.compile(VARIABLE + r"\\in(?=\\\{)")


def _items(form: str) -> list[str]:
    r"""The items of a list or a set; `\pm 3` is a list of two."""
    inside = _between(_ELEMENT_OF.sub("", form), r"\{", r"\}")
    if inside is not None and "|" not in inside and ":" not in inside:
        form = inside
    items = []
    for item in split_top(form, (",", ";")):
        if r"\pm" in item or r"\mp" in item:
            for plus, minus in (("+", "-"), ("-", "+")):
                written = item.replace(r"\pm", plus).replace(r"\mp", minus)
                items.append(math_text(written) or written)
        else:
            items.append(item.strip())
    return items


def _between(form: str, opening: str, closing: str) -> str | None:
    """What is between brackets that enclose the whole form."""
    if not (form.startswith(opening) and form.endswith(closing)):
        return None
    inside = form[len(opening) : len(form) - len(closing)]
    depth = 0
    for character in inside:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return None
    return inside


def _same_items(first: list[str], second: list[str], *, ordered: bool) -> bool:
    """Whether each item of one list is the same as one of the other."""
    if len(first) != len(second):
        return False
    if ordered or len(first) > _MOST_ITEMS:
        return all(_same(*sorted(pair)) for pair in zip(first, second, strict=True))
    left = list(second)
    for item in first:
        match = next((other for other in left if _same(*sorted((item, other)))), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _same_single(a: str, b: str) -> bool:
    unions = [split_top(form, (r"\cup",)) for form in (a, b)]
    if len(unions[0]) > 1 or len(unions[1]) > 1:
        return _same_items(*unions, ordered=False)
    relations = _relation(a), _relation(b)
    if relations[0].marks or relations[1].marks:
        return _same_relations(a, b, *relations)
    for opening in "([":
        for closing in ")]":
            tuples = [_tuple(form, opening, closing) for form in (a, b)]
            if all(tuples):
                return _same_items(*tuples, ordered=True)
            if any(tuples):
                return False
    matrices = _matrix(a), _matrix(b)
    if matrices[0] or matrices[1]:
        return _same_matrices(*matrices)
    return _is_value(a) and _is_value(b) and math_equality.math_equal(a, b)


def _tuple(form: str, opening: str, closing: str) -> list[str]:
    """The coordinates of a tuple, or the ends of an interval; empty if the form is neither."""
    inside = _between(form, opening, closing)
    parts = split_top(inside, (",", ";")) if inside else []
    return parts if len(parts) > 1 else []


# Matrices.

_MATRIX = re.compile(
    r"(?P<open>[(\[]?)\\begin\{(?P<kind>[pb]?(?:small)?matrix|array)\}(?P<rows>.*)"
    r"\\end\{(?P=kind)\}(?P<close>[)\]]?)"
)


def _matrix(form: str) -> list[list[str]]:
    """The rows of a matrix; empty if the form is not one. Determinants are not matrices."""
    match = _MATRIX.fullmatch(form)
    if match is None or r"\begin" in match["rows"] or len(match["open"]) != len(match["close"]):
        return []
    rows = match["rows"].removesuffix(r"\\").split(r"\\")
    return [row.split("&") for row in rows]


def _same_matrices(a: list[list[str]], b: list[list[str]]) -> bool:
    shapes = [[len(row) for row in matrix] for matrix in (a, b)]
    if shapes[0] != shapes[1]:
        return False
    flat = [[cell for row in matrix for cell in row] for matrix in (a, b)]
    return _same_items(flat[0], flat[1], ordered=True)


# Relations.


class _Relation:
    """Sides and the marks between them: `1<x\\leq 2` has three sides and two marks."""

    def __init__(self, sides: list[str], marks: list[str]) -> None:
        self.sides = sides
        self.marks = marks


_MARKS = (
    r"\leq", r"\geq", r"\neq", r"\in", r"\notin", r"\approx", r"\equiv", r"\subset", "<", ">", "=",
)  # fmt: skip
_FLIPPED = {"<": ">", ">": "<", r"\leq": r"\geq", r"\geq": r"\leq", "=": "=", r"\neq": r"\neq"}
_NAME = re.compile(VARIABLE + r"(?:\([^()]{1,40}\))?")


def _relation(form: str) -> _Relation:
    sides = split_top(form, _MARKS)
    marks, place = [], 0
    for side in sides[:-1]:
        place += len(side)
        mark = next(mark for mark in _MARKS if form.startswith(mark, place))
        marks.append(mark)
        place += len(mark)
    return _Relation([side.strip() for side in sides], marks)


def _same_relations(a: str, b: str, first: _Relation, second: _Relation) -> bool:
    intervals = _interval(first), _interval(second)
    if any(intervals) and not (first.marks and second.marks and None in intervals):
        (name, inside), (other, set_) = (
            interval or ("", form) for interval, form in zip(intervals, (a, b), strict=True)
        )
        return (not name or not other or name == other) and _same(*sorted((inside, set_)))
    if first.marks and second.marks:
        return _same_sides(a, b, first, second)
    equation, value = (first, b) if first.marks else (second, a)
    # `y=2x+1` is also given as `2x+1`, and `2+3=5` as 5.
    sides = equation.sides
    if _NAME.fullmatch(sides[-1]) and not has_unknowns(sides[0]):
        sides = sides[::-1]  # `3=x`
    named = _NAME.fullmatch(sides[0]) or not has_unknowns(",".join(sides))
    if set(equation.marks) != {"="} or not named:
        return False
    return _same(*sorted((sides[-1], value)))


def _same_sides(a: str, b: str, first: _Relation, second: _Relation) -> bool:
    if len(first.marks) != len(second.marks):
        return False
    reverse = [_FLIPPED.get(mark, "") for mark in reversed(second.marks)]
    for sides, marks in ((second.sides, second.marks), (second.sides[::-1], reverse)):
        if marks == first.marks and _same_items(first.sides, sides, ordered=True):
            return True
    solvable = all(
        len(marks) == 1 and marks[0] in _FLIPPED for marks in (first.marks, second.marks)
    )
    values = all(_is_value(side) for side in (*first.sides, *second.sides))
    return solvable and values and math_equality.math_equal(a, b)


def _interval(relation: _Relation) -> tuple[str, str] | None:
    r"""`x\in S`, `x<5` and `1<x\leq 2` as (variable, set)."""
    sides, marks = relation.sides, relation.marks
    if marks == [r"\in"] and _NAME.fullmatch(sides[0]):
        return sides[0], sides[1]
    if not marks or not set(marks) <= {"<", ">", r"\leq", r"\geq"}:
        return None
    if set(marks) & {">", r"\geq"}:
        sides, marks = sides[::-1], [_FLIPPED[mark] for mark in reversed(marks)]
    if set(marks) & {">", r"\geq"} or len(sides) > 3:
        return None
    if len(sides) == 2:
        if _NAME.fullmatch(sides[0]) and not has_unknowns(sides[1]):
            sides, marks = [r"-\infty", *sides], ["<", *marks]
        elif _NAME.fullmatch(sides[1]) and not has_unknowns(sides[0]):
            sides, marks = [*sides, r"\infty"], [*marks, "<"]
        else:
            return None
    low, name, high = sides
    if not _NAME.fullmatch(name) or has_unknowns(f"{low},{high}"):
        return None
    opening, closing = ("(" if marks[0] == "<" else "["), (")" if marks[1] == "<" else "]")
    return name, f"{opening}{low},{high}{closing}"


# Single values.

_GREEK = (
    "alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|lambda|mu|nu|xi|rho|sigma|tau|phi"
    "|varphi|chi|psi|omega|Delta|Omega|Sigma|Phi"
)
_READ = re.compile(
    rf"(?:\\(?:{'|'.join(sorted(FUNCTIONS))}|frac|sqrt|binom|pi|infty|cdot|times|div|sum|prod|lfloor"
    rf"|rfloor|lceil|rceil|{_GREEK})(?![A-Za-z])"
    r"|\\sqrt\[\d{1,3}\]|\^\{\\circ\}|\d+(?:\.\d+)?|[A-Za-z]{1,3}(?![A-Za-z])|[-+*/^_(){}|!= ])+"
)
"""Everything that math-verify reads as it is meant."""
_MISREAD = re.compile(
    r"[\d)}]_|\d \d|[A-Za-z]\d|[A-Za-z] [A-Za-z]{2}|[A-Za-z]{2} [A-Za-z]|(?<![A-Za-z\\])[fghFGHP]\("
    r"|[A-Za-z]\}?_\{[^{}]*[^A-Za-z\d{}][^{}]*\}"
)
"""Bases, digits side by side, functions of one argument, subscripts that are expressions."""


def _is_value(form: str) -> bool:
    """Whether math-verify reads the form, and all of it."""
    plain = re.sub(r"\\(?:log|sum|prod)_(?:\{[^{}]*\}|\w)", r"\\", form)
    plain = re.sub(r"\\[A-Za-z]+", r"\\", plain)
    return _READ.fullmatch(form) is not None and _MISREAD.search(plain) is None
