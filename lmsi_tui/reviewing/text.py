"""What review says about a question, a decision, and a queue that holds nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from engine.statistics.confidence_sequence import TARGET_PRECISION
from lmsi_tui.formatting.numbers import percent
from lmsi_tui.formatting.sanitize import content, printable, snippet
from store import queue
from store.enums import Abstention, AnswerType, Decision, Queue, Verdict
from store.queue import QueueFilter, Scope

if TYPE_CHECKING:
    from engine.review.question import OpenQuestion
    from lmsi_tui.reviewing.queue import Known, ReviewQueue, Session
    from store.records import Question, Review

ABSTAINED = {
    Abstention.TRUNCATED: "cut off",
    Abstention.NO_ANSWER: "no answer",
    Abstention.EMPTY: "empty",
}

NOT_SAMPLED = (
    "No path is sampled yet, so there is nothing to review.\n\n"
    "Press escape for the loop, then s to sample."
)
READING = "Reading the queue…"


def answer_words(question: Question, answer: str) -> str:
    """An answer as a person reads it: the letter of a choice with its text."""
    if question.answer_type is AnswerType.CHOICE and len(answer) == 1:
        place = ord(answer) - ord("A")
        if 0 <= place < len(question.options):
            return f"{answer} {question.options[place]}"
    return answer


def asked_words(opened: OpenQuestion, *, numbered: bool) -> Content:
    """The question, its options, and the passage below them.

    Args:
        opened: the question.
        numbered: options with the keys that pick them, as in an audit.
    """
    question = opened.question
    said = Content.styled(printable(question.text).strip() or "(an empty question)", "bold")
    for place, answer in enumerate(opened.choices):
        if numbered or question.options:
            key = f"{place + 1}  " if numbered and place < 9 else "   "
            said = said.append(Content.styled(f"\n {key}", "bold $footer-key-foreground"))
            said = said.append(printable(answer_words(question, answer)))
    if question.passage.strip():
        said = said.append(
            Content.styled("\n" + printable(question.passage).strip(), "$text-muted")
        )
    return said


def standing_words(opened: OpenQuestion, threshold: str) -> Content:
    """The decision that holds, or why the question is asked."""
    decision = queue.triage_decisions(opened.reviews).get(opened.question.id)
    if decision is not None:
        return decision_words(opened, decision)
    vote = opened.vote
    if not opened.groups:
        return Content.styled("no path gives an answer", "$text-muted")
    if vote.decision is Decision.OPEN:
        return Content.styled(
            f"still drawing: {vote.drawn} of {vote.m} paths are there", "$text-muted"
        )
    if opened.winner is None:
        return Content.styled("a tie: no majority", "$warning")
    top = opened.groups[0].count
    said = f"{top} of {vote.m} agree ({top / vote.m:.2f}); kept from {printable(threshold)}"
    if any(group.also for group in opened.groups):
        said += " · some answers are called the same"
    return Content.styled(said, "$text-muted")


def decision_words(opened: OpenQuestion, review: Review) -> Content:
    """What was decided, with a sign."""
    answer = review.answer
    if review.verdict is Verdict.MAJORITY:
        answer = opened.winner
    said = snippet(answer_words(opened.question, answer), 48) if answer is not None else ""
    sign, colour, text = {
        Verdict.ANSWER: ("✓", "$text-success", f"decided: {said} is right"),
        Verdict.MAJORITY: ("✓", "$text-success", f"decided: the majority, {said}, is right"),
        Verdict.TYPED: ("✎", "$text-success", f"decided: {said} is right (typed)"),
        Verdict.NONE: ("✗", "$text-error", "decided: none is right, the question is left out"),
        Verdict.SKIP: ("○", "$text-muted", "skipped: it counts as the vote left it"),
    }[review.verdict]
    return Content.assemble((f"{sign} ", f"bold {colour}"), (text, colour))


def judged_words(opened: OpenQuestion, review: Review, right: bool | None) -> Content:
    """What an audit and the vote say to each other."""
    vote = opened.winner
    voted = "a tie" if vote is None else snippet(answer_words(opened.question, vote), 32)
    said = snippet(answer_words(opened.question, review.answer or ""), 32)
    top = opened.groups[0].count if opened.groups else 0
    share = f"{top} of {opened.vote.m} paths"
    go_on = (" · space goes on", "$text-muted")
    if review.verdict is Verdict.SKIP:
        return Content.assemble(
            (f"○ not judged; the vote says {voted} ({share})", "$text-muted"), go_on
        )
    if right:
        return Content.assemble(
            ("✓ right: ", "bold $text-success"),
            (f"the vote says {voted} too ({share})", "$text-success"),
            go_on,
        )
    yours = "the question is broken" if review.verdict is Verdict.NONE else said
    return Content.assemble(
        ("✗ wrong: ", "bold $text-error"),
        (f"you say {yours}, the vote says {voted} ({share})", "$text-error"),
        go_on,
    )


def audit_words(opened: OpenQuestion) -> Content:
    """How to judge without the vote."""
    pick = f"1–{min(9, len(opened.choices))} pick it" if opened.choices else "t type the answer"
    return content(
        f"What is right? {pick} · x the question is broken · space it cannot be judged\n"
        "The vote is shown afterwards."
    )


def bar_words(session: Session, found: ReviewQueue, place: int | None) -> Content:
    """Where one is, and how it goes: `review · triage  17 of 46   3 decided  9.4/min`."""
    if found.wanted.queue is Queue.AUDIT:
        # No place: it would tell that a question is asked for the second time.
        agreed, judged = found.agreed
        parts = [f"{len(found.done):,} of {len(found.ids):,}", f"{agreed} of {judged} agree"]
    else:
        count = f"{len(found.ids):,}"
        parts = [f"{place + 1:,} of {count}" if place is not None else count]
    if said := session.words(found.left):
        parts.append(said)
    return Content.assemble(
        "review · ", (found.wanted.queue, "bold $accent"), "  ", "   ".join(parts)
    )


def known_words(known: Known | None) -> Content:
    """What the audits tell so far, in at most three lines; nothing before the first."""
    if known is None or not known.precision.audited:
        return content("")
    one = known.precision
    assert one.estimate is not None
    assert one.expected_left is not None
    left, fewest, most = one.expected_left
    said = [
        f"Of {one.size:,} accepted, {percent(one.estimate)} % are right "
        f"({percent(one.low)} to {percent(one.high)} %, whenever you stop): "
        f"about {left:,.0f} wrong labels are left ({fewest:,.0f} to {most:,.0f}).",
        _certified_words(known),
    ]
    if known.consistency.repeated:
        said.append(
            f"Asked twice without a word: {known.consistency.same:,} of "
            f"{known.consistency.repeated:,} judged the same."
        )
    return Content.styled("\n".join(said), "$text-muted")


def _certified_words(known: Known) -> str:
    wanted = f"{percent(float(TARGET_PRECISION))} %"
    if known.certified is None:
        said = f"No threshold is certified at {wanted} yet"
    else:
        said = f"Threshold {float(known.certified):.2f} is certified at {wanted}"
    if known.following is None:
        return f"{said}, and so is everything that was accepted."
    if known.clean_needed is None:
        return f"{said}; clean audits alone cannot certify {float(known.following):.2f}."
    clean = f"{known.clean_needed:,} clean audit{'s' if known.clean_needed != 1 else ''}"
    return f"{said}; {clean} more for {float(known.following):.2f}."


def empty_words(found: ReviewQueue) -> str:
    """Why there is no question, and what to press."""
    if found.wanted.queue is Queue.AUDIT:
        if not found.ids:
            return (
                "The vote has accepted nothing yet, so there is nothing to audit.\n\n"
                "Press b for triage, or escape for the loop."
            )
        agreed, judged = found.agreed
        return (
            f"All {len(found.ids):,} accepted questions are audited: {agreed} of {judged} agree."
            "\n\nPress b for triage, u to take the last one back, or escape for the loop."
        )
    usual = found.wanted.chosen == QueueFilter()
    if not found.ids and not usual:
        return "No question fits the filter.\n\nPress / to change it."
    if not found.ids and found.open_votes:
        return (
            f"No vote is doubtful yet; {found.open_votes:,} are still open. Each question comes "
            "here when its vote is settled.\n\nPress b to audit what was accepted, or escape."
        )
    if not found.ids:
        return (
            "No vote is doubtful.\n\n"
            "Press b to audit what was accepted, or escape and c for the training set."
        )
    kind = "doubtful" if found.wanted.chosen.scope is Scope.DOUBTFUL else "found"
    return (
        f"All {len(found.ids):,} {kind} questions are seen to.\n\n"
        "Press b to audit what was accepted, p to look back, u to take the last one back, "
        "or escape and c for the training set."
    )
