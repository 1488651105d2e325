"""The rules of a reader and a preview of what they would change, as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.answers import custom_rules
from lmsi_tui.formatting.job_results import winner_text
from lmsi_tui.formatting.numbers import percent
from lmsi_tui.formatting.sanitize import snippet
from store.counted import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.answers.custom_rules import InForce, Rules
    from engine.review.rule_preview import ChangedVote, MergeCandidate, RulePreview
    from engine.sampling.reextraction import OutdatedVotes
    from store.enums import AnswerType

SHOWN = 20
"""Number of changed questions that the command lists."""


def rules_lines(in_force: InForce, kinds: Iterable[AnswerType]) -> list[str]:
    """The reader of each answer type with the rules added to it."""
    lines = []
    for kind in kinds:
        rules = in_force[kind]
        lines.append(f"{custom_rules.reader_name(kind, rules)}{_added(rules)}")
        lines += [f"  {line}" for line in _listed(rules)]
    return lines


def _added(rules: Rules) -> str:
    return ": built-in rules only" if rules.empty else ":"


def _listed(rules: Rules) -> list[str]:
    return [
        *(f"pattern   {snippet(rule, 80)}" for rule in rules.patterns),
        *(f"fallback  {snippet(rule, 80)}" for rule in rules.fallbacks),
        *(f"unit      {snippet(rule, 40)}" for rule in rules.units),
        *(f"same      {snippet(a, 30)} = {snippet(b, 30)}" for a, b in rules.same),
    ]


def candidate_line(candidate: MergeCandidate) -> str:
    """A pair of answers that reviews treat as equal."""
    times = "once" if candidate.questions == 1 else f"in {counted(candidate.questions, 'question')}"
    return (
        f"reviews treat {snippet(candidate.kept, 30)} and {snippet(candidate.merged, 30)} as equal "
        f"{times} ({candidate.answer_type})"
    )


def outdated_line(outdated: OutdatedVotes) -> str:
    """That votes count the answers of an older reader, and what to do."""
    return (
        f"{counted(outdated.votes, 'vote counts', 'votes count')} answers "
        f"of the reader {outdated.reader}; the current one is {outdated.current}. "
        "`lmsi-tui reader` shows which winners would change, and `lmsi-tui vote` reads the stored "
        "paths again."
    )


def outdated_json(outdated: Iterable[OutdatedVotes]) -> list[dict[str, object]]:
    """Outdated votes as JSON objects."""
    return [
        {"reader": votes.reader, "current": votes.current, "votes": votes.votes}
        for votes in outdated
    ]


def preview_lines(preview: RulePreview) -> list[str]:
    """What the rules would change in total, as sentences."""
    return preview_event_lines(preview_json(preview))


def preview_event_lines(event: dict[str, Any]) -> list[str]:
    """The same, from the JSON object that `preview_json` makes."""
    if not event["paths"]:
        return [f"There are no stored paths of type {event['type']}, so nothing would change."]
    questions = event["questions"]
    kept, then = event["kept"]
    abstained, abstained_then = event["abstained"]
    lines = [
        f"{event['answers_changed']:,} of {counted(event['paths'], 'path')} would give another "
        f"answer; {event['winners_changed']:,} of {questions:,} winners would change.",
        f"Kept at the threshold: {kept:,} now, {then:,} after ({percent(kept / questions)} and "
        f"{percent(then / questions)} %). Paths without an answer: {abstained:,} now, "
        f"{abstained_then:,} after.",
    ]
    lost, audits = len(event["reviews_lost"]), event["audits_lost"]
    if lost:
        lines.append(
            f"{lost:,} of your decisions would no longer apply ({counted(audits, 'audit')})."
        )
    if event["open_again"]:
        lines.append(
            f"{counted(event['open_again'], 'vote')} would be open again; the next `lmsi-tui "
            f"sample` would sample at most {counted(event['more_paths_at_most'], 'more path')}."
        )
    return lines


def change_text(change: ChangedVote) -> str:
    """How the vote of one question would change, in a few words."""
    words = []
    if change.kept_before != change.kept_after:
        words.append("kept" if change.kept_after else "no longer kept")
    if change.more:
        words.append(f"open again, at most {counted(change.more, 'more path')}")
    if change.lost:
        words.append(f"{counted(len(change.lost), 'decision')} lost")
    return ", ".join(words)


def change_line(change: ChangedVote) -> str:
    """The change of one question as a line."""
    words = change_text(change)
    return (
        f"{winner_text(change.before)} -> {winner_text(change.after)}"
        f"{f'  ({words})' if words else ''}  {snippet(change.question.text, 60)}"
    )


def preview_json(preview: RulePreview) -> dict[str, Any]:
    """A preview as one JSON object."""
    return {
        "type": preview.answer_type,
        "rules": custom_rules.as_json(preview.rules),
        "questions": preview.questions,
        "paths": preview.paths,
        "answers_changed": preview.answers_changed,
        "abstained": [preview.abstained_before, preview.abstained_after],
        "kept": [preview.kept_before, preview.kept_after],
        "winners_changed": len(preview.winners),
        "open_again": len(preview.reopened),
        "more_paths_at_most": preview.more,
        "reviews_lost": [review.id for review in preview.lost],
        "audits_lost": preview.lost_audits,
        "changed": [
            {
                "question": change.question.key,
                "text": change.question.text[:400],
                "before": change.before,
                "after": change.after,
                "kept": [change.kept_before, change.kept_after],
                "more_paths_at_most": change.more,
                "reviews_lost": [review.id for review in change.lost],
            }
            for change in preview.changed
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
