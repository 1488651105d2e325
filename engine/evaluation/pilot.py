"""The pilot: on a few questions with known answers, predict whether LMSI can help, before hours of
sampling.

LMSI teaches a model what its majority vote knows and its greedy answer does not. The difference of
the two is the headroom: 56.5 to 74.4 % on GSM8K for PaLM-540B, where LMSI gained 17 points, and
5.4 to 6.4 % for UL2-20B, where it gained less than one (Huang et al. 2022, Tables 3 and 8).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from engine.evaluation.accuracy import scored_answers
from engine.evaluation.pilot_verdict import (
    MIN_HEADROOM,
    LabelYield,
    Obstacle,
    PilotCounts,
    PilotVerdict,
    Usefulness,
    can_change,
    judge,
    label_yield,
)
from engine.evaluation.sampling_forecast import SamplingForecast, forecast, forecast_grid
from engine.sampling import runs
from engine.statistics import intervals
from engine.voting.majority import full_vote, merge_equal
from store import evaluations, paths, questions
from store.counted import counted
from store.enums import Decision, Method, Split
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from engine.project.settings import SampleSettings
    from engine.statistics.intervals import Paired
    from store.records import Evaluation, Model, Question

QUESTIONS = 80
"""Most questions of a pilot by default; 60 to 100 are usual."""

_OFTEN_TRUNCATED, _OFTEN_UNREAD = 0.05, 0.10
"""Shares of paths above which the pilot gives advice."""


class HeadroomVerdict(StrEnum):
    """What the interval of the headroom supports. The values are part of `pilot --json`."""

    NO_HEADROOM = "no fuel"
    """The upper end of the interval is below `MIN_HEADROOM`."""
    HEADROOM = "fuel present"
    """The whole interval is above zero: necessary for LMSI to help, not sufficient."""
    UNKNOWN = "cannot tell yet"


@dataclass(frozen=True, slots=True)
class PilotAccuracy:
    """Accuracy with its interval."""

    correct: int
    n: int
    low: float
    """95 % interval (Wilson), shares."""
    high: float

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return self.correct / self.n


@dataclass(frozen=True, slots=True)
class StudentPilot:
    """What distillation could teach a student. The field names are keys of `pilot --json`."""

    model: str
    greedy: PilotAccuracy
    gap: Paired
    """The headroom of distillation: the teacher's majority minus the student's greedy answer."""
    counts: PilotCounts
    outlook: PilotVerdict


@dataclass(frozen=True, slots=True)
class AfterMajority:
    """Whether a model makes use of its own majority: greedy answers with a path of it in the
    prompt, and without, on the same questions. The field names are keys of `pilot --json`."""

    shown: PilotAccuracy
    """With the first path of the question's majority before the question."""
    alone: PilotAccuracy
    gap: Paired
    """Shown minus alone: what `teach` can teach."""


@dataclass(frozen=True, slots=True)
class Pilot:
    """Result of a pilot. The field names are keys of `pilot --json`."""

    model: str
    k: int
    """Paths of each majority vote."""
    greedy: PilotAccuracy
    majority: PilotAccuracy
    gap: Paired
    """The headroom: majority minus greedy, on the same questions."""
    detectable: float | None
    """Headroom that n questions detect with 80 % power, a share; None if n is too small for any."""
    questions_needed: int | None
    """Questions at which the same rates would give a verdict; None if there is a verdict already,
    or if no number of questions would give one."""
    paths: int
    truncated: int
    """Paths that reached the token limit; they abstain."""
    unread: int
    """Paths that ended by themselves but have no readable answer; they abstain too."""
    tokens_per_path: float
    tokens_per_second: float | None
    pool: int
    """Questions that a full run would sample."""
    forecasts: tuple[SamplingForecast, ...]
    threshold: str
    """At which the votes of `labels` keep a question."""
    labels: LabelYield
    """Of the pilot's own votes of k paths."""
    counts: PilotCounts
    outlook: PilotVerdict
    """Whether LMSI can be expected to help the model itself."""
    students: tuple[StudentPilot, ...] = ()
    """The project's students whose greedy answers were measured."""
    after_majority: AfterMajority | None = None
    """None if it was not measured."""

    @property
    def n(self) -> int:
        """Questions with known answers that both accuracies are measured on."""
        return self.gap.n

    @property
    def verdict(self) -> HeadroomVerdict:
        """What the interval of the headroom supports."""
        return judge_headroom(self.gap)

    def can_change(self, more: int) -> bool:
        """Whether a verdict is open that `more` further questions could settle."""
        counts = (self.counts, *(student.counts for student in self.students))
        return any(can_change(each, more) for each in counts)


