"""What the confidence of paths is good for: to tell right paths from wrong ones, and to count them.

Ways to count are compared on the stored paths of a run. Where answers are known, that shows how
well confidence separates the right paths of a question from its wrong ones, and how many of the
chosen labels are right when each way chooses equally many. Imports numpy: for the command line and
the worker, not for the app.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answers.custom_rules import gold_for
from engine.answers.extraction import equal
from engine.sampling import runs
from engine.statistics import discrimination
from engine.voting import majority
from engine.voting.confidence import path_weights, reaches_share, score, weighted_tally
from store import confidence, evaluations, paths, questions
from store.enums import Counting, Method, Split

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from engine.project.folder import Project
    from engine.statistics.discrimination import Estimate, Statistic
    from store.confidence import PathConfidence
    from store.records import Run, Vote

MEASURES: dict[str, Callable[[PathConfidence], float | None]] = {
    "mean log-probability": lambda each: each.mean_logprob,
    "lowest window": lambda each: each.window_logprob,
    "last tokens": lambda each: each.tail_logprob,
    "entropy": lambda each: None if each.entropy is None else -each.entropy,
}
"""How sure the model was of a path, by name; larger is surer."""


@dataclass(frozen=True, slots=True)
class WholeQuestion:
    """A question with all its m paths and their confidence."""

    answers: tuple[str | None, ...]
    """Of paths 0 to m - 1, equal ones merged; None abstains."""
    confidences: tuple[PathConfidence, ...]
    """Of the same paths."""
    correct: frozenset[str] | None
    """Those of the answers that are right; None if that is not known."""


@dataclass(frozen=True, slots=True)
class Label:
    """What one way of counting chooses for a question."""

    answer: str | None
    """None without an answer that leads alone."""
    share: float
    """Of the m paths, or of their weights, in [0, 1]; 0 without an answer."""
    kept: bool
    """Whether it reaches the threshold."""


@dataclass(frozen=True, slots=True)
class CountingRow:
    """One way of counting over all questions."""

    counting: Counting
    kept: int
    changed_winners: int
    """Questions whose answer differs from that of the plain vote."""
    newly_kept: int
    """Kept questions that the plain vote leaves out."""
    no_longer_kept: int
    """Questions that only the plain vote keeps."""


@dataclass(frozen=True, slots=True)
class PrecisionRow:
    """Label precision of one way of counting when each way takes equally many questions."""

    counting: Counting
    yields: float
    """Share of the questions that are taken; with `soft`, their mean weight."""
    precision: Estimate
    gain: Estimate | None
    """Over the plain vote at the same yield; None for itself."""


@dataclass(frozen=True, slots=True)
class Discrimination:
    """How well a number separates the right paths of a question from its wrong ones."""

    measure: str
    questions: int
    """Questions with paths of both kinds."""
    pairs: int
    auroc: Estimate | None
    """Chance that a right path has the larger number than a wrong one of the same question."""


@dataclass(frozen=True, slots=True)
class ScoreQuality:
    """How well a score of votes tells right winners from wrong ones, over all questions.

    The field names are keys of `calibration --json`.
    """

    score: str
    """`agreement`; `confidence`, the mean probability of a token in winning paths; `both`, their
    product."""
    n: int
    """Votes with a winner that is known to be right or wrong."""
    auroc: Estimate | None
    """Chance that a right winner has the larger score than a wrong one."""
    precision: Estimate | None
    """Share of right winners among the questions with the largest scores, as many as reach the
    threshold by agreement; None if none does."""


@dataclass(frozen=True, slots=True)
class CountingComparison:
    """Ways of counting on the stored paths of one run."""

    m: int
    questions: int
    """Questions with all m paths and their confidence; only these are compared."""
    threshold: str
    temperature: float
    rows: tuple[CountingRow, ...]
    known: int
    """Those of the questions whose answers are known."""
    discrimination: tuple[Discrimination, ...]
    """Empty without known answers."""
    precision: tuple[PrecisionRow, ...]
    """Empty without known answers."""


def whole_questions(conn: sqlite3.Connection, run: Run, m: int) -> list[WholeQuestion]:
    """The questions of a run with at least m paths whose confidence is stored."""
    of_split = questions.by_split(conn, run.split)
    ids = [question.id for question in of_split]
    answers = paths.answers_by_question(conn, run.id, ids)
    known = confidence.by_question(conn, run.id, ids)
    gold = {} if run.split is Split.POOL else gold_for(conn, run.split)
    whole = []
    for question in of_split:
        by_index, confidences = answers.get(question.id, {}), known.get(question.id, {})
        if not all(index in by_index and index in confidences for index in range(m)):
            continue
        kind = question.answer_type
        merged = majority.merge_equal(kind, [by_index[index] for index in range(m)])
        accepted = gold.get(question.id)
        correct = None
        if accepted is not None:
            given = {answer for answer in merged if answer is not None}
            correct = frozenset(
                answer for answer in given if any(equal(kind, answer, one) for one in accepted)
            )
        sure = tuple(confidences[index] for index in range(m))
        whole.append(WholeQuestion(tuple(merged), sure, correct))
    return whole


def label_of(
    question: WholeQuestion, counting: Counting, threshold: str, temperature: float
) -> Label:
    """What a way of counting chooses; `soft` keeps every question with an answer that leads."""
    m = len(question.answers)
    if counting is Counting.PLAIN:
        tally: Sequence[tuple[str, float]] = majority.tally(question.answers)
    else:
        weights = path_weights([score(each) for each in question.confidences], temperature)
        tally = weighted_tally(question.answers, weights)
    if not tally or (len(tally) > 1 and tally[0][1] == tally[1][1]):
        return Label(None, 0.0, kept=False)
    answer, top = tally[0]
    needed = "0" if counting is Counting.SOFT else threshold
    return Label(answer, top / m, kept=reaches_share(top, m, needed))


def compare_counting(
    whole: Sequence[WholeQuestion], threshold: str, temperature: float
) -> CountingComparison:
    """Compare the ways of counting.

    Args:
        whole: at least one question, all with the same m.
        threshold: of the plain and the weighted vote.
        temperature: of the weights.
    """
    labels = {
        counting: [label_of(question, counting, threshold, temperature) for question in whole]
        for counting in Counting
    }
    known = [question for question in whole if question.correct is not None]
    return CountingComparison(
        m=len(whole[0].answers),
        questions=len(whole),
        threshold=threshold,
        temperature=temperature,
        rows=tuple(_row(counting, of_way, labels) for counting, of_way in labels.items()),
        known=len(known),
        discrimination=tuple(_discriminations(known)),
        precision=tuple(_precisions(known, threshold, temperature)),
    )


def _row(
    counting: Counting, of_way: Sequence[Label], labels: dict[Counting, list[Label]]
) -> CountingRow:
    plain = labels[Counting.PLAIN]
    kept = Counter((label.kept, other.kept) for label, other in zip(of_way, plain, strict=True))
    return CountingRow(
        counting,
        kept=sum(label.kept for label in of_way),
        changed_winners=sum(
            label.answer != other.answer for label, other in zip(of_way, plain, strict=True)
        ),
        newly_kept=kept[True, False],
        no_longer_kept=kept[False, True],
    )


def _discriminations(known: Sequence[WholeQuestion]) -> list[Discrimination]:
    """Each measure, over the questions with right and wrong answers."""
    found = []
    for name, measure in MEASURES.items():
        won, pairs = [], []
        for question in known:
            right: list[float] = []
            wrong: list[float] = []
            for answer, each in zip(question.answers, question.confidences, strict=True):
                value = measure(each)
                if answer is not None and value is not None:
                    (right if answer in (question.correct or ()) else wrong).append(value)
            if right and wrong:
                won.append(discrimination.won_pairs(right, wrong))
                pairs.append(len(right) * len(wrong))
        if pairs:
            statistic = discrimination.within_questions(won, pairs)
            estimate = discrimination.bootstrap(statistic, len(pairs))
            found.append(Discrimination(name, len(pairs), sum(pairs), estimate))
    return found


def _precisions(
    known: Sequence[WholeQuestion], threshold: str, temperature: float
) -> list[PrecisionRow]:
    """Precision at the yield of the plain vote's threshold, at that of `soft`, and of all."""
    if not known:
        return []
    labels: dict[Counting, list[Label]] = {}
    right: dict[Counting, list[bool]] = {}
    for way in Counting:
        labels[way] = [label_of(question, way, threshold, temperature) for question in known]
        right[way] = [
            label.answer in (question.correct or ())
            for label, question in zip(labels[way], known, strict=True)
        ]
    kept = sum(label.kept for label in labels[Counting.PLAIN]) / len(known)
    weight = sum(label.share for label in labels[Counting.SOFT]) / len(known)

    def taking(way: Counting, share: float) -> Statistic:
        scores = [label.share for label in labels[way]]
        if way is Counting.SOFT:
            return discrimination.weighted_precision(scores, right[way])
        return discrimination.precision_at(scores, right[way], share)

    rows = []
    for share, ways in (
        (kept, (Counting.PLAIN, Counting.WEIGHTED)),
        (weight, tuple(Counting)),
        (1.0, (Counting.PLAIN, Counting.WEIGHTED)),
    ):
        if share <= 0:
            continue
        for way in ways:
            precision = discrimination.bootstrap(taking(way, share), len(known))
            gain = None
            if way is not Counting.PLAIN:
                difference = _difference(taking(way, share), taking(Counting.PLAIN, share))
                gain = discrimination.bootstrap(difference, len(known))
            if precision is not None:
                rows.append(PrecisionRow(way, share, precision, gain))
    return rows


