"""Check the value of one setting against the type and range of its field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import msgspec

from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

SHOWN = 60
"""Characters of a wrong value that a message repeats."""


def choices(hint: Any) -> tuple[str, ...]:
    """The values that a setting of this type can have, if they can be listed."""
    if hint is bool:
        return ("true", "false")
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(hint) if isinstance(hint, type) and issubclass(hint, StrEnum) else ()


def converted(value: object, hint: Any, label: str) -> Any:
    """Convert a TOML value to a setting's type; numbers become text where text is expected.

    Raises:
        BadInput: it is of another type or out of range.
    """
    plain, item = _plain(hint)
    given = value
    if item is str:
        value = [_text(part) for part in value] if isinstance(value, list) else _text(value)
    try:
        result = msgspec.convert(value, hint)
    except UnicodeEncodeError:
        raise BadInput(f"{label} is {given!r}: it is not Unicode text.") from None
    except msgspec.ValidationError:
        shown = repr(given)
        if len(shown) > SHOWN:
            shown = shown[:SHOWN] + "…"
        raise BadInput(f"{label} is {shown}: it must be {allowed(hint)}.") from None
    if plain is float and isinstance(result, int):
        return float(result)
    return result


def _plain(hint: Any) -> tuple[Any, Any]:
    """The type without its range, and the type of an item if it is a list."""
    plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return plain, get_args(plain)[0] if get_origin(plain) is tuple else plain


def _text(value: object) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if number else value


def allowed(hint: Any) -> str:
    """What a setting of this type can be, such as `a whole number from 1 to 1024`."""
    plain, item = _plain(hint)
    if plain is not item:
        listed = f"of {', '.join(choices(item))}" if choices(item) else "of texts"
        return f"a list {listed}, with at least one" if limits(hint) else f"a list {listed}"
    if plain is bool:
        return "true or false"
    if choices(plain):
        return f"one of {', '.join(choices(plain))}"
    if plain is str:
        return "text"
    bounds = limits(hint)
    words = "a whole number" if plain is int else "a number"
    words += f" above {bounds['gt']:g}" if "gt" in bounds else f" from {bounds['ge']:,}"
    if "lt" in bounds:
        return f"{words} and below {bounds['lt']:g}"
    return (
        f"{words} and at most {bounds['le']:g}"
        if "gt" in bounds
        else f"{words} to {bounds['le']:,}"
    )


def limits(hint: Any) -> Mapping[str, float]:
    """The limits of a setting, by msgspec's names: `ge`, `gt`, `le`, `lt`, `min_length`."""
    meta = next((part for part in get_args(hint) if isinstance(part, msgspec.Meta)), None)
    names = ("ge", "gt", "le", "lt", "min_length")
    values = {name: getattr(meta, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def suggestion(name: str, names: Iterable[str]) -> str:
    """A question that offers the most similar name; "" if none is similar."""
    similar = get_close_matches(name.lower(), names, n=1)
    return f" (did you mean {similar[0]}?)" if similar else ""


def exact_share(text: str, name: str = "sample.threshold") -> Fraction:
    """A threshold as an exact fraction: `ceil(0.28 * 25)` in floats is wrong.

    Args:
        text: a decimal or a fraction.
        name: of the setting, for messages.

    Raises:
        BadInput: not a number in [0, 1].
    """
    try:
        # The digits of 1e-999999999 as a fraction would fill the memory.
        if not _SHARE.fullmatch(text.strip()):
            raise ValueError
        share = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise BadInput(f"{name} is {text[:SHOWN]!r}: give a share such as 0.6 or 3/5.") from None
    if not 0 <= share <= 1:
        raise BadInput(f"{name} is {text}: it must lie between 0 and 1.")
    return share


_SHARE = re.compile(r"[+-]?[\d./]{1,30}(e[+-]?\d{1,2})?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fault:
    """A wrong setting."""

    section: str
    name: str
    """"" for the whole section."""
    sentence: str


def sentences(
    faults: Sequence[Fault],
    file: Path | None,
    changes: Mapping[str, Mapping[str, object]] | None = None,
) -> str:
    """All faults as one message, with the lines where they are.

    Args:
        faults: at least one.
        file: that the settings are from; None if they are from no file.
        changes: settings that are not from the file.
    """
    lines = lines_of(file) if file else {}
    parts: list[str] = []
    for fault in faults:
        is_from_file = fault.name not in (changes or {}).get(fault.section, {})
        line = lines.get((fault.section, fault.name)) if is_from_file else None
        place = f"line {line}" if line else ""
        if file and is_from_file and not parts:
            place = f"{file}, {place}" if place else str(file)
        parts.append(f"{place[:1].upper() if parts else place[:1]}{place[1:]}: {fault.sentence}")
    return " ".join(part.removeprefix(": ") for part in parts)


_SECTION = re.compile(r"\s*\[\s*\"?([\w-]+)\"?\s*\]")
_KEY = re.compile(r"\s*\"?([\w-]+)\"?\s*(?:\.\s*\"?([\w-]+)\"?\s*)?=")


def lines_of(file: Path) -> dict[tuple[str, str], int]:
    """The line of each setting in a TOML file, by section and name, and of each section.

    Only for messages: a name that is written in a rarer way is left out.
    """
    lines: dict[tuple[str, str], int] = {}
    section = ""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return lines
    for number, line in enumerate(text.splitlines(), 1):
        if header := _SECTION.match(line):
            section = header[1]
            lines.setdefault((section, ""), number)
        elif key := _KEY.match(line):
            first, second = key[1], key[2] or ""
            place = (section, first) if section else (first, second)
            lines.setdefault(place, number)
    return lines
