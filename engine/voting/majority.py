"""Count votes, decide when a vote is final, and compute statistics of the answers.

Everything here is arithmetic on answers in index order; `None` is a path that abstains. With n of
m paths sampled, r = m - n are missing, c1 ≥ c2 are the two largest counts, K votes are required to
keep a question, and at most C of its paths are kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

from engine.answers.extraction import equal
from engine.answers.forms.spans import same_span
from engine.project.setting_values import exact_share
from store.enums import AnswerType, Decision, EarlyStop
from store.records import Vote

WAVE = 4
"""Paths in flight at a time once a decision is possible; one at a time would save little more."""

Answers = Sequence[str | None]


def merge_equal(answer_type: AnswerType, answers: Answers) -> list[str | None]:
    """Replace each answer by the first equal answer; abstentions stay.

    Only `MATH` and `SPAN` have answers that are equal but written differently; those of other types
    are returned unchanged. Spans are equal in the sense of `same_span`, which is safe to chain. May
    take seconds for `MATH`.
    """
    if answer_type is AnswerType.SPAN:
        first_span: dict[tuple[str, ...], str] = {}
        return [
            None if answer is None else first_span.setdefault(same_span(answer), answer)
            for answer in answers
        ]
    if answer_type is not AnswerType.MATH:
        return list(answers)
    first_form: dict[str, str] = {}
    for answer in answers:
        if answer is not None and answer not in first_form:
            forms = dict.fromkeys(first_form.values())
            first_form[answer] = next(
                (form for form in forms if equal(answer_type, form, answer)), answer
            )
    return [None if answer is None else first_form[answer] for answer in answers]


def tally(answers: Answers) -> tuple[tuple[str, int], ...]:
    """(answer, paths), most frequent first, ties in order of first appearance; no abstentions."""
    return tuple(_counts(answers).most_common())


def _counts(answers: Answers) -> Counter[str]:
    return Counter(answer for answer in answers if answer is not None)


@lru_cache(maxsize=1024)
def kept_needed(m: int, threshold: str) -> int:
    """K: votes that the leading answer needs for its question to be kept, ⌈threshold·m⌉ ≥ 1.

    Computed exactly: `ceil(0.28 * 25)` in floats is 8, although 7 of 25 paths are a share of 0.28.

    Raises:
        BadInput: the threshold is not in [0, 1].
    """
    return max(1, math.ceil(exact_share(threshold) * m))


def count_vote(
    answers: Answers,
    *,
    run_id: int,
    question_id: int,
    m: int,
    rule: EarlyStop,
    threshold: str,
    cap: int,
    epsilon: float,
    reader: str,
    undecided: int = 0,
) -> Vote:
    """Count the vote of one question.

    Paths after the first index at which the rule decides are ignored, so that the vote does not
    depend on how many more paths happen to be stored. Equal answers are merged (`merge_equal`).

    Args:
        answers: of the paths 0, 1, 2, … without a gap; those after the first m are ignored.
        run_id: stored with the vote.
        question_id: stored with the vote.
        m: paths of a full vote; the denominator of the agreement.
        rule: when a vote may be decided before all m paths are sampled.
        threshold: share that must agree, an exact decimal or fraction.
        cap: maximum number of kept paths; 0 is no cap, and then `KEEP` needs all m paths.
        epsilon: probability of a different decision that `FAST` accepts at one look.
        reader: name and version, stored with the vote; "" if the caller has merged equal answers.
        undecided: number of first paths after which, as the caller knows, the vote is still open.

    Returns:
        A vote whose decision is `OPEN` while more paths are needed. The winner of an early
        rejection is the leader at that point.
    """
    answers = answers[:m]
    if reader:
        answers = merge_equal(AnswerType(reader.partition("/")[0]), answers)
    needed = kept_needed(m, threshold)
    counts = _counts(answers[:undecided])
    sampled = len(answers[:undecided])
    decision = Decision.OPEN if sampled else _decide(counts, 0, m, needed, cap, rule, epsilon)
    while decision is Decision.OPEN and sampled < len(answers):
        answer = answers[sampled]
        sampled += 1
        if answer is not None:
            counts[answer] += 1
        decision = _decide(counts, sampled, m, needed, cap, rule, epsilon)
    first, second = _leaders(counts)
    return Vote(
        run_id=run_id,
        question_id=question_id,
        m=m,
        drawn=sampled,
        tally=tuple(counts.most_common()),
        abstained=sampled - counts.total(),
        winner=max(counts, key=counts.__getitem__) if first > second else None,
        decision=decision,
        reader=reader,
    )


def full_vote(answers: Answers, m: int, threshold: str) -> Vote:
    """The vote of all m paths, without early stop or cap; for statistics, not to be stored.

    Args:
        answers: see `count_vote`; the caller has merged equal ones.
        m: paths of the vote.
        threshold: share that must agree.
    """
    return count_vote(
        answers,
        run_id=0,
        question_id=0,
        m=m,
        rule=EarlyStop.OFF,
        threshold=threshold,
        cap=0,
        epsilon=0.0,
        reader="",
    )


def _leaders(counts: Counter[str]) -> tuple[int, int]:
    """c1 and c2; 0 for a missing answer."""
    first, second, *_ = [*sorted(counts.values(), reverse=True), 0, 0]
    return first, second


def _decide(  # noqa: PLR0911 - a return for each rule
    counts: Counter[str],
    sampled: int,
    m: int,
    needed: int,
    cap: int,
    rule: EarlyStop,
    epsilon: float,
) -> Decision:
    first, second = _leaders(counts)
    missing = m - sampled
    if missing == 0:
        return Decision.KEEP if first >= needed and first > second else Decision.REJECT
    if rule is EarlyStop.OFF:
        return Decision.OPEN
    if first + missing < needed:
        return Decision.REJECT
    # The kept paths are the winner's first C, so C of them must exist; without a cap they are
    # known only after all m paths are sampled.
    enough = 0 < cap <= first
    if enough and first >= needed and first > second + missing:
        return Decision.KEEP
    if rule is EarlyStop.FAST and sampled > 0:
        if _chance_of_keeping(counts, sampled, missing, needed) <= epsilon:
            return Decision.REJECT
        leads = enough and first > second
        if leads and _chance_of_losing(counts, sampled, missing, needed) <= epsilon:
            return Decision.KEEP
    return Decision.OPEN


def _chance_of_keeping(counts: Counter[str], sampled: int, missing: int, needed: int) -> float:
    """Upper bound of the probability that any answer, seen or unseen, still reaches K."""
    return sum(
        _tail(missing, count, sampled - count, needed - count)
        for count in [*counts.values(), 0]
        if count + missing >= needed
    )


def _chance_of_losing(counts: Counter[str], sampled: int, missing: int, needed: int) -> float:
    """Upper bound of the probability that the leader misses K or is caught by a rival that reaches
    K.

    A rival is bounded by its duel with the leader, as if all missing paths went to the two of them
    (or all but one, since an odd lead is caught at odd lengths): fewer paths catch up less often.
    """
    ordered = sorted(counts.values(), reverse=True)
    first = ordered[0]
    # The leader misses K if more than missing - (K - c1) of the missing paths go elsewhere.
    chance = _tail(missing, sampled - first, first, missing - (needed - first) + 1)
    for count in [*ordered[1:], 0]:
        lead = first - count
        if lead <= missing and count + missing >= needed:
            chance += max(
                _tail(length, count, first, (length + lead + 1) // 2)
                for length in (missing, missing - 1)
            )
    return chance


def _tail(draws: int, successes: int, failures: int, least: int) -> float:
    """P(X ≥ least) for the Beta-binomial X of `draws` more draws under a uniform prior."""
    if least <= 0:
        return 1.0
    if least > draws:
        return 0.0
    a, b = successes + 1, failures + 1
    log_choose = math.lgamma(draws + 1) - _log_beta(a, b)
    chance = math.fsum(
        math.exp(
            log_choose
            - math.lgamma(x + 1)
            - math.lgamma(draws - x + 1)
            + _log_beta(a + x, b + draws - x)
        )
        for x in range(least, draws + 1)
    )
    # A possible event never has probability 0, even if the floats underflow.
    return min(1.0, max(chance, math.ulp(0.0)))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def paths_to_request(
    first: int,
    second: int,
    sampled: int,
    *,
    in_flight: int = 0,
    m: int,
    rule: EarlyStop,
    threshold: str,
    cap: int,
) -> int:
    """How many more paths to request for an open vote, from 0 to m - n - in_flight.

    `EXACT` needs all of these: whatever the paths in flight answer, no decision is possible before.
    Once one is possible, a wave is kept in flight. `FAST` decides by probabilities and always keeps
    a wave in flight.

    Args:
        first: votes of the leading answer among the finished paths, whatever their indices.
        second: votes of the next answer.
        sampled: finished paths, n.
        in_flight: paths that were requested and are not finished.
        m: paths of a full vote.
        rule: when a vote may be decided before all m paths are sampled.
        threshold: share that must agree.
        cap: maximum number of kept paths; 0 is no cap.
    """
    missing = m - sampled - in_flight
    if rule is EarlyStop.OFF:
        return missing
    wanted = WAVE - in_flight
    if rule is EarlyStop.EXACT:
        needed = kept_needed(m, threshold)
        soonest = missing
        if cap:
            # If all go to the leader: after s more, c1 + s > c2 + r - s.
            most = first + in_flight
            ahead = (second + missing - most) // 2 + 1
            soonest = min(soonest, max(needed - most, cap - most, ahead))
        if needed > first:
            # If none goes to the leader: after s more, c1 + r - s < K.
            soonest = min(soonest, first + missing - needed + 1)
        wanted = max(wanted, soonest)
    return max(0, min(missing, wanted))


def paths_needed(
    answers: Mapping[int, str | None],
    requested: int,
    *,
    m: int,
    rule: EarlyStop,
    threshold: str,
    cap: int,
) -> int:
    """How many paths, from index 0 on, an open vote has to request by now (`paths_to_request`).

    Args:
        answers: of the finished paths, by index; equal ones merged, `None` abstains. They may have
            gaps, and those at or after `requested` may be stored already.
        requested: number of first paths that are finished or in flight.
        m: paths of a full vote.
        rule: when a vote may be decided before all m paths are sampled.
        threshold: share that must agree.
        cap: maximum number of kept paths; 0 is no cap.
    """
    while True:
        finished = [answers[index] for index in range(requested) if index in answers]
        first, second = _leaders(_counts(finished))
        more = paths_to_request(
            first,
            second,
            len(finished),
            in_flight=requested - len(finished),
            m=m,
            rule=rule,
            threshold=threshold,
            cap=cap,
        )
        if not more:
            return requested
        requested += more


def fewest_paths(
    first: int,
    second: int,
    sampled: int,
    *,
    m: int,
    rule: EarlyStop,
    threshold: str,
    cap: int,
    epsilon: float = 0.0,
) -> int:
    """The smallest number of further paths after which a vote can be decided; 0 if it is decided.

    Args:
        first: votes of the leading answer.
        second: votes of the next answer.
        sampled: paths that were counted.
        m: paths of a full vote.
        rule: when a vote may be decided before all m paths are sampled.
        threshold: share that must agree.
        cap: maximum number of kept paths; 0 is no cap.
        epsilon: probability of a different decision that `FAST` accepts at one look.
    """
    needed = kept_needed(m, threshold)
    for more in range(max(0, m - sampled)):
        # All of them for the leader, or all abstaining: nothing can be decided sooner.
        for gained in {0, more}:
            counts = Counter({"first": first + gained, "second": second})
            if _decide(counts, sampled + more, m, needed, cap, rule, epsilon) is not Decision.OPEN:
                return more
    return max(0, m - sampled)


def agreement(answers: Answers) -> float:
    """Share of the leading answer among all paths, abstentions included; 0 without paths."""
    return _leaders(_counts(answers))[0] / max(1, len(answers))


def reaches_threshold(vote: Vote, top: int, second: int, threshold: str) -> bool:
    """Whether the leading answer is kept at a threshold.

    It is kept if it has at least `kept_needed` votes and no other answer can catch up. If the vote
    stopped before that was certain (early stop `fast`, or a different threshold since), the vote's
    own decision counts, unless the share so far is below the threshold.

    Args:
        vote: what was counted.
        top: votes of the leading answer; more than `vote.top` if a reviewer merged answers.
        second: votes of the next answer.
        threshold: exact decimal or fraction in [0, 1].
    """
    needed = kept_needed(vote.m, threshold)
    missing = vote.m - vote.drawn
    if top >= needed and top > second + missing:
        return True
    settled = missing == 0 or top + missing < needed
    return not settled and vote.decision is Decision.KEEP and top * vote.m >= needed * vote.drawn


def entropy(answers: Answers) -> float:
    """Entropy of the answers in bits, without abstentions; 0 if all agree or all abstain."""
    counts = [count for _, count in tally(answers)]
    total = sum(counts)
    return math.fsum(count / total * math.log2(total / count) for count in counts)


def majority_at(answers: Answers, correct: Collection[str]) -> tuple[Fraction, ...]:
    """Exact expected accuracy of a majority of k paths, for every k from 1 to n.

    The k paths are drawn without replacement from the n stored paths. A vote is correct if an
    answer in `correct` leads alone, so a tie counts as wrong. Subsets are counted exactly: if an
    answer is drawn x times, the other answers are drawn fewer than x times each, and the
    coefficients of the product of their polynomials in z are the numbers of such subsets.

    Args:
        answers: of one question; `None` abstains and can be drawn, too.
        correct: the correct answers; those that are not among `answers` do not matter.

    Returns:
        Entry k - 1 is the accuracy at k, as an exact fraction.
    """
    n = len(answers)
    counts = _counts(answers)
    abstained = [math.comb(n - counts.total(), j) for j in range(n - counts.total() + 1)]
    ways = [0] * (n + 1)
    for answer in counts.keys() & set(correct):
        others = [count for other, count in counts.items() if other != answer]
        for times in range(1, counts[answer] + 1):
            rest = abstained
            for count in others:
                fewer = [math.comb(count, j) for j in range(min(count, times - 1) + 1)]
                rest = _product(rest, fewer)
            for size, subsets in enumerate(rest):
                ways[times + size] += math.comb(counts[answer], times) * subsets
    return tuple(Fraction(ways[k], math.comb(n, k)) for k in range(1, n + 1))


def _product(left: Sequence[int], right: Sequence[int]) -> list[int]:
    """Coefficients of the product of two polynomials."""
    result = [0] * (len(left) + len(right) - 1)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            result[i + j] += a * b
    return result
