"""Decide whether the numbers that name options are counted from 0 or from 1.

Data sets differ, and one row does not show it: the whole file decides. Counted from the wrong end,
every answer would be another option, and none would look wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.answers import extraction
from engine.answers.forms.normalization import LETTERS
from engine.answers.forms.numbers import number
from engine.importing.labels.options import OPTION_COLUMN
from store.enums import AnswerType, EndReason
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.importing.labels.options import Options

_POSITION = re.compile(
    r"(?:(?:option|choice|answer|ending|alternative|number)[ _]?)?\(?([+-]?\d{1,4})(?:\.0+)?[).]?",
    re.I,
)
_NOT_NAME = re.compile(r"[^a-z0-9]")
_COUNTED_FROM_0 = {"sol", "choice"}
"""Numbered columns of PIQA and COPA, whose labels are 0 and 1; such names decide nothing."""


class AmbiguousLabels(BadInput):
    """The file does not show whether its labels are counted from 0 or from 1."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """How the numbers in a column of answers name options."""

    first: int | None
    """The number of the first option, 0 or 1; None if no number is a position."""
    note: str
    """How it was decided, for the user; empty if nothing had to be."""


NO_NUMBERS = Numbering(None, "")


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A row whose answer is a number that is no label of its options."""

    line: int
    value: int
    options: Options

    def fits(self, first: int) -> bool:
        """Whether the number names an option if the first one has the number `first`."""
        return _at(self.value - first, self.options) is not None

    @property
    def is_text(self) -> bool:
        """Whether the number is the text of an option."""
        return _by_text(str(self.value), self.options) is not None


def label_numbering(
    where: str, answers: Sequence[tuple[int, Any, Options]], given: int | None = None
) -> Numbering:
    """Decide for a whole file.

    Args:
        where: the file and its column of answers, for messages.
        answers: (line, answer, options) of every row that has options.
        given: 0 or 1 as the user chose; None lets the file decide.

    Raises:
        AmbiguousLabels: both are possible.
        BadInput: neither is: some line has 0 and another the number of its options.
    """
    numbered = [
        _Numbered(line, value, options)
        for line, answer, options in answers
        if (value := position_of(answer)) is not None and _by_label(answer, options) is None
    ]
    if given is not None and numbered:
        return Numbering(given, f"labels counted from {given} (--labels-from)")
    for row in numbered:
        if row.value == 0 and _has_numbers(row.options):
            raise BadInput(
                f"{where}: line {row.line} has 0, but its options are numbered "
                f"{', '.join(row.options.labels)}: fix the answers or the options, or choose with "
                "--labels-from 0 or --labels-from 1."
            )
    return _decided(where, [row for row in numbered if not _has_numbers(row.options)])


def _decided(where: str, numbered: Sequence[_Numbered]) -> Numbering:
    """What the numbers say together, or else the names of the columns."""
    usable = [row for row in numbered if row.fits(0) or row.fits(1)]
    if numbered and _are_texts(numbered):
        return Numbering(None, "numbers are texts of options")
    if not usable:
        return NO_NUMBERS
    zero = next((row for row in usable if not row.fits(1)), None)
    last = next((row for row in usable if not row.fits(0)), None)
    if zero and last:
        raise BadInput(
            f"{where}: line {zero.line} has {zero.value} and line {last.line} has {last.value} of "
            f"{len(last.options.texts)} options, so the labels are counted neither from 0 nor from "
            "1: fix the wrong line, or choose with --labels-from 0 or --labels-from 1."
        )
    if zero:
        return Numbering(0, f"labels counted from 0: line {zero.line} has {zero.value}")
    if last:
        reason = f"line {last.line} has {last.value} of {len(last.options.texts)} options"
        return Numbering(1, f"labels counted from 1: {reason}, no line has 0")
    first = _by_column_names(usable[0].options)
    if first is None:
        raise AmbiguousLabels(
            f"{where}: the labels can be counted from 0 or from 1 (no line has 0, and none the "
            "number of its options): choose with --labels-from 0 or --labels-from 1."
        )
    shown = ", ".join(usable[0].options.columns[:2])
    return Numbering(first, f"labels counted from {first}: the options are named {shown}")


def inference_numbering(answers: Sequence[Any], labels: int, given: int | None = None) -> Numbering:
    """The same for NLI labels, whose convention is 0, 1, 2 unless a file has a 3 and no 0."""
    numbers = {value for answer in answers if (value := position_of(answer)) is not None}
    if not numbers:
        return NO_NUMBERS
    first = given if given is not None else int(labels in numbers and 0 not in numbers)
    return Numbering(first, f"labels counted from {first}" if first else "")