def judge_headroom(headroom: Paired) -> HeadroomVerdict:
    """The verdict on a headroom from its 95 % interval."""
    if headroom.high < MIN_HEADROOM:
        return HeadroomVerdict.NO_HEADROOM
    return HeadroomVerdict.HEADROOM if headroom.low > 0 else HeadroomVerdict.UNKNOWN


def newest_evaluations(
    conn: sqlite3.Connection, model: Model
) -> tuple[Evaluation, Evaluation] | None:
    """The newest greedy and majority evaluations of a model; None unless it has both."""
    newest = evaluations.newest(conn)
    greedy = newest.get((model.id, Split.EVAL, Method.COT))
    majority = newest.get((model.id, Split.EVAL, Method.SC))
    return (greedy, majority) if greedy and majority else None


def from_evaluations(
    conn: sqlite3.Connection,
    model: Model,
    settings: SampleSettings,
    students: Sequence[Model] = (),
) -> Pilot:
    """Compute the pilot from a model's stored evaluations.

    Args:
        conn: the project's store; only read.
        model: the model that would sample the pool.
        settings: how it would sample the pool: early stop, cap, and m and threshold of the first
            forecast.
        students: models that would be distilled from it; those not measured are left out.

    Raises:
        BadInput: the model has not been measured, or its two evaluations share no question.
    """
    pair = newest_evaluations(conn, model)
    if pair is None:
        raise BadInput(f"{model.name} has not been measured: run `lmsi-tui pilot`.")
    greedy, majority = (evaluations.answers(conn, evaluation.id) for evaluation in pair)
    answers_of = {student.id: _greedy_answers(conn, student) for student in students}
    common = sorted(greedy.keys() & majority.keys())
    if not common:
        raise BadInput(
            f"The greedy and the majority evaluation of {model.name} share no question: "
            "`lmsi-tui evaluate` measures both on the same questions."
        )
    headroom = _headroom(greedy, majority, common)
    run = paths.run_by_id(conn, pair[1].run_id)
    sampled = paths.counts(conn, run.id)
    tokens, seconds = paths.pace(conn, run.id)
    per_path = sampled.tokens / max(1, sampled.paths)
    per_second = tokens / seconds if seconds > 0 else None
    pool = len(questions.by_split(conn, Split.POOL))
    by_question = _in_order(
        paths.answers_by_question(conn, run.id, common), questions.by_ids(conn, common)
    )
    answers = list(by_question.values())
    votes = {i: full_vote(by_question.get(i, ()), pair[1].k, settings.threshold) for i in common}
    kept = {i for i, vote in votes.items() if vote.decision is Decision.KEEP}
    counts = _counts(greedy, majority, kept, common)
    return Pilot(
        model=model.name,
        k=pair[1].k,
        greedy=_accuracy([greedy[i] for i in common]),
        majority=_accuracy([majority[i] for i in common]),
        gap=headroom,
        detectable=intervals.detectable_by(headroom),
        questions_needed=questions_needed(headroom),
        paths=sampled.paths,
        truncated=sampled.paths - sampled.ended,
        unread=max(0, sampled.abstained - (sampled.paths - sampled.ended)),
        tokens_per_path=per_path,
        tokens_per_second=per_second,
        pool=pool,
        forecasts=tuple(
            forecast(answers, run, settings, m, threshold, pool, per_path, per_second)
            for m, threshold in forecast_grid(settings)
        ),
        threshold=settings.threshold,
        labels=label_yield(len(common), len(kept), counts.right),
        counts=counts,
        outlook=judge(counts),
        students=tuple(
            _student(student, answers_of[student.id], majority, kept)
            for student in students
            if majority.keys() & answers_of[student.id].keys()
        ),
        after_majority=_after_majority(conn, pair, greedy, common),
    )


def _after_majority(
    conn: sqlite3.Connection,
    pair: tuple[Evaluation, Evaluation],
    greedy: Mapping[int, bool],
    common: Sequence[int],
) -> AfterMajority | None:
    """What was stored of the questions that were asked after a path of their majority."""
    asked, voted = (paths.run_by_id(conn, evaluation.run_id) for evaluation in pair)
    run = paths.run_by_key(conn, runs.after_majority(conn, asked, voted).key)
    if run is None:
        return None
    measured = questions.by_ids(conn, paths.answers_by_question(conn, run.id, common))
    (rows,) = scored_answers(conn, run, list(measured.values())).values()
    if not rows:
        return None
    shown = [right for _, _, right in rows]
    alone = [greedy[id_] for id_, _, _ in rows]
    return AfterMajority(_accuracy(shown), _accuracy(alone), intervals.paired(alone, shown))


def _student(
    student: Model, greedy: Mapping[int, bool], majority: Mapping[int, bool], kept: set[int]
) -> StudentPilot:
    common = sorted(greedy.keys() & majority.keys())
    counts = _counts(greedy, majority, kept, common)
    return StudentPilot(
        model=student.name,
        greedy=_accuracy([greedy[i] for i in common]),
        gap=_headroom(greedy, majority, common),
        counts=counts,
        outlook=judge(counts),
    )


