"""Whether a round is kept: the paired test decides, label-free alarms warn.

Training on one's own majority sharpens what a model believes; it rises, and where belief and truth
part, it falls. So each round starts from the base model, is measured on a frozen set and on an
out-of-domain set before and after, and only the test with its interval decides.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.evaluation import accuracy
from engine.statistics import intervals
from engine.statistics.intervals import Paired
from engine.voting.majority import merge_equal
from store import evaluations, models, paths, questions, rounds
from store.enums import EndReason, Method, Outcome, Split
from store.records import content_hash

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping, Sequence

    from store.records import Model, Question, Run

LEVEL = 0.05
"""Of the exact test, two-sided."""

EXPECTED_CHANGES = 0.2
"""Share of the questions on which two models are taken to differ before that was measured once."""


def decide(gain: Paired, out_of_domain: Paired | None = None) -> Outcome:
    """Accept, reject or neither: where McNemar's exact test and the 95 % interval both say so.

    Args:
        gain: this round against the one before, on the frozen evaluation set.
        out_of_domain: the same on questions of another kind; None where there are none.
    """
    if _is_worse(gain) or (out_of_domain is not None and _is_worse(out_of_domain)):
        return Outcome.REJECT
    return Outcome.ACCEPT if gain.p < LEVEL and gain.low > 0 else Outcome.UNDECIDED


def _is_worse(found: Paired) -> bool:
    return found.p < LEVEL and found.high < 0


def best_round(verdicts: Mapping[int, Outcome]) -> int:
    """The round to keep: the last that was accepted; 0 is the base model.

    Args:
        verdicts: by number of the round. Each round is measured against the last accepted one, so
            one that was rejected or left open takes nothing from those before it.
    """
    return max((n for n, verdict in verdicts.items() if verdict is Outcome.ACCEPT), default=0)


def goes_on(verdict: Outcome, *, past_undecided: bool = False) -> bool:
    """Whether another round may follow: after an accepted one; after an open one if asked."""
    return verdict is Outcome.ACCEPT or (past_undecided and verdict is Outcome.UNDECIDED)


# What a comparison can show.


@dataclass(frozen=True, slots=True)
class Frozen:
    """The questions that a round was measured on."""

    n: int
    key: str
    """Hash of the questions and their known answers: other questions, another key."""


def frozen(conn: sqlite3.Connection, split: Split, asked: Sequence[Question]) -> Frozen | None:
    """The set of these questions that have known answers; None without any."""
    gold = questions.gold_for(conn, split)
    known = sorted((one.key, gold[one.id]) for one in asked if one.id in gold)
    return Frozen(len(known), content_hash(known)) if known else None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the test of a round could show, before anything runs."""

    n: int
    """Evaluation questions with known answers."""
    changes: float
    """Share of them on which the two models are taken to differ."""
    measured: bool
    """Whether that share is of the round before; else it is an assumption."""
    detectable: float | None
    """Gain that is shown four times in five, a share; None where no gain could be."""


def forecast(conn: sqlite3.Connection, asked: Sequence[Question]) -> Forecast:
    """What the next round's test could show on these evaluation questions."""
    found = frozen(conn, Split.EVAL, asked)
    n = found.n if found else 0
    earlier = [one.judgement.gain for one in decided(conn) if one.judgement.gain is not None]
    changes = EXPECTED_CHANGES
    if earlier:
        changes = (earlier[-1].won + earlier[-1].lost) / earlier[-1].n
    measured = changes > 0 and bool(earlier)
    changes = changes or EXPECTED_CHANGES
    seen = intervals.detectable_gain(n, changes) if n else None
    return Forecast(n, changes, measured, seen)


