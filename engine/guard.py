"""Whether a round is kept: the paired test decides, label-free alarms warn.

Training on one's own majority sharpens what a model believes; it rises, and where belief and truth
part, it falls. So each round starts from the base model, is measured on a frozen set and on an
out-of-domain set before and after, and only an interval decides.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from engine import evaluation, voting
from engine.answers import merge_equal
from engine.calibration import corrected
from store import models, paths, questions
from store.records import EndReason, Method, Split

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.statistics import Paired
    from store.records import Run


class Outcome(StrEnum):
    """What becomes of a round."""

    ACCEPT = "accept"
    """Surely better on the frozen set, and not surely worse out of domain."""
    REJECT = "reject"
    """Surely worse on one of the two: roll back to the round before."""
    UNDECIDED = "undecided"
    """Neither is shown at this number of questions; it is not a reason to go on."""


def decide(gain: Paired, out_of_domain: Paired | None = None) -> Outcome:
    """Accept, reject or neither, by the 95 % intervals of the paired differences.

    Args:
        gain: this round against the one before, on the frozen evaluation set.
        out_of_domain: the same on questions of another kind; None where there are none.
    """
    if gain.high < 0 or (out_of_domain is not None and out_of_domain.high < 0):
        return Outcome.REJECT
    return Outcome.ACCEPT if gain.low > 0 else Outcome.UNDECIDED


@dataclass(frozen=True, slots=True)
class Round:
    """A trained model before the guard."""

    model: str
    base: str
    method: Method
    outcome: Outcome
    gain: Paired
    """Against its own base on the evaluation questions."""
    out_of_domain: Paired | None
    alarms: tuple[str, ...]
    """From the sampled paths on the evaluation questions of both."""


def of_store(conn: sqlite3.Connection, method: Method = Method.COT) -> list[Round]:
    """What the guard says of every trained model that was measured beside its own base."""
    known = {one.name: one for one in models.all_of(conn)}
    own = [
        one
        for one in evaluation.comparisons(conn)
        if one.method is method and known[one.after].base_id == known[one.before].id
    ]
    elsewhere = {one.after: one.result for one in own if one.split is Split.OOD}
    sampled = {
        run.model_id: run
        for run in paths.runs(conn)
        if run.split is Split.EVAL and run.temperature > 0
    }
    found = []
    for one in own:
        if one.split is not Split.EVAL:
            continue
        ids = known[one.before].id, known[one.after].id
        before, after = (signs(conn, sampled[id_]) if id_ in sampled else None for id_ in ids)
        found.append(
            Round(
                model=one.after,
                base=one.before,
                method=method,
                outcome=decide(one.result, elsewhere.get(one.after)),
                gain=one.result,
                out_of_domain=elsewhere.get(one.after),
                alarms=tuple(alarms(before, after)) if before and after else (),
            )
        )
    return found


def best_round(gains: Sequence[Paired]) -> int:
    """The round to keep: the last of those accepted one after the other; 0 is the base model.

    Args:
        gains: of round 1 over the base, of round 2 over round 1, and so on.
    """
    kept = 0
    for number, gain in enumerate(gains, start=1):
        if decide(gain) is not Outcome.ACCEPT:
            break
        kept = number
    return kept


# Alarms that need no labels.


@dataclass(frozen=True, slots=True)
class Signs:
    """What a run's paths look like, without knowing what is right."""

    questions: int
    agreement: float
    """Mean share of the winner without the winner's curse, in [0, 1]."""
    entropy: float
    """Mean entropy of a question's answers, in bits."""
    truncated: float
    """Share of paths that were cut."""
    unread: float
    """Share of whole paths without a readable answer."""
    length: float
    """Mean characters of a path."""
    distinct: float
    """Share of a question's paths that differ from all before them, in (0, 1]."""


def signs(conn: sqlite3.Connection, run: Run) -> Signs | None:
    """The signs of a run; None before any question has two paths."""
    asked = questions.by_split(conn, run.split)
    by_question: defaultdict[int, list[str | None]] = defaultdict(list)
    texts = cut = unread = length = distinct = 0
    for question in asked:
        seen = set[str]()
        for path, reading in paths.for_question(conn, run.id, question.id):
            by_question[question.id].append(reading.answer)
            texts += 1
            cut += path.end is EndReason.LENGTH
            unread += reading.answer is None and path.end is not EndReason.LENGTH
            length += len(path.text)
            seen.add(path.text)
        distinct += len(seen)
    types = {question.id: question.answer_type for question in asked}
    answered = [merge_equal(types[id_], given) for id_, given in by_question.items()]
    mean = corrected(answered)
    if mean is None:
        return None
    return Signs(
        questions=len(answered),
        agreement=mean.corrected,
        entropy=sum(voting.entropy(given) for given in answered) / len(answered),
        truncated=cut / texts,
        unread=unread / texts,
        length=length / texts,
        distinct=distinct / texts,
    )


def alarms(before: Signs, after: Signs, *, precision_gain: float | None = None) -> list[str]:
    """What should make a person look, in sentences.

    Args:
        before: of the run of the round before.
        after: of this round's.
        precision_gain: audited precision after minus before, a share; None where it was not
            audited, and then more agreement is told as what it is: unexplained.
    """
    said = []
    if after.agreement > before.agreement + 0.02 and (
        precision_gain is None or precision_gain <= 0
    ):
        said.append(
            f"Agreement rose from {before.agreement:.0%} to {after.agreement:.0%}, and no audit "
            "shows that the answers became better."
        )
    if after.entropy < 0.8 * before.entropy:
        said.append(
            f"Answers scatter less: {before.entropy:.2f} to {after.entropy:.2f} bits a question."
        )
    for name, old, new in (
        ("cut", before.truncated, after.truncated),
        ("without a readable answer", before.unread, after.unread),
    ):
        if new > old + 0.02:
            said.append(f"More paths are {name}: {old:.1%} to {new:.1%}.")
    if not 0.75 < after.length / max(1.0, before.length) < 1.33:
        said.append(
            f"Paths changed their length: {before.length:.0f} to {after.length:.0f} characters."
        )
    if after.distinct < 0.8 * before.distinct:
        said.append(f"Fewer paths are distinct: {before.distinct:.0%} to {after.distinct:.0%}.")
    return said
