"""The acceptance test of a round: accept, reject or leave undecided.

Training on its own majority votes sharpens what a model believes. That helps where belief and
truth agree and hurts where they do not. So every round trains from the base model and is measured
before and after on a fixed evaluation set and a fixed out-of-domain set; only the paired test and
its interval decide. The alarms of `engine.evaluation.drift_alarms` warn, and decide nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.evaluation import accuracy
from engine.statistics import intervals
from engine.statistics.intervals import Paired
from store import evaluations, models, questions, rounds
from store.counted import counted
from store.enums import Method, Outcome, Split
from store.records import content_hash

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from store.records import Model, Question

LEVEL = 0.05
"""Significance level of the exact test, two-sided."""

ASSUMED_DISCORDANT = 0.2
"""Share of questions on which two models differ, assumed until a round has measured it."""


def decide(gain: Paired, out_of_domain: Paired | None = None) -> Outcome:
    """Accept or reject where McNemar's exact test and the 95 % interval agree; else undecided.

    Args:
        gain: this round against the last accepted model, on the evaluation set.
        out_of_domain: the same on the out-of-domain set; None if there is no such set.
    """
    if _is_worse(gain) or (out_of_domain is not None and _is_worse(out_of_domain)):
        return Outcome.REJECT
    return Outcome.ACCEPT if gain.p < LEVEL and gain.low > 0 else Outcome.UNDECIDED


def _is_worse(difference: Paired) -> bool:
    return difference.p < LEVEL and difference.high < 0


def last_accepted(verdicts: Mapping[int, Outcome]) -> int:
    """Number of the last accepted round; 0 for the base model.

    Args:
        verdicts: by round number. Each round is measured against the last accepted one, so a
            rejected or undecided round takes nothing from those before it.
    """
    return max((n for n, verdict in verdicts.items() if verdict is Outcome.ACCEPT), default=0)


def may_continue(verdict: Outcome, *, past_undecided: bool = False) -> bool:
    """Whether another round may follow one with this verdict."""
    return verdict is Outcome.ACCEPT or (past_undecided and verdict is Outcome.UNDECIDED)


# Power of the test, before anything runs.


@dataclass(frozen=True, slots=True)
class MeasuredSet:
    """The questions that a round was measured on."""

    n: int
    key: str
    """Hash of the questions and their known answers; it changes whenever they do."""


def measured_set(
    conn: sqlite3.Connection, split: Split, measured: Sequence[Question]
) -> MeasuredSet | None:
    """Those of the questions that have known answers; None if none has."""
    gold = questions.gold_for(conn, split)
    pairs = sorted(
        (question.key, gold[question.id]) for question in measured if question.id in gold
    )
    return MeasuredSet(len(pairs), content_hash(pairs)) if pairs else None


@dataclass(frozen=True, slots=True)
class PowerEstimate:
    """The smallest gain that the test of a round can detect."""

    n: int
    """Evaluation questions with known answers."""
    changes: float
    """Share of them on which the two models are expected to differ."""
    measured: bool
    """Whether `changes` comes from the previous round; otherwise it is an assumption."""
    detectable: float | None
    """Gain detected with 80 % power, a share; None if n is too small to detect any."""


def estimate_power(conn: sqlite3.Connection, measured: Sequence[Question]) -> PowerEstimate:
    """The power of the next round's test on these evaluation questions."""
    evaluation = measured_set(conn, Split.EVAL, measured)
    n = evaluation.n if evaluation else 0
    gains = [result.test.gain for result in round_results(conn) if result.test.gain is not None]
    changes = (gains[-1].won + gains[-1].lost) / gains[-1].n if gains else 0.0
    return PowerEstimate(
        n=n,
        changes=changes or ASSUMED_DISCORDANT,
        measured=changes > 0,
        detectable=intervals.detectable_gain(n, changes or ASSUMED_DISCORDANT) if n else None,
    )


def describe_power(power: PowerEstimate) -> str:
    """The estimate as a sentence."""
    if not power.n:
        return (
            "There are no evaluation questions with known answers, so no test can accept this "
            "round; only the label-free alarms will run."
        )
    basis = "as in the previous round" if power.measured else "an assumption"
    setting = (
        f"With {counted(power.n, 'evaluation question')} and {100 * power.changes:.0f} % of them "
        f"changing ({basis}),"
    )
    if power.detectable is None:
        return f"{setting} no gain can be detected: import more questions with known answers."
    return (
        f"{setting} the smallest gain detectable with 80 % power is "
        f"{100 * power.detectable:.1f} points."
    )


# The test.


@dataclass(frozen=True, slots=True)
class AcceptanceTest:
    """Result of a round's acceptance test. Your own decision, if any, is stored apart from it.

    The field names are the keys of the stored JSON.
    """

    outcome: Outcome
    reason: str
    """Why, in sentences with the numbers."""
    before: str
    """Name of the model compared against: the last accepted one, or the base."""
    gain: Paired | None
    """On the evaluation set, greedy chain of thought; None without known answers."""
    out_of_domain: Paired | None
    detectable: float | None
    """Gain detectable with 80 % power, estimated before the round, a share."""
    needed: int | None
    """Questions needed to confirm the observed difference; None if it is zero or confirmed."""
    alarms: tuple[str, ...]
    notes: tuple[str, ...]
    """Caveats, such as an evaluation set that changed since the previous round."""
    evaluation: MeasuredSet | None
    out_of_domain_set: MeasuredSet | None

    def as_json(self) -> dict[str, object]:
        """As stored; `from_json` is the inverse."""
        stored = dataclasses.asdict(self)
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in stored.items()
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> AcceptanceTest:
        """Parse what `as_json` returned."""

        def paired(name: str) -> Paired | None:
            return Paired(**stored[name]) if stored[name] else None

        def measured(name: str) -> MeasuredSet | None:
            return MeasuredSet(**stored[name]) if stored[name] else None

        return cls(
            outcome=Outcome(stored["outcome"]),
            reason=stored["reason"],
            before=stored["before"],
            gain=paired("gain"),
            out_of_domain=paired("out_of_domain"),
            detectable=stored["detectable"],
            needed=stored["needed"],
            alarms=tuple(stored["alarms"]),
            notes=tuple(stored["notes"]),
            evaluation=measured("evaluation"),
            out_of_domain_set=measured("out_of_domain_set"),
        )


