"""Count votes, decide when a vote stands, and say what it is worth.

Everything here is arithmetic on answers in index order; `None` is a path that abstains. With n of
m paths drawn, r = m - n are missing, c1 ≥ c2 are the two largest counts, K paths are needed to be
kept and at most C are kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from fractions import Fraction
from functools import lru_cache

from engine.answers.extraction import merge_equal
from engine.project.settings import exact_share
from store.enums import AnswerType, Decision, EarlyStop
from store.records import Vote

WAVE = 4
"""Paths asked for at a time once a decision is possible: asking one by one saves little more."""

Answers = Sequence[str | None]


def tally(answers: Answers) -> tuple[tuple[str, int], ...]:
    """(answer, paths), most first, ties in order of first appearance; abstentions are left out."""
    return tuple(Counter(one for one in answers if one is not None).most_common())


@lru_cache(maxsize=1024)
def kept_needed(m: int, threshold: str) -> int:
    """K: paths that must agree for a question to be kept, at least 1.

    Exact: `ceil(0.28 * 25)` in floats is 8, and 7 of 25 paths are a share of 0.28.

    Raises:
        BadInput: the threshold is not a share in [0, 1].
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
) -> Vote:
    """The vote of one question.

    Paths after the first index at which the rule decides are not used, so that the vote does not
    depend on how many more happened to be drawn. Answers of the reader `math` that are equal but
    written differently count as the one seen first.

    Args:
        answers: of the paths 0, 1, 2, … as far as they are drawn; at most m.
        run_id: for the record.
        question_id: for the record.
        m: paths of a full vote; the denominator of the agreement.
        rule: when a vote may stand before all m are drawn.
        threshold: share that must agree, an exact decimal or fraction.
        cap: most kept paths per question; 0 is no cap, and then `KEEP` needs all m.
        epsilon: chance of another decision that `FAST` accepts at one look.
        reader: for the record.

    Returns:
        A vote whose decision is `OPEN` while more paths are needed. The winner of an early
        rejection is the leader at that point.
    """
    answers = answers[:m]
    if reader.startswith(f"{AnswerType.MATH}/"):
        answers = merge_equal(AnswerType.MATH, answers)
    needed = kept_needed(m, threshold)
    counts: Counter[str] = Counter()
    drawn, decision = 0, _decide(counts, 0, m, needed, cap, rule, epsilon)
    while decision is Decision.OPEN and drawn < len(answers):
        answer = answers[drawn]
        drawn += 1
        if answer is not None:
            counts[answer] += 1
        decision = _decide(counts, drawn, m, needed, cap, rule, epsilon)
    first, second = _leaders(counts)
    return Vote(
        run_id=run_id,
        question_id=question_id,
        m=m,
        drawn=drawn,
        tally=tuple(counts.most_common()),
        abstained=drawn - counts.total(),
        winner=max(counts, key=counts.__getitem__) if first > second else None,
        decision=decision,
        reader=reader,
    )


def _leaders(counts: Counter[str]) -> tuple[int, int]:
    """c1 and c2; 0 where there is no such answer."""
    first, second, *_ = [*sorted(counts.values(), reverse=True), 0, 0]
    return first, second


def _decide(  # noqa: PLR0911 - a return for each rule
    counts: Counter[str],
    drawn: int,
    m: int,
    needed: int,
    cap: int,
    rule: EarlyStop,
    epsilon: float,
) -> Decision:
    first, second = _leaders(counts)
    missing = m - drawn
    if missing == 0:
        return Decision.KEEP if first >= needed and first > second else Decision.REJECT
    if rule is EarlyStop.OFF:
        return Decision.OPEN
    if first + missing < needed:
        return Decision.REJECT
    # The kept paths are the first C of the winner, so C of them must be there; without a cap the
    # kept paths are known only when all are drawn.
    enough = 0 < cap <= first
    if enough and first >= needed and first > second + missing:
        return Decision.KEEP
    if rule is EarlyStop.FAST and drawn > 0:
        if _chance_of_keeping(counts, drawn, missing, needed) <= epsilon:
            return Decision.REJECT
        leads = enough and first > second
        if leads and _chance_of_losing(counts, drawn, missing, needed) <= epsilon:
            return Decision.KEEP
    return Decision.OPEN


def _chance_of_keeping(counts: Counter[str], drawn: int, missing: int, needed: int) -> float:
    """Bound on the chance that any answer, seen or not, still reaches K."""
    return sum(
        _tail(missing, count, drawn - count, needed - count)
        for count in [*counts.values(), 0]
        if count + missing >= needed
    )