def told(found: Forecast) -> str:
    """The forecast as a sentence."""
    if not found.n:
        return (
            "There are no evaluation questions with known answers, so no test can accept this "
            "round: only alarms that need no labels will speak."
        )
    basis = "as in the round before" if found.measured else "an assumption"
    on = (
        f"On {found.n:,} evaluation questions, of which {100 * found.changes:.0f} % change sides "
        f"({basis}),"
    )
    if found.detectable is None:
        return f"{on} no gain could be shown: import more questions with known answers."
    return (
        f"{on} the test shows a gain of {100 * found.detectable:.1f} points or more four times "
        "in five."
    )


# What was found.


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the guard found of a round, whatever a person decided later."""

    outcome: Outcome
    reason: str
    """Why, with the numbers, in sentences."""
    before: str
    """Name of the model that it was measured against: the last accepted one, or the base."""
    gain: Paired | None
    """On the evaluation questions, greedy chain of thought; None where there are none."""
    out_of_domain: Paired | None
    detectable: float | None
    """Gain that the test could have shown four times in five, told before, a share."""
    needed: int | None
    """Questions that would show the difference that was seen; None where it is none or shown."""
    alarms: tuple[str, ...]
    notes: tuple[str, ...]
    """What else should be known, such as that the evaluation set is another one."""
    evaluation: Frozen | None
    out_of_domain_set: Frozen | None

    def as_json(self) -> dict[str, object]:
        """As it is stored; `judgement` reads it."""
        stored = dataclasses.asdict(self)
        return {n: list(one) if isinstance(one, tuple) else one for n, one in stored.items()}


def judgement(stored: Mapping[str, Any]) -> Judgement:
    """What `Judgement.as_json` wrote."""

    def paired(name: str) -> Paired | None:
        return Paired(**stored[name]) if stored[name] else None

    def questions_of(name: str) -> Frozen | None:
        return Frozen(**stored[name]) if stored[name] else None

    return Judgement(
        outcome=Outcome(stored["outcome"]),
        reason=stored["reason"],
        before=stored["before"],
        gain=paired("gain"),
        out_of_domain=paired("out_of_domain"),
        detectable=stored["detectable"],
        needed=stored["needed"],
        alarms=tuple(stored["alarms"]),
        notes=tuple(stored["notes"]),
        evaluation=questions_of("evaluation"),
        out_of_domain_set=questions_of("out_of_domain_set"),
    )


def judge(
    before: str,
    gain: Paired | None,
    out_of_domain: Paired | None,
    *,
    detectable: float | None,
    alarms: Sequence[str],
    notes: Sequence[str],
    sets: tuple[Frozen | None, Frozen | None],
) -> Judgement:
    """The verdict on a round with its reasons.

    Args:
        before: name of the model that it was measured against.
        gain: on the evaluation set; None without known answers, and then nothing is decided.
        out_of_domain: on the other set, where there is one.
        detectable: what was said before that the test could show.
        alarms: of the sampled paths.
        notes: what else should be known.
        sets: the evaluation set and the out-of-domain set.
    """
    outcome = Outcome.UNDECIDED
    needed = None
    if gain is None:
        reason = (
            "There are no evaluation questions with known answers, so nothing was tested: only "
            "the alarms speak."
        )
    else:
        outcome = decide(gain, out_of_domain)
        on = f"on {gain.n:,} evaluation questions"
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
                f"Neither better nor worse than {before} is shown {on}: {_numbers(gain)}. "
                + _what_would_decide(gain, needed)
            )
        if out_of_domain is None:
            notes = (*notes, "Nothing was measured out of domain, so a loss there is not seen.")
    return Judgement(
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


def _numbers(found: Paired) -> str:
    p = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
    return (
        f"{100 * found.gain:+.1f} points ({100 * found.low:+.1f} to {100 * found.high:+.1f}), "
        f"{p}, {found.won:,} won and {found.lost:,} lost"
    )


def _what_would_decide(found: Paired, needed: int | None) -> str:
    if needed is None:
        return "No difference was seen at all, so no number of questions is known to decide."
    kind = "gain" if found.gain > 0 else "loss"
    return (
        f"If this is the true {kind}, about {max(needed, found.n + 1):,} questions would show it "
        "four times in five."
    )


@dataclass(frozen=True, slots=True)
class Decided:
    """A round as it stands."""

    number: int
    sampled: str
    """Name of the model whose paths voted."""
    trained: str
    verdict: Outcome
    """A person's where one decided, else the guard's."""
    by_person: bool
    judgement: Judgement
    """The guard's."""
    decided_at: float
    """When the guard decided."""