def _difference(after: Statistic, before: Statistic) -> Statistic:
    return lambda counts: after(counts) - before(counts)


def score_qualities(
    conn: sqlite3.Connection, judged: Sequence[tuple[Vote, bool]], threshold: str
) -> tuple[ScoreQuality, ...]:
    """Compare agreement, confidence and both as scores of a vote.

    Args:
        conn: the project's store.
        judged: votes of one run, and whether the winner of each is right.
        threshold: decides how many questions are taken for the precision.

    Returns:
        Empty if no vote has a winner, or the confidence of a winning path is not known.
    """
    won = [(vote, right) for vote, right in judged if vote.winner is not None]
    if not won:
        return ()
    ids = [vote.question_id for vote, _ in won]
    run_id = won[0][0].run_id
    by_id = questions.by_ids(conn, ids)
    answers = paths.answers_by_question(conn, run_id, ids)
    known = confidence.by_question(conn, run_id, ids)
    means = []
    for vote, _ in won:
        id_ = vote.question_id
        by_index = answers.get(id_, {})
        counted = [by_index.get(index) for index in range(vote.drawn)]
        merged = majority.merge_equal(by_id[id_].answer_type, counted)
        winning = [index for index, answer in enumerate(merged) if answer == vote.winner]
        sure = [known[id_][index] for index in winning if index in known.get(id_, {})]
        if len(sure) < len(winning) or not sure:
            return ()
        means.append(mean_probability(sure))
    return compare_scores(
        [vote.agreement for vote, _ in won],
        means,
        [right for _, right in won],
        [reaches_share(vote.top, vote.m, threshold) for vote, _ in won],
    )