def _greedy_answers(conn: sqlite3.Connection, model: Model) -> dict[int, bool]:
    """Whether a model's newest greedy answers are right; empty if it has none."""
    evaluation = evaluations.newest(conn).get((model.id, Split.EVAL, Method.COT))
    return evaluations.answers(conn, evaluation.id) if evaluation else {}


def _headroom(
    greedy: Mapping[int, bool], majority: Mapping[int, bool], common: Sequence[int]
) -> Paired:
    return intervals.paired([greedy[i] for i in common], [majority[i] for i in common])


def _counts(
    greedy: Mapping[int, bool],
    majority: Mapping[int, bool],
    kept: set[int],
    common: Sequence[int],
) -> PilotCounts:
    return PilotCounts(
        n=len(common),
        right=sum(i in kept and majority[i] for i in common),
        wrong=sum(i in kept and not majority[i] for i in common),
        greedy=sum(greedy[i] for i in common),
        won=sum(majority[i] and not greedy[i] for i in common),
        lost=sum(greedy[i] and not majority[i] for i in common),
    )


def questions_needed(headroom: Paired) -> int | None:
    """Questions at which the same rates would give a verdict (normal interval of paired shares);
    None if there is a verdict already."""
    if judge_headroom(headroom) is not HeadroomVerdict.UNKNOWN:
        return None
    discordant = (headroom.won + headroom.lost) / headroom.n
    variance = max(discordant - headroom.gain**2, 1 / headroom.n)
    distance = max(MIN_HEADROOM - headroom.gain, headroom.gain)
    return max(headroom.n + 1, math.ceil(intervals.Z95**2 * variance / distance**2))


def advice(pilot: Pilot) -> list[str]:
    """Sentences about what could help; only what the numbers support."""
    obstacles = pilot.outlook.obstacles
    useless = pilot.outlook.answer is Usefulness.NO
    sentences = []
    if useless and {Obstacle.FEW_RIGHT_LABELS, Obstacle.WRONG_LABELS} & set(obstacles):
        sentences += [
            "Another model: a larger one, or one that was trained for such questions "
            "(`lmsi-tui init DIR --model OTHER`).",
            "Easier questions, on which the model is right more often.",
            "Another prompt style: `lmsi-tui pilot --styles` compares them.",
        ]
    if useless and Obstacle.NEARLY_ALL_RIGHT in obstacles:
        sentences.append(
            "Harder questions. Or use this model as the teacher of a smaller one "
            "(`lmsi-tui init DIR --model THIS --student SMALLER`)."
        )
    elif pilot.verdict is HeadroomVerdict.NO_HEADROOM or (
        useless and Obstacle.NEARLY_ALL_RIGHT not in obstacles
    ):
        sentences.append(
            "Distill from a larger teacher instead: in the paper this gave by far the largest "
            "gains (`lmsi-tui init DIR --model LARGER --student THIS`)."
        )
    if pilot.outlook.answer is Usefulness.UNKNOWN and pilot.questions_needed:
        sentences.append(
            f"More questions with known answers: at these rates, about "
            f"{pilot.questions_needed:,} would show whether there is headroom "
            "(`lmsi-tui pilot --questions N`)."
        )
    if pilot.truncated > _OFTEN_TRUNCATED * pilot.paths:
        sentences.append(
            f"A higher token limit: {pilot.truncated:,} of {pilot.paths:,} paths were truncated "
            "and have no vote (`--set sample.max_tokens=N`)."
        )
    if pilot.unread > _OFTEN_UNREAD * pilot.paths:
        sentences.append(
            f"Worked examples in the expected format: {pilot.unread:,} of "
            f"{counted(pilot.paths, 'path')} "
            "have no readable answer (`lmsi-tui prompt` shows the prompt)."
        )
    if pilot.outlook.answer is Usefulness.UNKNOWN and pilot.k < 16:
        sentences.append(
            f"More paths for each vote: {pilot.k} show less of the headroom than the paper's 32 "
            "(`--set evaluate.k=N`)."
        )
    return sentences


def _in_order(
    answers: Mapping[int, Mapping[int, str | None]], by_id: Mapping[int, Question]
) -> dict[int, list[str | None]]:
    """The answers of each question in index order, with equal formulas merged."""
    return {
        id_: merge_equal(by_id[id_].answer_type, [by_index[i] for i in sorted(by_index)])
        for id_, by_index in answers.items()
    }


def _accuracy(right: Sequence[bool]) -> PilotAccuracy:
    low, high = intervals.wilson(sum(right), len(right))
    return PilotAccuracy(sum(right), len(right), low, high)
