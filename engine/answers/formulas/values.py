r"""Compare expressions and equations by value, with math-verify and SymPy.

Only the child process of `math_equality` imports this module: SymPy can run forever.
math-verify's grammar reads `2(3)` as 5, `\log_2 3\cdot 4` as a logarithm of 12, and decimals as
floats that are equal to six places; so expressions are made explicit before they are parsed, and a
result counts only if the values agree to many digits.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
from math_verify import verify

from engine.answers.formulas.form import split_top
from engine.answers.formulas.names import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

_DIGITS = 40
"""Digits of a numeric comparison."""
_POINTS = (
    (sympy.Rational(7, 5), sympy.Rational(12, 7), sympy.Rational(19, 11), sympy.Rational(33, 13)),
    (sympy.Rational(-9, 7), sympy.Rational(8, 3), sympy.Rational(-17, 13), sympy.Rational(5, 9)),
    (sympy.Rational(3), sympy.Rational(5), sympy.Rational(2), sympy.Rational(7)),
)
"""Values of the variables, in alphabetical order and again from the start."""
_MARKS = (r"\leq", r"\geq", r"\neq", "<", ">", "=")
_DIRECTIONS = {"=": 0, r"\neq": 0, "<": 1, r"\leq": 1, ">": -1, r"\geq": -1}
_STRICT = {"=": "=", r"\neq": "!", "<": "<", ">": "<", r"\leq": "<=", r"\geq": "<="}


def same(a: str, b: str) -> bool:
    """Whether two canonical expressions, or two equations or inequalities, are equivalent."""
    first, second = split_top(a, _MARKS), split_top(b, _MARKS)
    if len(first) == len(second) == 1:
        return _same_values(_parsed(a), _parsed(b))
    if len(first) != 2 or len(second) != 2:
        return False
    marks = a[len(first[0]) : len(a) - len(first[1])], b[len(second[0]) : len(b) - len(second[1])]
    left, right = (_parsed(sides[0]) - _parsed(sides[1]) for sides in (first, second))
    if _STRICT[marks[0]] != _STRICT[marks[1]] or left.free_symbols != right.free_symbols:
        return False
    # Equivalent if one is a multiple of the other, with a factor of the right sign.
    factor = sympy.simplify(left / right)
    if not factor.is_number or not factor.is_nonzero:
        return False
    turned = _DIRECTIONS[marks[0]] * _DIRECTIONS[marks[1]]
    return turned == 0 or bool(factor.is_positive if turned > 0 else factor.is_negative)


def _same_values(first: Any, second: Any) -> bool:
    if first.has(sympy.zoo, sympy.nan) or second.has(sympy.zoo, sympy.nan):
        return False
    if first.is_Rational and second.is_Rational:
        return bool(first == second)
    names = sorted(first.free_symbols | second.free_symbols, key=str)
    for point in _POINTS:
        values = {name: point[place % len(point)] for place, name in enumerate(names)}
        if _differ(first.subs(values), second.subs(values)):
            return False
        if not names:
            break
    return verify(first, second, timeout_seconds=None) or verify(
        second, first, timeout_seconds=None
    )


def _differ(first: Any, second: Any) -> bool:
    """Whether two constants differ; False if they cannot be evaluated."""
    one, other = (sympy.N(value, _DIGITS) for value in (first, second))
    if not (one.is_number and other.is_number) or one.has(sympy.zoo, sympy.nan):
        return False
    if one == other:
        return False
    if not (one.is_finite and other.is_finite):
        return True
    size = max(abs(one), abs(other))
    return bool(abs(one - other) > size * sympy.Float(10) ** (10 - _DIGITS))


@lru_cache(maxsize=256)
def _parsed(form: str) -> Any:
    """A SymPy expression.

    Raises:
        Exception: the expression cannot be parsed.
    """
    expression = latex2sympy(
        explicit(form),
        is_real=True,
        normalization_config=None,
        conversion_config=ConversionConfig(lowercase_symbols=False),
    )
    imaginary = [name for name in expression.free_symbols if str(name) == "i"]
    return expression.subs(dict.fromkeys(imaginary, sympy.I)).doit()


_TOKEN = re.compile(r"\^\{\\circ\}|\\[A-Za-z]+(?:\[\d+\])?|\d+(?:\.\d+)?|[A-Za-z]|[^\s]")
_MIXED = re.compile(r"(?<![\d.}\w])(\d+)\\frac\{(\d+)\}\{(\d+)\}")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_ANGLE = re.compile(r"(\d+(?:\.\d+)?)\^\{\\circ\}")
_OPERATORS = frozenset(["+", "-", "*", "/", r"\cdot", r"\times", r"\div", "=", ")", "}", "|"])


_WITH_SCRIPTS = {rf"\{name}" for name in FUNCTIONS} | {r"\sum", r"\prod"}


def explicit(form: str) -> str:
    """The expression with every product, mixed number and argument of a function spelled out."""
    form = _MIXED.sub(_mixed, _ANGLE.sub(r"(\1\\cdot\\frac{\\pi}{180})", form))
    tokens = _TOKEN.findall(form)
    letters = {token for token in tokens if token.isalpha()}
    # The grammar takes `d` for the start of a differential.
    free = next(letter for letter in "DKLMQRTUVWYZ" if letter not in letters)
    tokens = [{"d": free}.get(token, token) for token in _with_arguments(tokens)]
    written: list[str] = []
    for place, token in enumerate(tokens):
        before = tokens[place - 1] if place else ""
        if _is_product(before, token):
            written.append(r"\cdot")
        followed = place + 1 < len(tokens) and tokens[place + 1] in ("^", "!")
        written.append(_decimal(token, followed=followed) if "." in token else token)
    return re.sub(r"(\\[A-Za-z]+) (?![A-Za-z])", r"\1", " ".join(written)).replace("_ ", "_")


def _decimal(written: str, *, followed: bool) -> str:
    value = Fraction(written)
    fraction = rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
    return f"({fraction})" if followed else fraction


def _mixed(match: re.Match[str]) -> str:
    whole, above, below = match.groups()
    if 0 < int(above) < int(below):
        return rf"({whole}+\frac{{{above}}}{{{below}}})"
    return match[0]


def _is_product(before: str, after: str) -> bool:
    """Whether a product sign is needed between two tokens."""
    if not before or before in ("_", "^"):
        return False
    if after == "(":
        return before == ")" or before.isalpha() or _NUMBER.fullmatch(before) is not None
    if _NUMBER.fullmatch(after):
        return before in (")", "}", "!")
    return after.startswith((r"\frac", r"\sqrt", r"\binom")) and bool(_NUMBER.fullmatch(before))


def _with_arguments(tokens: Sequence[str]) -> list[str]:
    r"""Parentheses around the argument of a function: `\sin 2x` ends before the next operator."""
    result: list[str] = []
    place = 0
    while place < len(tokens):
        name = tokens[place]
        result.append(name)
        place += 1
        if name not in _WITH_SCRIPTS:
            continue
        while place < len(tokens) and tokens[place] in ("^", "_"):  # `\sin^2 x`, `\log_2 8`
            end = _group_end(tokens, place + 1)
            script = tokens[place + 1 : end]
            result += [tokens[place], *(script if script[:1] == ["{"] else ["{", *script, "}"])]
            place = end
        if name in (r"\sum", r"\prod") or (place < len(tokens) and tokens[place] == "("):
            continue
        end = place
        while end < len(tokens) and tokens[end] not in _OPERATORS:
            if tokens[end] in _WITH_SCRIPTS:
                break
            end = _group_end(tokens, end)
        if end > place:
            result += ["(", *_with_arguments(tokens[place:end]), ")"]
        place = end
    return result


def _group_end(tokens: Sequence[str], start: int) -> int:
    """The place after the token or the group at `start`."""
    pairs = {"{": "}", "(": ")"}
    closing = pairs.get(tokens[start]) if start < len(tokens) else None
    if closing is None:
        return min(start + 1, len(tokens))
    depth = 0
    for place in range(start, len(tokens)):
        depth += (tokens[place] == tokens[start]) - (tokens[place] == closing)
        if depth == 0:
            return place + 1
    return len(tokens)