def mean_probability(sure: Sequence[PathConfidence]) -> float:
    """The mean probability of a token in these paths, at least one."""
    return math.fsum(math.exp(score(each)) for each in sure) / len(sure)


def compare_scores(
    agreements: Sequence[float],
    means: Sequence[float],
    right: Sequence[bool],
    kept: Sequence[bool],
) -> tuple[ScoreQuality, ...]:
    """Agreement, confidence and both as scores of winners.

    Args:
        agreements: of the votes, at least one.
        means: `mean_probability` of the winning paths.
        right: whether the winner is right.
        kept: whether the vote reaches the threshold.
    """
    n, share = len(right), sum(kept) / len(kept)
    scores = {
        "agreement": agreements,
        "confidence": means,
        "both": [agreement * mean for agreement, mean in zip(agreements, means, strict=True)],
    }
    return tuple(
        ScoreQuality(
            name,
            n,
            discrimination.bootstrap(discrimination.auroc(values, right), n),
            discrimination.bootstrap(discrimination.precision_at(values, right, share), n)
            if share
            else None,
        )
        for name, values in scores.items()
    )


def replay_counting(
    conn: sqlite3.Connection, project: Project, m: int | None
) -> list[tuple[Split, CountingComparison]]:
    """Compare the ways of counting on the pool's run, and on the newest vote of its model.

    Args:
        conn: may be read-only, and must be able to read known answers.
        project: its settings name the run, the threshold and the temperature.
        m: paths of a full vote over the pool; None takes the project's.

    Returns:
        Without the runs of which no question has all its paths and their confidence.
    """
    settings = project.settings
    pool_run = runs.pool_run(conn, project)
    if pool_run is None:
        return []
    compared = [(pool_run, m or settings.sample.m)]
    newest = evaluations.newest(conn).get((pool_run.model_id, Split.EVAL, Method.SC))
    if newest is not None:
        evaluated = paths.run_by_id(conn, newest.run_id)
        compared.append((evaluated, evaluated.m))
    results = []
    for run, count in compared:
        whole = whole_questions(conn, run, count)
        if whole:
            temperature = settings.curate.confidence_temperature
            comparison = compare_counting(whole, settings.sample.threshold, temperature)
            results.append((run.split, comparison))
    return results
