"""What a person adds to the reader of an answer type, and reading with it.

Rules never replace a reader: they are patterns that are tried before it or where it finds nothing,
units that are dropped before it, and answers that count as one after it. All of them act while a
path is read, so that a vote, a curve and a replay only see answers. `docs/readers.md` tells a
person how to use them.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from engine.answers import extraction
from engine.answers.extraction import Extraction
from store import questions, reader_rules, reviews
from store.enums import Abstention, AnswerType, EndReason
from store.errors import BadInput
from store.records import ReaderRules

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from store.enums import Split
    from store.records import Review

MOST = 20
"""Patterns, units or pairs of one reader."""
LONGEST = 300
"""Characters of one of them."""
SECONDS = 1.0
"""For one pattern on one path: a pattern that needs more is refused, so what is read never depends
on how fast the machine is."""
_GROUP = 600
"""Characters of an answer that a pattern finds."""

OPEN_TYPES = (AnswerType.NUMBER, AnswerType.SPAN, AnswerType.MATH)
"""Types whose answers mean the same in every question: the letter B does not."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules of one answer type; none of them by default, which is the built-in reader."""

    patterns: tuple[str, ...] = ()
    """Regular expressions that are tried before the built-in reader; the group holds the answer."""
    fallbacks: tuple[str, ...] = ()
    """The same, where the built-in reader finds no answer."""
    units: tuple[str, ...] = ()
    """Words that are dropped where they stand right before or after a number."""
    same: tuple[tuple[str, str], ...] = ()
    """Canonical answers that are one answer, the one that stands and the one that joins it."""
    id: int = 0
    """Row in the store; 0 for rules that are only tried."""

    @property
    def empty(self) -> bool:
        """Whether this is the built-in reader alone."""
        return not (self.patterns or self.fallbacks or self.units or self.same)

    def counted_as(self, answer: str) -> str:
        """The answer that this one counts as."""
        return _joined(self.same).get(answer, answer)


BUILT_IN = Rules()


class InForce(dict[AnswerType, Rules]):
    """The rules of each type that has some; any other type is read by the built-in reader."""

    def __missing__(self, answer_type: AnswerType) -> Rules:
        return BUILT_IN


def in_force(conn: sqlite3.Connection) -> InForce:
    """The rules that stand in the store."""
    found = {row.answer_type: _of_row(row) for row in reader_rules.in_force(conn)}
    return InForce({kind: rules for kind, rules in found.items() if not rules.empty})


def as_json(rules: Rules) -> dict[str, object]:
    """Rules as the store holds them; empty for the built-in reader."""
    return {name: value for name, value in asdict(rules).items() if name != "id" and value}


def _of_row(row: ReaderRules) -> Rules:
    told: dict[str, Any] = row.rules
    return Rules(
        patterns=tuple(told.get("patterns", ())),
        fallbacks=tuple(told.get("fallbacks", ())),
        units=tuple(told.get("units", ())),
        same=tuple((stands, joins) for stands, joins in told.get("same", ())),
        id=row.id,
    )


def from_json(answer_type: AnswerType, text: str) -> Rules:
    """Rules as `as_json` gives them, written by a person or a program, and checked.

    Raises:
        BadInput: the text is no such object, or one of the rules cannot be used.
    """
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = None
    names = ("patterns", "fallbacks", "units", "same")
    if not (
        isinstance(told, dict)
        and told.keys() <= set(names)
        and all(isinstance(told.get(name, []), list) for name in names)
        and all(isinstance(one, str) for name in names[:3] for one in told.get(name, []))
        and all(
            isinstance(one, list) and len(one) == 2 and all(isinstance(x, str) for x in one)
            for one in told.get("same", [])
        )
    ):
        raise BadInput(
            "The rules are not understood: write a JSON object with patterns, fallbacks and "
            "units as lists of texts and same as a list of pairs, as `reader --json` shows them."
        )
    return checked(answer_type, **told)


def put_in_force(conn: sqlite3.Connection, answer_type: AnswerType, rules: Rules) -> Rules:
    """Write rules as the newest of their type; a vote job then reads the stored paths with them.

    Raises:
        BadInput: they are in force already.
    """
    standing = in_force(conn)[answer_type]
    if as_json(standing) == as_json(rules):
        raise BadInput(f"These rules of {answer_type} are in force already: nothing to do.")
    row = ReaderRules(0, answer_type, as_json(rules), time.time())
    return _of_row(reader_rules.add(conn, row))


def reader_name(answer_type: AnswerType, rules: Rules = BUILT_IN) -> str:
    """Name and version of a reader, with the row of its rules: `number/2`, `number/2+3`."""
    built_in = extraction.reader_name(answer_type)
    return built_in if rules.empty else f"{built_in}+{rules.id}"