def assess(
    before: str,
    gain: Paired | None,
    out_of_domain: Paired | None,
    *,
    detectable: float | None,
    alarms: Sequence[str],
    notes: Sequence[str],
    sets: tuple[MeasuredSet | None, MeasuredSet | None],
) -> AcceptanceTest:
    """Run the acceptance test of a round.

    Args:
        before: name of the model compared against.
        gain: on the evaluation set; None without known answers, which leaves the round undecided.
        out_of_domain: on the out-of-domain set; None if there is no such set.
        detectable: `PowerEstimate.detectable`, as estimated before the round.
        alarms: from `engine.evaluation.drift_alarms`.
        notes: caveats to store with the result.
        sets: the evaluation set and the out-of-domain set.
    """
    outcome = Outcome.UNDECIDED
    needed = None
    if gain is None:
        reason = (
            "There are no evaluation questions with known answers, so nothing was tested; only "
            "the label-free alarms apply."
        )
    else:
        outcome = decide(gain, out_of_domain)
        on = f"on {counted(gain.n, 'evaluation question')}"
        if outcome is Outcome.ACCEPT:
            reason = f"Better than {before} {on}: {_numbers(gain)}."
        elif outcome is Outcome.REJECT and _is_worse(gain):
            reason = f"Worse than {before} {on}: {_numbers(gain)}."
        elif outcome is Outcome.REJECT:
            assert out_of_domain is not None
            reason = (
                f"Worse than {before} on {out_of_domain.n:,} out-of-domain questions: "
                f"{_numbers(out_of_domain)}."
            )
        else:
            needed = intervals.questions_needed(gain.gain, (gain.won + gain.lost) / gain.n)
            reason = (
                f"No significant difference from {before} {on}: {_numbers(gain)}. "
                + _what_would_decide(gain, needed)
            )
        if out_of_domain is None:
            notes = (*notes, "Nothing was measured out of domain, so a loss there goes unnoticed.")
    return AcceptanceTest(
        outcome=outcome,
        reason=reason,
        before=before,
        gain=gain,
        out_of_domain=out_of_domain,
        detectable=detectable,
        needed=needed,
        alarms=tuple(alarms),
        notes=tuple(notes),
        evaluation=sets[0],
        out_of_domain_set=sets[1],
    )


def _numbers(difference: Paired) -> str:
    p = "p < 0.001" if difference.p < 0.001 else f"p = {difference.p:.3f}"
    return (
        f"{100 * difference.gain:+.1f} points "
        f"({100 * difference.low:+.1f} to {100 * difference.high:+.1f}), "
        f"{p}, {difference.won:,} won and {difference.lost:,} lost"
    )


def _what_would_decide(difference: Paired, needed: int | None) -> str:
    if needed is None:
        return "The two models scored the same, so a needed sample size cannot be estimated."
    kind = "gain" if difference.gain > 0 else "loss"
    return (
        f"If this is the true {kind}, about {max(needed, difference.n + 1):,} questions would "
        "confirm it with 80 % power."
    )


# Rounds with their results.


@dataclass(frozen=True, slots=True)
class RoundResult:
    """A round, its acceptance test, and the verdict in force."""

    number: int
    sampled: str
    """Name of the model that was sampled for the vote."""
    trained: str
    verdict: Outcome
    """Your decision if you made one, else the outcome of the test."""
    by_user: bool
    test: AcceptanceTest
    decided_at: float
    """When the test ran, seconds since the epoch."""

    def as_json(self) -> dict[str, object]:
        """As in the output of `--json`."""
        return {
            "round": self.number,
            "sampled": self.sampled,
            "trained": self.trained,
            "verdict": self.verdict,
            "by_person": self.by_user,
            **{name: value for name, value in self.test.as_json().items() if name != "outcome"},
            "guard": self.test.outcome,
        }

    def summary(self) -> str:
        """The round in one line: number, model, verdict, whose verdict it is."""
        by = " (your decision)" if self.by_user else ""
        return f"round {self.number}: {self.trained} {self.verdict.word}{by}"


def round_results(conn: sqlite3.Connection) -> list[RoundResult]:
    """Every round, oldest first."""
    names = {model.id: model.name for model in models.all_of(conn)}
    verdicts = rounds.verdicts(conn)
    by_user = {decision.number for decision in rounds.decisions(conn)}
    return [
        RoundResult(
            number=round_.number,
            sampled=names[round_.sampled_id],
            trained=names[round_.trained_id],
            verdict=verdicts[round_.number],
            by_user=round_.number in by_user,
            test=AcceptanceTest.from_json(round_.details),
            decided_at=round_.decided_at,
        )
        for round_ in rounds.all_of(conn)
    ]


def paired_gain(
    conn: sqlite3.Connection, before: Model, after: Model, split: Split
) -> Paired | None:
    """The paired test of two models on a split, greedy chain of thought; None unless both were
    measured on it."""
    newest = evaluations.newest(conn)
    first = newest.get((before.id, split, Method.COT))
    second = newest.get((after.id, split, Method.COT))
    if first is None or second is None:
        return None
    comparison = accuracy.compare(conn, first, second)
    return comparison.result if comparison else None
