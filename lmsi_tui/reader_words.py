"""What rules of a reader are and what they would change, in words."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from engine import reading_rules
from engine.reading_rules import BUILT_IN
from lmsi_tui.format import percent
from lmsi_tui.text import snippet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.reader_trial import Candidate, Changed, Trial
    from engine.reading_rules import InForce, Rules
    from store.records import AnswerType

SHOWN = 20
"""Questions that the command lists."""


def rules_lines(in_force: InForce, kinds: Iterable[AnswerType]) -> list[str]:
    """The reader of each type with what was added to it."""
    lines = []
    for kind in kinds:
        rules = in_force.get(kind, BUILT_IN)
        lines.append(f"{reading_rules.reader_name(kind, rules)}{_added(rules)}")
        lines += [f"  {one}" for one in _listed(rules)]
    return lines


def _added(rules: Rules) -> str:
    return ": the built-in reader" if rules.empty else ":"


def _listed(rules: Rules) -> list[str]:
    return [
        *(f"first     {snippet(one, 80)}" for one in rules.patterns),
        *(f"else      {snippet(one, 80)}" for one in rules.fallbacks),
        *(f"unit      {snippet(one, 40)}" for one in rules.units),
        *(f"the same  {snippet(a, 30)} = {snippet(b, 30)}" for a, b in rules.same),
    ]


def candidate_line(one: Candidate) -> str:
    """A pair of answers that review calls the same."""
    times = "once" if one.questions == 1 else f"in {one.questions} questions"
    return (
        f"review calls {snippet(one.stands, 30)} and {snippet(one.joins, 30)} the same {times} "
        f"({one.answer_type})"
    )


def trial_lines(found: Trial) -> list[str]:
    """What the rules would change, in sentences; the questions are listed elsewhere."""
    if not found.paths:
        return [f"No path of the type {found.answer_type} is stored, so nothing would change."]
    lines = [
        f"{found.answers_changed:,} of {found.paths:,} paths would be read otherwise; "
        f"{len(found.winners):,} of {found.questions:,} winners would change.",
        f"Kept at the threshold: {found.kept_before:,} now, {found.kept_after:,} then "
        f"({_yield(found.kept_before, found)} and {_yield(found.kept_after, found)} %). "
        f"Paths without an answer: {found.abstained_before:,} now, {found.abstained_after:,} then.",
    ]
    if found.lost:
        count = len(found.lost)
        lines.append(
            f"{count:,} {'decision' if count == 1 else 'decisions'} of a person would no longer "
            f"apply ({found.lost_audits:,} of them audits)."
        )
    if found.reopened:
        lines.append(
            f"{len(found.reopened):,} questions would be open again: {found.more:,} more paths at "
            "most, which the next `sample` draws."
        )
    return lines


def _yield(kept: int, found: Trial) -> str:
    return percent(kept / found.questions)


def changed_words(one: Changed) -> str:
    """What becomes of one question, in a few words."""
    words = []
    if one.kept_before != one.kept_after:
        words.append("kept" if one.kept_after else "no longer kept")
    if one.more:
        words.append(f"open again, {one.more} more paths at most")
    if one.lost:
        words.append(f"{len(one.lost)} {'decision' if len(one.lost) == 1 else 'decisions'} lost")
    return ", ".join(words)


def answer_words(answer: str | None, width: int = 24) -> str:
    """A leading answer, or that there is none."""
    return "no winner" if answer is None else snippet(answer, width)


def changed_line(one: Changed) -> str:
    """One question of the trial."""
    words = changed_words(one)
    return (
        f"{answer_words(one.before)} -> {answer_words(one.after)}"
        f"{f'  ({words})' if words else ''}  {snippet(one.question.text, 60)}"
    )


def trial_json(found: Trial) -> dict[str, object]:
    """A trial as one JSON object."""
    return {
        "type": found.answer_type,
        "rules": reading_rules.as_json(found.rules),
        "questions": found.questions,
        "paths": found.paths,
        "answers_changed": found.answers_changed,
        "abstained": [found.abstained_before, found.abstained_after],
        "kept": [found.kept_before, found.kept_after],
        "winners_changed": len(found.winners),
        "open_again": len(found.reopened),
        "more_paths_at_most": found.more,
        "reviews_lost": [review.id for review in found.lost],
        "audits_lost": found.lost_audits,
        "changed": [
            {
                "question": one.question.key,
                "before": one.before,
                "after": one.after,
                "kept": [one.kept_before, one.kept_after],
                "more_paths_at_most": one.more,
                "reviews_lost": [review.id for review in one.lost],
            }
            for one in found.changed
        ],
    }


def candidate_json(one: Candidate) -> dict[str, object]:
    """A pair of answers that review calls the same."""
    return dataclasses.asdict(one)
