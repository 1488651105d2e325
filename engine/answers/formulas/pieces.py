r"""The pieces of a formula, and how they are written in one notation.

`engine.answers.formulas.reading` reads LaTeX into pieces: numbers, letters, commands with their
arguments, scripts and brackets.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.answers.formulas.names import RELATIONS


class Piece(NamedTuple):
    """A part of a formula, in canonical notation."""

    kind: str
    """`number`, `fraction` (of two integers), `letters`, `words` (of `\\text`), `command`, `value`,
    `script`, `mark` (an operator, a relation, punctuation), `open`, `close`, `space` or `unit`."""
    text: str
    gap: bool = False
    """Whether a space came before it."""


def solid(pieces: list[Piece]) -> list[Piece]:
    """The pieces without the spaces, which become a property of the next piece."""
    found: list[Piece] = []
    gap = False
    for piece in pieces:
        if piece.kind == "space":
            gap = True
        else:
            found.append(piece._replace(gap=gap or piece.gap))
            gap = False
    return found


def written(pieces: list[Piece]) -> str:
    """Pieces as text, with a space only where two of them would become one."""
    text, before = "", None
    for piece in fractions(solid(pieces)):
        if before is None:
            text = piece.text
        elif before.kind == "script" and piece.kind == "number":
            # `x^2 3` must not become `x^23`.
            braced = text if text[-1] == "}" else f"{text[:-1]}{{{text[-1]}}}"
            text = braced + piece.text
        else:
            text += f" {piece.text}" if _apart(before, piece) else piece.text
        before = piece
    return text


_WORDED = frozenset(["letters", "words", "number"])


def _apart(before: Piece, piece: Piece) -> bool:
    """Whether a space must stay between two pieces."""
    if before.text[0] == "\\" and before.text[-1].isalpha() and piece.text[0].isalpha():
        return True
    if before.text == "," and piece.kind == "number":
        return len(piece.text.split(".")[0]) == 3  # `100, 200` is not 100200
    if "words" in (before.kind, piece.kind):
        return piece.kind not in ("mark", "script", "close") and before.kind not in ("mark", "open")
    if before.kind not in _WORDED or piece.kind not in _WORDED:
        return False
    if before.kind == "number" and piece.kind == "letters":
        return piece.gap and not (len(piece.text) == 1 or is_product(piece.text))
    return piece.gap or before.kind == piece.kind


def is_product(letters: str) -> bool:
    """Whether a run of letters is a product: no word is made of x, y and z alone."""
    return set(letters) <= set("xyz")


_ENDS = frozenset([",", ";", ":", "=", "<", ">", "&", r"\\", "+", "-", "|", r"\cup", r"\cap"])
DEGREE, PERCENT = r"^{\circ}", r"\%"


def ends_item(piece: Piece | None) -> bool:
    """Whether a piece (None at the end of the text) ends an item of a list or a side."""
    if piece is None or piece.kind in ("open", "close"):
        return True
    named = piece.text.removeprefix("\\")
    return piece.kind == "mark" and (
        piece.text in _ENDS or named in RELATIONS or named.startswith(("begin", "end"))
    )


def fractions(pieces: list[Piece]) -> list[Piece]:
    r"""`1/2` and `1 1/2`, between the ends of an item, as `\frac{1}{2}` and `1\frac{1}{2}`."""
    result: list[Piece] = []
    place = 0
    while place < len(pieces):
        if pieces[place].kind == "number" and (not result or ends_item(result[-1])):
            mixed = _is_division(pieces[place + 1 : place + 4])
            length = 4 if mixed else 3 if _is_division(pieces[place : place + 3]) else 0
            after = pieces[place + length] if place + length < len(pieces) else None
            if length and (ends_item(after) or (after and after.kind in ("words", "unit"))):
                above, below = pieces[place + length - 3], pieces[place + length - 1]
                result += pieces[place : place + length - 3]
                result.append(Piece("fraction", rf"\frac{{{above.text}}}{{{below.text}}}"))
                place += length
                continue
        result.append(pieces[place])
        place += 1
    return result


def _is_division(pieces: list[Piece]) -> bool:
    return (
        len(pieces) == 3
        and pieces[1].text == "/"
        and all(piece.kind == "number" and piece.text.isdecimal() for piece in pieces[::2])
    )