# Reading.


def extract(
    answer_type: AnswerType,
    text: str,
    *,
    options: Sequence[str] = (),
    end: EndReason,
    rules: Rules = BUILT_IN,
    known: Extraction | None = None,
) -> Extraction:
    """The answer that a path states, as `extraction.extract` finds it with a person's rules.

    Args:
        answer_type: decides the reader.
        text: the path as the model wrote it; of any length and content.
        options: texts of the choices.
        end: a path that was cut abstains, whatever it says and whatever the rules are.
        rules: of this type.
        known: what the built-in reader found in this path, where that is stored.

    Raises:
        BadInput: a pattern takes too long on this path.
    """
    if rules.empty or end is EndReason.LENGTH:
        return known or extraction.extract(answer_type, text, options=options, end=end)
    own = extraction.own_words(text) if rules.patterns or rules.fallbacks else ""
    found = _matched(answer_type, rules.patterns, own, options, rules.units)
    if found is None:
        bare = without_units(text, rules.units)
        if known is None or bare != text:
            found = extraction.extract(answer_type, bare, options=options, end=end)
        else:
            found = known
    if found.abstention is Abstention.NO_ANSWER:
        found = _matched(answer_type, rules.fallbacks, own, options, rules.units) or found
    return found if found.answer is None else replace(found, answer=rules.counted_as(found.answer))


def canonical(
    answer_type: AnswerType, text: str, options: Sequence[str] = (), rules: Rules = BUILT_IN
) -> str | None:
    """The canonical form of an answer that stands alone, or that a short text states; None where
    there is none of the type."""
    bare = without_units(text.strip(), rules.units)
    found = extraction.extract(answer_type, bare, options=options, end=EndReason.END).answer
    found = found or extraction.canonical(answer_type, bare, options)
    return None if found is None else rules.counted_as(found)


def _matched(
    answer_type: AnswerType,
    patterns: Sequence[str],
    own: str,
    options: Sequence[str],
    units: Sequence[str],
) -> Extraction | None:
    """What the last match of the first pattern that finds an answer says."""
    for pattern in patterns:
        for shown in reversed(_groups(pattern, own)):
            answer = canonical(answer_type, shown, options, Rules(units=tuple(units)))
            if answer is not None:
                return Extraction(answer, shown.strip()[:200], None)
    return None


def _groups(pattern: str, own: str) -> list[str]:
    """What the pattern's group holds at each match.

    Raises:
        BadInput: it takes too long.
    """
    compiled = _compiled(pattern)
    group = "answer" if "answer" in compiled.groupindex else 1
    try:
        # `concurrent` lets the app draw while a long match runs.
        found = compiled.finditer(own, timeout=SECONDS, concurrent=True)
        said = [one[group] for one in found]
    except (TimeoutError, MemoryError):
        raise BadInput(
            f"The pattern {pattern} needs more than {SECONDS:g} second on one path: leave out "
            "repeats within repeats, such as (a+)+, and say what stands before the answer."
        ) from None
    return [one[:_GROUP] for one in said if one]


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    """The pattern, with `^` and `$` at each line.

    Raises:
        BadInput: it is no regular expression, or does not say which part is the answer.
    """
    import regex

    try:
        compiled = regex.compile(pattern, regex.MULTILINE)
    except (regex.error, ValueError, OverflowError, RecursionError) as wrong:
        raise BadInput(
            f"The pattern {pattern} is no regular expression: {wrong}. Write the answer as a "
            r"group, such as (?i)result\s*->\s*(?P<answer>[\d.,]+)."
        ) from None
    if "answer" not in compiled.groupindex and compiled.groups != 1:
        raise BadInput(
            f"The pattern {pattern} does not say which part is the answer: put that part in "
            "(?P<answer>…)."
        )
    return compiled


def without_units(text: str, units: Sequence[str]) -> str:
    """The text without these units where they stand right before or after a number."""
    if not any(unit in text for unit in units):
        return text
    return _unit_pattern(tuple(units)).sub("", text)


