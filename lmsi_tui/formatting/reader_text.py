"""What rules of a reader are and what they would change, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.answers import custom_rules
from lmsi_tui.formatting.numbers import percent
from lmsi_tui.formatting.sanitize import snippet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.answers.custom_rules import InForce, Rules
    from engine.review.rule_preview import ChangedVote, MergeCandidate, RulePreview
    from store.enums import AnswerType

SHOWN = 20
"""Questions that the command lists."""


def rules_lines(in_force: InForce, kinds: Iterable[AnswerType]) -> list[str]:
    """The reader of each type with what was added to it."""
    lines = []
    for kind in kinds:
        rules = in_force[kind]
        lines.append(f"{custom_rules.reader_name(kind, rules)}{_added(rules)}")
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


def candidate_line(one: MergeCandidate) -> str:
    """A pair of answers that review calls the same."""
    times = "once" if one.questions == 1 else f"in {one.questions} questions"
    return (
        f"review calls {snippet(one.kept, 30)} and {snippet(one.merged, 30)} the same {times} "
        f"({one.answer_type})"
    )


def trial_lines(found: RulePreview) -> list[str]:
    """What the rules would change, in sentences; the questions are listed elsewhere."""
    return words_of(trial_json(found))


def words_of(event: dict[str, Any]) -> list[str]:
    """The same of a trial as `trial_json` tells it."""
    if not event["paths"]:
        return [f"No path of the type {event['type']} is stored, so nothing would change."]
    asked = event["questions"]
    kept, then = event["kept"]
    silent, silent_then = event["abstained"]
    lines = [
        f"{event['answers_changed']:,} of {event['paths']:,} paths would be read otherwise; "
        f"{event['winners_changed']:,} of {asked:,} winners would change.",
        f"Kept at the threshold: {kept:,} now, {then:,} then ({percent(kept / asked)} and "
        f"{percent(then / asked)} %). Paths without an answer: {silent:,} now, "
        f"{silent_then:,} then.",
    ]
    lost, audits = len(event["reviews_lost"]), event["audits_lost"]
    if lost:
        lines.append(
            f"Of the decisions of a person, {lost:,} would no longer apply "
            f"({audits:,} of them {'an audit' if audits == 1 else 'audits'})."
        )
    if event["open_again"]:
        lines.append(
            f"Open again: {event['open_again']:,} of the questions, "
            f"{event['more_paths_at_most']:,} more paths at most; the next `sample` draws them."
        )
    return lines


def changed_words(one: ChangedVote) -> str:
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


def changed_line(one: ChangedVote) -> str:
    """One question of the trial."""
    words = changed_words(one)
    return (
        f"{answer_words(one.before)} -> {answer_words(one.after)}"
        f"{f'  ({words})' if words else ''}  {snippet(one.question.text, 60)}"
    )


def trial_json(found: RulePreview) -> dict[str, Any]:
    """A trial as one JSON object."""
    return {
        "type": found.answer_type,
        "rules": custom_rules.as_json(found.rules),
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
                "text": one.question.text[:400],
                "before": one.before,
                "after": one.after,
                "kept": [one.kept_before, one.kept_after],
                "more_paths_at_most": one.more,
                "reviews_lost": [review.id for review in one.lost],
            }
            for one in found.changed
        ],
    }


def candidate_json(candidate: MergeCandidate) -> dict[str, object]:
    """A merge candidate as one JSON object."""
    return {
        "answer_type": candidate.answer_type,
        "stands": candidate.kept,
        "joins": candidate.merged,
        "questions": candidate.questions,
    }