def decided(conn: sqlite3.Connection) -> list[Decided]:
    """Every round, in its order."""
    known = {one.id: one.name for one in models.all_of(conn)}
    held = rounds.verdicts(conn)
    by_person = {one.number for one in rounds.decisions(conn)}
    return [
        Decided(
            number=one.number,
            sampled=known[one.sampled_id],
            trained=known[one.trained_id],
            verdict=held[one.number],
            by_person=one.number in by_person,
            judgement=judgement(one.details),
            decided_at=one.decided_at,
        )
        for one in rounds.all_of(conn)
    ]


def as_json(one: Decided) -> dict[str, object]:
    """A round as programs read it."""
    return {
        "round": one.number,
        "sampled": one.sampled,
        "trained": one.trained,
        "verdict": one.verdict,
        "by_person": one.by_person,
        **{name: value for name, value in one.judgement.as_json().items() if name != "outcome"},
        "guard": one.judgement.outcome,
    }


def said(one: Decided) -> str:
    """A round in one line: number, model, verdict, who decided."""
    by = " by a person" if one.by_person else ""
    return f"round {one.number}: {one.trained} {one.verdict.word}{by}"


def difference(
    conn: sqlite3.Connection, before: Model, after: Model, split: Split
) -> Paired | None:
    """The paired test of two models on a split, greedy chain of thought; None where it was not
    measured for both."""
    newest = evaluations.newest(conn)
    first = newest.get((before.id, split, Method.COT))
    second = newest.get((after.id, split, Method.COT))
    if first is None or second is None:
        return None
    comparison = accuracy.compare(conn, first, second)
    return comparison.result if comparison else None


# Models that were trained and measured outside of rounds.


@dataclass(frozen=True, slots=True)
class Trained:
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


def of_store(conn: sqlite3.Connection, method: Method = Method.COT) -> list[Trained]:
    """What the guard says of every trained model that was measured beside its own base, but for
    those of rounds."""
    known = {one.name: one for one in models.all_of(conn)}
    in_rounds = {one.trained_id for one in rounds.all_of(conn)}
    own = [
        one
        for one in accuracy.comparisons(conn)
        if one.method is method
        and known[one.after].base_id == known[one.before].id
        and known[one.after].id not in in_rounds
    ]
    elsewhere = {one.after: one.result for one in own if one.split is Split.OOD}
    found = []
    for one in own:
        if one.split is not Split.EVAL:
            continue
        before, after = (
            signs_of(conn, known[name], Split.EVAL) for name in (one.before, one.after)
        )
        found.append(
            Trained(
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


def signs_of(conn: sqlite3.Connection, model: Model, split: Split) -> Signs | None:
    """The signs of a model's newest sampled run over a split; None without one."""
    sampled = [
        run
        for run in paths.runs(conn)
        if run.model_id == model.id and run.split is split and run.temperature > 0
    ]
    return signs(conn, sampled[-1]) if sampled else None


def signs(conn: sqlite3.Connection, run: Run, only: Collection[int] | None = None) -> Signs | None:
    """The signs of a run; None before any question has two paths.

    `only` holds the ids of the questions that are looked at; None is all.
    """
    from engine.evaluation.calibration import corrected
    from engine.voting import majority  # the app tells rounds without these two

    asked = [one for one in questions.by_split(conn, run.split) if only is None or one.id in only]
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
        entropy=sum(majority.entropy(given) for given in answered) / len(answered),
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
