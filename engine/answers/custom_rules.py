"""Custom rules of the reader of an answer type, and extraction with them.

Rules never replace a reader. They are patterns that are tried before it or if it finds no answer,
units that are removed before it, and answers that count as equal after it. All of them apply during
extraction, so that votes, curves and replays only see answers. See `docs/readers.md`.
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
"""Maximum number of patterns, of units and of pairs of a reader."""
LONGEST = 300
"""Maximum length of each, in characters."""
SECONDS = 1.0
"""Maximum time of one pattern on one path. A pattern that needs more is refused, so that results do
not depend on the speed of the machine."""
_GROUP = 600
"""Maximum length of an answer that a pattern finds, in characters."""

OPEN_TYPES = (AnswerType.NUMBER, AnswerType.SPAN, AnswerType.MATH)
"""Types whose answers mean the same in every question, unlike the letter of an option."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules of one answer type; without any, it is the built-in reader."""

    patterns: tuple[str, ...] = ()
    """Regular expressions that are tried before the built-in reader; the group holds the answer."""
    fallbacks: tuple[str, ...] = ()
    """The same, tried if the built-in reader finds no answer."""
    units: tuple[str, ...] = ()
    """Words that are removed directly before or after a number."""
    same: tuple[tuple[str, str], ...] = ()
    """Pairs of canonical answers that are equal; the second counts as the first."""
    id: int = 0
    """Row in the store; 0 for rules that are not stored."""

    @property
    def empty(self) -> bool:
        """Whether this is the built-in reader without rules."""
        return not (self.patterns or self.fallbacks or self.units or self.same)

    def counted_as(self, answer: str) -> str:
        """The answer that this answer counts as."""
        joined = _joined(self.same)
        # Pairs that `span/1` stored have no commas.
        return joined.get(answer) or joined.get(answer.replace(", ", " "), answer)


BUILT_IN = Rules()


class InForce(dict[AnswerType, Rules]):
    """The rules of each answer type; the built-in reader for types without rules."""

    def __missing__(self, answer_type: AnswerType) -> Rules:
        return BUILT_IN


def in_force(conn: sqlite3.Connection) -> InForce:
    """The newest rules of each type in the store."""
    newest = {row.answer_type: _of_row(row) for row in reader_rules.in_force(conn)}
    return InForce({kind: rules for kind, rules in newest.items() if not rules.empty})


def as_json(rules: Rules) -> dict[str, object]:
    """Rules as they are stored; empty for the built-in reader."""
    return {name: value for name, value in asdict(rules).items() if name != "id" and value}


def _of_row(row: ReaderRules) -> Rules:
    values: dict[str, Any] = row.rules
    return Rules(
        patterns=tuple(values.get("patterns", ())),
        fallbacks=tuple(values.get("fallbacks", ())),
        units=tuple(values.get("units", ())),
        same=tuple(
            (current_form(row.answer_type, first), current_form(row.answer_type, second))
            for first, second in values.get("same", ())
        ),
        id=row.id,
    )