def _chance_of_losing(counts: Counter[str], drawn: int, missing: int, needed: int) -> float:
    """Bound on the chance that the leader misses K, or is caught by an answer that reaches it.

    A rival counts by its duel with the leader, as if all missing paths went to the two (or all but
    one, since an odd lead is caught at odd lengths): fewer paths between them catch up less often.
    """
    ordered = sorted(counts.values(), reverse=True)
    first = ordered[0]
    # Missing K is the other side of reaching it: that many paths go elsewhere.
    chance = _tail(missing, drawn - first, first, missing - (needed - first) + 1)
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
    # What is possible never has chance 0, whatever the floats say.
    return min(1.0, max(chance, math.ulp(0.0)))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def paths_wanted(answers: Answers, *, m: int, rule: EarlyStop, threshold: str, cap: int) -> int:
    """How many more paths to ask for at once, from 0 to m - n.

    As many as are needed before any decision is possible; where fewer than a wave would do, a
    wave. `FAST` decides by chances and always asks for a wave.
    """
    missing = m - len(answers)
    if rule is EarlyStop.OFF:
        return missing
    if rule is EarlyStop.FAST:
        return min(missing, WAVE)
    needed = kept_needed(m, threshold)
    first, second = _leaders(Counter(one for one in answers if one is not None))
    soonest = missing
    if cap:
        # If all go to the leader: after s more, c1 + s > c2 + r - s.
        ahead = max(0, (second + missing - first) // 2 + 1)
        soonest = min(soonest, max(needed - first, cap - first, ahead))
    if needed > first:
        # If none goes to the leader: after s more, c1 + r - s < K.
        soonest = min(soonest, first + missing - needed + 1)
    return min(missing, max(soonest, WAVE))


def fewest_paths(
    first: int,
    second: int,
    drawn: int,
    *,
    m: int,
    rule: EarlyStop,
    threshold: str,
    cap: int,
    epsilon: float = 0.0,
) -> int:
    """The fewest more paths after which the vote of a question could stand; 0 when it does.

    Args:
        first: paths of the leading answer.
        second: paths of the next one.
        drawn: paths that were counted.
        m: paths of a full vote.
        rule: when a vote may stand before all m are drawn.
        threshold: share that must agree.
        cap: most kept paths; 0 is no cap.
        epsilon: chance of another decision that `FAST` accepts at one look.
    """
    needed = kept_needed(m, threshold)
    for more in range(max(0, m - drawn)):
        # All of them for the leader, or all of them without an answer: nothing is decided sooner.
        for gained in {0, more}:
            counts = Counter({"first": first + gained, "second": second})
            if _decide(counts, drawn + more, m, needed, cap, rule, epsilon) is not Decision.OPEN:
                return more
    return max(0, m - drawn)


def agreement(answers: Answers) -> float:
    """Share of the leading answer among all paths, abstentions included; 0 without paths."""
    return _leaders(Counter(one for one in answers if one is not None))[0] / max(1, len(answers))


def margin(answers: Answers) -> float:
    """Lead of the first answer over the second as a share of all paths, in [0, 1]."""
    first, second = _leaders(Counter(one for one in answers if one is not None))
    return (first - second) / max(1, len(answers))


def entropy(answers: Answers) -> float:
    """Entropy of the answers in bits, abstentions left out; 0 when all agree or none answers."""
    counts = [count for _, count in tally(answers)]
    total = sum(counts)
    return math.fsum(count / total * math.log2(total / count) for count in counts)


def majority_at(answers: Answers, right: Collection[str]) -> tuple[Fraction, ...]:
    """Exact expected accuracy of a majority of k paths, for every k from 1 to n.

    The k paths are drawn without replacement from the n stored ones; a vote is right when one
    answer of `right` leads alone, so a tie counts as wrong. Ways are counted exactly: for an
    answer drawn x times, the other answers are drawn fewer than x times each, and the product of
    their polynomials in z has the number of such draws as its coefficients.

    Args:
        answers: of one question; `None` abstains and can be drawn too.
        right: the answers that are right; answers that are not among `answers` do not matter.

    Returns:
        Entry k - 1 is the accuracy at k, as an exact fraction.
    """
    n = len(answers)
    counts = Counter(one for one in answers if one is not None)
    abstained = [math.comb(n - counts.total(), j) for j in range(n - counts.total() + 1)]
    ways = [0] * (n + 1)
    for answer in counts.keys() & set(right):
        others = [count for other, count in counts.items() if other != answer]
        for times in range(1, counts[answer] + 1):
            rest = abstained
            for count in others:
                fewer = [math.comb(count, j) for j in range(min(count, times - 1) + 1)]
                rest = _product(rest, fewer)
            for size, found in enumerate(rest):
                ways[times + size] += math.comb(counts[answer], times) * found
    return tuple(Fraction(ways[k], math.comb(n, k)) for k in range(1, n + 1))


def _product(left: Sequence[int], right: Sequence[int]) -> list[int]:
    """Coefficients of the product of two polynomials."""
    result = [0] * (len(left) + len(right) - 1)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            result[i + j] += a * b
    return result