@lru_cache(maxsize=64)
def _unit_pattern(units: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(units, key=lambda unit: (-len(unit), unit))
    words = "|".join(re.escape(unit) for unit in longest_first)
    wrapped = rf"(?:\\(?:text|mathrm)\{{[ ]?(?:{words})[ ]?\}}|(?:{words}))"
    return re.compile(
        rf"(?<=[\d}}])[ ~]?(?:\\[ ,;])?{wrapped}(?![^\W\d_])"
        rf"|(?<![^\W\d_]){wrapped}[ ~]?(?=-?\d)"
    )


@lru_cache(maxsize=64)
def _joined(same: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The answer that stands, for each one that joins another; chains are followed."""
    groups: dict[str, list[str]] = {}
    for stands, joins in same:
        first, second = groups.setdefault(stands, [stands]), groups.setdefault(joins, [joins])
        if first is not second:
            first += second
            groups.update(dict.fromkeys(second, first))
    return {one: group[0] for one, group in groups.items() if one != group[0]}


# What a person writes.


def checked(
    answer_type: AnswerType,
    *,
    patterns: Iterable[str] = (),
    fallbacks: Iterable[str] = (),
    units: Iterable[str] = (),
    same: Iterable[tuple[str, str]] = (),
) -> Rules:
    """Rules as a person wrote them, empty lines left out, answers in their canonical form.

    Raises:
        BadInput: one of them cannot be used, with what to do about it.
    """
    rules = Rules(
        _listed("patterns", patterns),
        _listed("fallback patterns", fallbacks),
        _listed("units", units),
    )
    for pattern in (*rules.patterns, *rules.fallbacks):
        # A pattern that explodes shows it at once on a text made of what explodes.
        for probe in (" " * 2000, "a" * 2000, "1" * 2000, "a1 b2, " * 300):
            _groups(pattern, probe)
    for unit in rules.units:
        if not any(one.isalpha() or one in "%°$€£¥" for one in unit):
            raise BadInput(f"The unit {unit} has no letter in it: give words such as km.")
    pairs = [_pair(answer_type, *pair, rules) for pair in same]
    if len(pairs) > MOST:
        raise BadInput(f"There are {len(pairs)} pairs of equal answers: give at most {MOST}.")
    return replace(rules, same=tuple(dict.fromkeys(one for one in pairs if one)))


def _listed(name: str, given: Iterable[str]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(one.strip() for one in given if one.strip()))
    if len(found) > MOST:
        raise BadInput(f"There are {len(found)} {name}: give at most {MOST}.")
    for one in found:
        if len(one) > LONGEST:
            raise BadInput(f"One of the {name} has {len(one)} characters: give at most {LONGEST}.")
        _shown(one)
    return found


def _shown(text: str) -> None:
    """Refuse what would be invisible, or more than it seems, where a person reads the rules."""
    if not text.isprintable():
        raise BadInput(
            f"{text!r} holds a character that cannot be shown: in a pattern, write it as \\xhh."
        )


def _pair(answer_type: AnswerType, a: str, b: str, rules: Rules) -> tuple[str, str] | None:
    if answer_type not in OPEN_TYPES:
        raise BadInput(
            f"Answers of the type {answer_type} cannot be made equal: they are fixed words or "
            "letters, and another option stands behind a letter in each question."
        )
    forms = []
    for one in (a, b):
        _shown(one)
        form = canonical(answer_type, one[:LONGEST], rules=replace(rules, same=()))
        if form is None:
            raise BadInput(f"{one} is no answer of the type {answer_type}: write two such answers.")
        forms.append(form)
    stands, joins = forms
    return None if stands == joins else (stands, joins)


# What was written before the rules, as it counts with them.


def gold_for(conn: sqlite3.Connection, split: Split) -> dict[int, tuple[str, ...]]:
    """The accepted answers of each question, with what they count as by the rules in force."""
    gold = questions.gold_for(conn, split)
    rules = {kind: one for kind, one in in_force(conn).items() if one.same}
    if not rules or not gold:
        return gold
    kinds = _kinds(conn, gold)
    return {
        id_: tuple(
            dict.fromkeys(
                form
                for one in accepted
                for form in (one, rules.get(kinds[id_], BUILT_IN).counted_as(one))
            )
        )
        for id_, accepted in gold.items()
    }


def active_reviews(
    conn: sqlite3.Connection,
    run_id: int,
    question_ids: Iterable[int] | None = None,
    *,
    until: float | None = None,
) -> list[Review]:
    """The decisions that hold (`store.reviews.standing`), their answers as the rules count them.

    A person who chose `1/2` before `0.5` was made to stand for both has chosen `0.5`.
    """
    held = reviews.active(conn, run_id, question_ids, until=until)
    rules = {kind: one for kind, one in in_force(conn).items() if one.same}
    if not rules or not held:
        return held
    kinds = _kinds(conn, {one.question_id for one in held})
    return [as_counted(one, rules.get(kinds[one.question_id], BUILT_IN)) for one in held]


def as_counted(review: Review, rules: Rules) -> Review:
    """A decision with its answers as the rules count them."""

    def form(answer: str | None) -> str | None:
        return None if answer is None else rules.counted_as(answer)

    return replace(
        review,
        answer=form(review.answer),
        other=form(review.other),
        winner=form(review.winner),
    )


def _kinds(conn: sqlite3.Connection, ids: Iterable[int]) -> Mapping[int, AnswerType]:
    return {id_: one.answer_type for id_, one in questions.by_ids(conn, ids).items()}