def check_yes_no(where: str, answers: Sequence[Any]) -> None:
    """Refuse numbers that do not show which one is yes; 1 is yes only beside 0.

    Raises:
        BadInput: the file has 2 and no 0.
    """
    numbers = {value for answer in answers if (value := position_of(answer)) is not None}
    if 2 in numbers and 0 not in numbers:
        raise BadInput(
            f"{where}: the numbers 1 and 2 do not say which is yes: write yes and no, or 1 and 0."
        )


def _are_texts(numbered: Sequence[_Numbered]) -> bool:
    """Whether numbers are texts of options, as in `options: [12, 15, 18], answer: 15`."""
    texts = [row for row in numbered if row.is_text]
    # An index that is by chance also the text of an option does not make all of them texts.
    beyond = any(not row.fits(0) and not row.fits(1) for row in texts)
    return beyond or len(texts) * 10 >= len(numbered) * 9


def _by_column_names(options: Options) -> int | None:
    match = OPTION_COLUMN.fullmatch(options.columns[0]) if options.columns else None
    if match is None or options.lowest not in (0, 1):
        return None
    known_from_0 = match["prefix"].strip(" _").lower() in _COUNTED_FROM_0
    return None if options.lowest and known_from_0 else options.lowest


# The answer of a row.


def option_letter(answer: Any, options: Options, numbering: Numbering) -> str | None:
    """The letter of the option that an answer names; None if it names none or several.

    Args:
        answer: a label, a position, a text, a list with a mark per option, or a worked solution.
        options: the choices of the row.
        numbering: decided by `label_numbering` for the whole file.
    """
    letter = _by_label(answer, options)
    written = _text(answer)
    if letter is not None or written is None:
        return letter
    value = position_of(answer)
    if value is not None and numbering.first is not None:
        return _at(value - numbering.first, options)
    # Readers give letters by position, so labels must be A, B, C, … or numbers.
    letters = tuple(LETTERS[: len(options.labels)])
    positional = not options.labeled or options.labels == letters or _has_numbers(options)
    is_number = value is not None or number(written) == written
    if is_number or written in options.texts or not positional:
        return _by_text(written, options)
    form = extraction.canonical(AnswerType.CHOICE, written, options.texts)
    if form is None and len(written.split()) > 1:
        form = extraction.extract(
            AnswerType.CHOICE, written, options=options.texts, end=EndReason.END
        ).answer
    return form


def position_of(answer: Any) -> int | None:
    """The integer that an answer is: 1, 1.0, `1`, `1.0`, `(1)` or `option 1`."""
    written = _text(answer)
    match = _POSITION.fullmatch(written) if written else None
    return int(match[1]) if match else None


def _by_label(answer: Any, options: Options) -> str | None:
    """The letter of an answer that does not depend on where counting starts."""
    if isinstance(answer, list) and len(answer) == len(options.texts) > 1:
        marked = [mark for mark in answer if isinstance(mark, int) and mark in (0, 1)]
        if len(marked) == len(answer) and sum(marked) == 1:
            return LETTERS[marked.index(1)]
    written = _text(answer)
    if written is None:
        return None
    simple = _NOT_NAME.sub("", written.lower())
    columns = [_NOT_NAME.sub("", column.lower()) for column in options.columns]
    if columns.count(simple) == 1 and not simple.isdigit():
        return LETTERS[columns.index(simple)]
    value = position_of(answer)
    label = str(value) if value is not None else written.upper().strip("()[]. ")
    labels = options.labels
    if options.lowest is not None:  # numbered columns: their numbers are no labels
        labels = tuple(LETTERS[: len(options.texts)])
    return LETTERS[labels.index(label)] if labels.count(label) == 1 else None


def _has_numbers(options: Options) -> bool:
    """Whether the file labels the options with numbers."""
    return options.labeled and all(label.isdigit() for label in options.labels)


def _at(place: int, options: Options) -> str | None:
    """The option at a place counted from 0; an empty numbered column before it counts, too."""
    if options.lowest is not None:
        label = str(place + options.lowest)
        return LETTERS[options.labels.index(label)] if label in options.labels else None
    return LETTERS[place] if 0 <= place < len(options.texts) else None


def _by_text(written: str, options: Options) -> str | None:
    if written in options.texts:
        return LETTERS[options.texts.index(written)] if options.texts.count(written) == 1 else None
    value = number(written)
    same = [value is not None and number(text) == value for text in options.texts]
    return LETTERS[same.index(True)] if sum(same) == 1 else None


def _text(answer: Any) -> str | None:
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, bool):
        return str(answer)
    return str(answer).strip() if isinstance(answer, str | int | float) else None
