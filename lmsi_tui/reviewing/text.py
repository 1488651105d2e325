"""The texts of review: questions, votes, decisions, audits, empty queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from engine.statistics.confidence_sequence import FEWEST_AUDITS, TARGET_PRECISION
from lmsi_tui.formatting.numbers import percent
from lmsi_tui.formatting.sanitize import content, excerpt, printable, snippet
from store.counted import counted
from store.enums import Abstention, AnswerType, Decision, Queue, Verdict
from store.queue import QueueFilter, Scope, triage_decisions

if TYPE_CHECKING:
    from engine.review.question import OpenQuestion
    from lmsi_tui.reviewing.decision_log import DecisionLog
    from lmsi_tui.reviewing.queue import AuditSummary, ReviewQueue
    from store.records import Question, Review

ABSTAINED = {
    Abstention.TRUNCATED: "cut off",
    Abstention.NO_ANSWER: "no answer",
    Abstention.EMPTY: "empty",
}

NOT_SAMPLED = (
    "Nothing to review: no paths have been sampled yet.\n\n"
    "Press escape for the home screen, then s to sample."
)
LOADING = "Reading the queue…"


def answer_text(question: Question, answer: str) -> str:
    """An answer for display: the letter of a choice is followed by its text."""
    if question.answer_type is AnswerType.CHOICE and len(answer) == 1:
        place = ord(answer) - ord("A")
        if 0 <= place < len(question.options):
            return f"{answer} {question.options[place]}"
    return answer


def question_content(opened: OpenQuestion, *, numbered: bool) -> Content:
    """The question, its options, and its passage.

    Args:
        opened: the question.
        numbered: whether options show the keys that pick them, as in an audit.
    """
    question = opened.question
    text = Content.styled(excerpt(question.text).strip() or "(an empty question)", "bold")
    for place, answer in enumerate(opened.choices):
        if numbered or question.options:
            key = f"{place + 1}  " if numbered and place < 9 else "   "
            text = text.append(Content.styled(f"\n {key}", "bold $footer-key-foreground"))
            text = text.append(excerpt(answer_text(question, answer)))
    if question.passage.strip():
        text = text.append(Content.styled("\n" + excerpt(question.passage).strip(), "$text-muted"))
    return text


def vote_state(opened: OpenQuestion, threshold: str) -> Content:
    """The active decision, or the state of the vote."""
    decision = triage_decisions(opened.reviews).get(opened.question.id)
    if decision is not None:
        return decision_content(opened, decision)
    vote = opened.vote
    if not opened.groups:
        return Content.styled("no path has an answer", "$text-muted")
    if vote.decision is Decision.OPEN:
        sampled = f"{vote.drawn} of {counted(vote.m, 'path')}"
        return Content.styled(f"still sampling: {sampled}", "$text-muted")
    if opened.winner is None:
        return Content.styled("a tie: no majority", "$warning")
    top = opened.groups[0].count
    text = f"{top} of {vote.m} agree ({top / vote.m:.2f}); threshold {printable(threshold)}"
    if any(group.also for group in opened.groups):
        text += " · some answers merged"
    return Content.styled(text, "$text-muted")


def decision_content(opened: OpenQuestion, review: Review) -> Content:
    """A decision, with a sign."""
    answer = review.answer
    if review.verdict is Verdict.MAJORITY:
        answer = opened.winner
    shown = snippet(answer_text(opened.question, answer), 48) if answer is not None else ""
    sign, color, text = {
        Verdict.ANSWER: ("✓", "$text-success", f"decided: {shown} is right"),
        Verdict.MAJORITY: ("✓", "$text-success", f"decided: the majority answer {shown} is right"),
        Verdict.TYPED: ("✎", "$text-success", f"decided: {shown} is right (typed)"),
        Verdict.NONE: ("✗", "$text-error", "decided: no answer is right; question left out"),
        Verdict.SKIP: ("○", "$text-muted", "skipped: the vote decides"),
    }[review.verdict]
    return Content.assemble((f"{sign} ", f"bold {color}"), (text, color))


def judgment_content(opened: OpenQuestion, review: Review, right: bool | None) -> Content:
    """Compare an audit with the vote.

    Args:
        opened: the audited question.
        review: the audit.
        right: whether the vote agrees with it; None if that cannot be judged.
    """
    vote = opened.winner
    voted = "a tie" if vote is None else snippet(answer_text(opened.question, vote), 32)
    typed = snippet(answer_text(opened.question, review.answer or ""), 32)
    top = opened.groups[0].count if opened.groups else 0
    share = f"{top} of {counted(opened.vote.m, 'path')}"
    hint = (" · space continues", "$text-muted")
    if review.verdict is Verdict.SKIP:
        return Content.assemble(
            (f"○ not judged; the vote is {voted} ({share})", "$text-muted"), hint
        )
    if right:
        return Content.assemble(
            ("✓ right: ", "bold $text-success"),
            (f"the vote is {voted}, too ({share})", "$text-success"),
            hint,
        )
    yours = "the question is broken" if review.verdict is Verdict.NONE else typed
    return Content.assemble(
        ("✗ wrong: ", "bold $text-error"),
        (f"you say {yours}, the vote is {voted} ({share})", "$text-error"),
        hint,
    )


def audit_instructions(opened: OpenQuestion) -> Content:
    """The keys of a blind audit."""
    pick = f"1–{min(9, len(opened.choices))} pick it" if opened.choices else "t type it"
    return content(
        f"What is the right answer? {pick} · x broken question · space cannot judge\n"
        "The vote is shown afterwards."
    )


def top_bar(decisions: DecisionLog, queue: ReviewQueue, place: int | None) -> Content:
    """Position and pace: `review · triage  17 of 46   3 decided  9.4/min`."""
    if queue.selection.queue is Queue.AUDIT:
        # No position: it would reveal that a question is a repeat.
        agreed, judged = queue.agreed
        parts = [f"{len(queue.done):,} of {len(queue.ids):,}", f"{agreed} of {judged} agree"]
    else:
        count = f"{len(queue.ids):,}"
        parts = [f"{place + 1:,} of {count}" if place is not None else count]
    if pace := decisions.text(queue.left):
        parts.append(pace)
    return Content.assemble(
        "review · ", (queue.selection.queue, "bold $accent"), "  ", "   ".join(parts)
    )


def audit_summary_text(summary: AuditSummary | None) -> Content:
    """What the audits say so far, in at most three lines; empty before the first."""
    if summary is None or not summary.precision.audited:
        return content("")
    precision, consistency = summary.precision, summary.consistency
    assert precision.estimate is not None
    assert precision.expected_left is not None
    wrong, fewest, most = precision.expected_left
    interval = f"{percent(precision.low)} to {percent(precision.high)} %"
    if precision.has_enough_audits:
        result = (
            f"Of {counted(precision.size, 'accepted label')} {percent(precision.estimate)} % are "
            f"right ({interval}, valid whenever you stop): about {wrong:,.0f} wrong labels remain "
            f"({fewest:,.0f} to {most:,.0f})."
        )
    else:
        result = (
            f"{precision.audited:,} of {counted(precision.size, 'accepted label')} judged, too few "
            f"for an estimate (from {min(FEWEST_AUDITS, precision.size)}): {interval} are right, "
            "and "
            f"{fewest:,.0f} to {most:,.0f} wrong labels remain."
        )
    lines = [result, _certification(summary)]
    if consistency.repeated:
        lines.append(
            f"Unannounced repeats: {consistency.same:,} of {consistency.repeated:,} "
            "judged the same."
        )
    return Content.styled("\n".join(lines), "$text-muted")


def _certification(summary: AuditSummary) -> str:
    target = f"{percent(float(TARGET_PRECISION))} %"
    if summary.certified is None:
        text = f"No threshold is certified at {target} yet"
    else:
        text = f"Threshold {float(summary.certified):.2f} is certified at {target}"
    if summary.following is None:
        return f"{text}, which covers everything that was accepted."
    following = f"{float(summary.following):.2f}"
    if summary.clean_needed is None:
        return f"{text}; correct audits alone cannot certify {following}."
    audits = "audit" if summary.clean_needed == 1 else "audits"
    return f"{text}; {summary.clean_needed:,} more correct {audits} certify {following}."


def empty_text(queue: ReviewQueue) -> str:
    """Why there is no question, and which key to press."""
    if queue.selection.queue is Queue.AUDIT:
        if not queue.ids:
            return (
                "Nothing to audit: the vote has not accepted any question yet.\n\n"
                "Press b for triage, or escape for the home screen."
            )
        agreed, judged = queue.agreed
        return (
            f"{'All ' if len(queue.ids) > 1 else ''}"
            f"{counted(len(queue.ids), 'accepted question is', 'accepted questions are')} audited: "
            f"{agreed} of {judged} agree."
            "\n\nPress b for triage, u to undo the last audit, or escape for the home screen."
        )
    if not queue.ids:
        return _nothing_doubtful(queue)
    kind = "doubtful" if queue.selection.filter.scope is Scope.DOUBTFUL else "selected"
    return (
        f"{'All ' if len(queue.ids) > 1 else ''}"
        f"{counted(len(queue.ids), f'{kind} question is', f'{kind} questions are')} done.\n\n"
        "Press b to audit the accepted questions, p to look back, u to undo the last decision, "
        "or escape, then c for the training set."
    )


def _nothing_doubtful(queue: ReviewQueue) -> str:
    """Why no question is in the triage queue."""
    if not queue.any_votes:
        return (
            "No votes yet: nothing has been sampled.\n\n"
            "Press escape for the home screen, then s to sample."
        )
    if queue.selection.filter != QueueFilter():
        return "No question matches the filter.\n\nPress / to change it."
    if queue.open_votes:
        return (
            f"No doubtful votes yet; {queue.open_votes:,} are still open. A question appears here "
            "when its vote is settled and doubtful.\n\n"
            "Press b to audit the accepted questions, or escape for the home screen."
        )
    return (
        "No vote is doubtful.\n\n"
        "Press b to audit the accepted questions, or escape, then c for the training set."
    )