def from_json(answer_type: AnswerType, text: str) -> Rules:
    """Parse and check rules in the format of `as_json`.

    Raises:
        BadInput: the text is not such an object, or a rule is invalid.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    names = ("patterns", "fallbacks", "units", "same")
    if not (
        isinstance(values, dict)
        and values.keys() <= set(names)
        and all(isinstance(values.get(name, []), list) for name in names)
        and all(isinstance(text, str) for name in names[:3] for text in values.get(name, []))
        and all(
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) for x in pair)
            for pair in values.get("same", [])
        )
    ):
        raise BadInput(
            "The rules are invalid: write a JSON object with patterns, fallbacks and units as "
            "lists of texts and same as a list of pairs, as `reader --json` prints them."
        )
    return checked(answer_type, **values)


def put_in_force(conn: sqlite3.Connection, answer_type: AnswerType, rules: Rules) -> Rules:
    """Store rules as the newest of their type; a vote job then reads the stored paths with them.

    Rules that are in force already add no row: the vote job may have failed, and can be run again.
    """
    before = in_force(conn)[answer_type]
    if as_json(before) == as_json(rules):
        return before
    row = ReaderRules(0, answer_type, as_json(rules), time.time())
    return _of_row(reader_rules.add(conn, row))


def reader_name(answer_type: AnswerType, rules: Rules = BUILT_IN) -> str:
    """Name and version of a reader and the row of its rules, such as `number/2` or `number/2+3`."""
    built_in = extraction.reader_name(answer_type)
    return built_in if rules.empty else f"{built_in}+{rules.id}"


# Extraction.


def extract(
    answer_type: AnswerType,
    text: str,
    *,
    options: Sequence[str] = (),
    end: EndReason,
    rules: Rules = BUILT_IN,
    built_in: Extraction | None = None,
) -> Extraction:
    """Extract the answer that a path states, with custom rules.

    Args:
        answer_type: decides the reader.
        text: the path as generated, of any length and content.
        options: texts of the choices.
        end: a truncated path abstains, whatever it states and whatever the rules are.
        rules: of this type.
        built_in: the result of the built-in reader for this path, if it is stored.

    Raises:
        BadInput: a pattern takes too long on this path.
    """
    if rules.empty or end is EndReason.LENGTH:
        return built_in or extraction.extract(answer_type, text, options=options, end=end)
    own = (
        extraction.own_words(answer_type, text, options)
        if rules.patterns or rules.fallbacks
        else ""
    )
    result = _matched(answer_type, rules.patterns, own, options, rules.units)
    if result is None:
        bare = without_units(text, rules.units)
        if built_in is None or bare != text:
            result = extraction.extract(answer_type, bare, options=options, end=end)
        else:
            result = built_in
    if result.abstention is Abstention.NO_ANSWER:
        result = _matched(answer_type, rules.fallbacks, own, options, rules.units) or result
    if result.answer is None:
        return result
    return replace(result, answer=rules.counted_as(result.answer))


def canonical(
    answer_type: AnswerType, text: str, options: Sequence[str] = (), rules: Rules = BUILT_IN
) -> str | None:
    """The canonical form of a bare answer, or of the answer that a short text states; None if it
    has no answer of the type."""
    bare = without_units(text.strip(), rules.units)
    answer = extraction.extract(answer_type, bare, options=options, end=EndReason.END).answer
    answer = answer or extraction.canonical(answer_type, bare, options)
    return None if answer is None else rules.counted_as(answer)


def _matched(
    answer_type: AnswerType,
    patterns: Sequence[str],
    own: str,
    options: Sequence[str],
    units: Sequence[str],
) -> Extraction | None:
    """The answer in the last match of the first pattern that finds one."""
    for pattern in patterns:
        for shown in reversed(_groups(pattern, own)):
            answer = canonical(answer_type, shown, options, Rules(units=tuple(units)))
            if answer is not None:
                return Extraction(answer, shown.strip()[:200], None)
    return None


def _groups(pattern: str, own: str) -> list[str]:
    """The text of the pattern's group in each match.

    Raises:
        BadInput: the pattern takes too long.
    """
    compiled = _compiled(pattern)
    group = "answer" if "answer" in compiled.groupindex else 1
    try:
        # `concurrent` lets the app refresh its screen during a long match.
        matches = compiled.finditer(own, timeout=SECONDS, concurrent=True)
        texts = [match[group] for match in matches]
    except (TimeoutError, MemoryError):
        raise BadInput(
            f"The pattern {pattern} needs more than {SECONDS:g} second on one path: avoid nested "
            "repeats, such as (a+)+, and match the text before the answer."
        ) from None
    return [text[:_GROUP] for text in texts if text]


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    """The pattern, with `^` and `$` at each line.

    Raises:
        BadInput: it is not a regular expression, or does not mark the answer.
    """
    import regex

    try:
        compiled = regex.compile(pattern, regex.MULTILINE)
    except (regex.error, ValueError, OverflowError, RecursionError) as error:
        raise BadInput(
            f"The pattern {pattern} is not a regular expression: {error}. Mark the answer as a "
            r"group, such as (?i)result\s*->\s*(?P<answer>[\d.,]+)."
        ) from None
    if "answer" not in compiled.groupindex and compiled.groups != 1:
        raise BadInput(f"The pattern {pattern} does not mark the answer: put it in (?P<answer>…).")
    return compiled


def without_units(text: str, units: Sequence[str]) -> str:
    """The text without these units directly before or after a number."""
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
    """For each answer that counts as another, that answer; chains are followed."""
    groups: dict[str, list[str]] = {}
    for a, b in same:
        first, second = groups.setdefault(a, [a]), groups.setdefault(b, [b])
        if first is not second:
            first += second
            groups.update(dict.fromkeys(second, first))
    return {answer: group[0] for answer, group in groups.items() if answer != group[0]}


# Checks of new rules.


def checked(
    answer_type: AnswerType,
    *,
    patterns: Iterable[str] = (),
    fallbacks: Iterable[str] = (),
    units: Iterable[str] = (),
    same: Iterable[tuple[str, str]] = (),
) -> Rules:
    """Check rules: empty lines are dropped, and equal answers get their canonical form.

    Raises:
        BadInput: a rule is invalid.
    """
    rules = Rules(
        _listed("patterns", patterns),
        _listed("fallback patterns", fallbacks),
        _listed("units", units),
    )
    for pattern in (*rules.patterns, *rules.fallbacks):
        # Catastrophic backtracking shows on repetitive texts.
        for probe in (" " * 2000, "a" * 2000, "1" * 2000, "a1 b2, " * 300):
            _groups(pattern, probe)
    for unit in rules.units:
        if not any(character.isalpha() or character in "%°$€£¥" for character in unit):
            raise BadInput(f"The unit {unit} has no letter: give words such as km.")
    pairs = [_pair(answer_type, *pair, rules) for pair in same]
    if len(pairs) > MOST:
        raise BadInput(f"There are {len(pairs)} pairs of equal answers: give at most {MOST}.")
    return replace(rules, same=tuple(dict.fromkeys(pair for pair in pairs if pair)))


def _listed(name: str, given: Iterable[str]) -> tuple[str, ...]:
    texts = tuple(dict.fromkeys(text.strip() for text in given if text.strip()))
    if len(texts) > MOST:
        raise BadInput(f"There are {len(texts)} {name}: give at most {MOST}.")
    for text in texts:
        if len(text) > LONGEST:
            raise BadInput(f"One of the {name} has {len(text)} characters: give at most {LONGEST}.")
        _check_printable(text)
    return texts


def _check_printable(text: str) -> None:
    """Refuse characters that would be invisible or misleading when the rules are shown."""
    if not text.isprintable():
        raise BadInput(
            f"{text!r} has a character that cannot be shown: in a pattern, write it as \\xhh."
        )


def _pair(answer_type: AnswerType, a: str, b: str, rules: Rules) -> tuple[str, str] | None:
    if answer_type not in OPEN_TYPES:
        raise BadInput(
            f"Answers of the type {answer_type} cannot be made equal: they are fixed words or "
            "letters, and a letter means another option in each question."
        )
    forms = []
    for text in (a, b):
        _check_printable(text)
        form = canonical(answer_type, text[:LONGEST], rules=replace(rules, same=()))
        if form is None:
            raise BadInput(
                f"{text} is not an answer of the type {answer_type}: write two such answers."
            )
        forms.append(form)
    first, second = forms
    return None if first == second else (first, second)


# Known answers and reviews, as they count with the rules.


def gold_for(conn: sqlite3.Connection, split: Split) -> dict[int, tuple[str, ...]]:
    """The accepted answers of each question, and the answers that these count as."""
    gold = questions.gold_for(conn, split)
    rules = {kind: entry for kind, entry in in_force(conn).items() if entry.same}
    if not rules or not gold:
        return gold
    kinds = _kinds(conn, gold)
    return {
        id_: tuple(
            dict.fromkeys(
                form
                for answer in accepted
                for form in (answer, rules.get(kinds[id_], BUILT_IN).counted_as(answer))
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
    """The active reviews (`store.reviews.active`), with their answers as the rules count them.

    A reviewer who chose `1/2` has chosen `0.5` if `1/2` now counts as `0.5`.
    """
    active = reviews.active(conn, run_id, question_ids, until=until)
    if not active:
        return active
    rules = in_force(conn)
    kinds = _kinds(conn, {review.question_id for review in active})
    return [
        as_counted(review, kinds[review.question_id], rules[kinds[review.question_id]])
        for review in active
    ]


def as_counted(review: Review, answer_type: AnswerType, rules: Rules) -> Review:
    """A review with its answers as the current reader writes them and the rules count them."""

    def form(answer: str | None) -> str | None:
        return None if answer is None else rules.counted_as(current_form(answer_type, answer))

    return replace(
        review,
        answer=form(review.answer),
        other=form(review.other),
        winner=form(review.winner),
    )


@lru_cache(maxsize=65536)
def current_form(answer_type: AnswerType, answer: str) -> str:
    """A canonical answer that an earlier version of the reader stored, as this version writes it.

    Letters and fixed words never change, so only answers of `OPEN_TYPES` can.
    """
    if answer_type not in OPEN_TYPES:
        return answer
    return extraction.canonical(answer_type, answer) or answer


def _kinds(conn: sqlite3.Connection, ids: Iterable[int]) -> Mapping[int, AnswerType]:
    return {id_: question.answer_type for id_, question in questions.by_ids(conn, ids).items()}
