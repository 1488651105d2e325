"""Coverage and error rates of the audit over thousands of simulated pools.

Each test fails when the 99 % binomial band of its rate lies wholly on the bad side.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binomtest

from engine.statistics.confidence_sequence import (
    StratumAudit,
    certify,
    e_value,
    interval,
    next_stratum,
)
from tests.engine.statistics.simulations import RUNS, covers, keeps_under

POOLS = {
    "one stratum at 95 %": [(300, 15)],
    "three strata, the loose one worse": [(150, 2), (100, 5), (50, 9)],
    "a wrong half": [(60, 20), (60, 40)],
    "almost all right": [(200, 1), (100, 0)],
}
"""(questions, wrong questions) of each stratum."""

CONFIDENCE = Fraction(95, 100)


def shuffled(rng: np.random.Generator, strata: list[tuple[int, int]]) -> list[list[bool]]:
    """For each stratum, whether each question is wrong, in the order in which they are shown."""
    return [list(rng.permutation(size) < wrong) for size, wrong in strata]


def audits(orders: list[list[bool]], most: int):  # type: ignore[no-untyped-def]
    """The counts after each audit."""
    counts = [StratumAudit(len(order), 0, 0) for order in orders]
    for _ in range(most):
        place = next_stratum(counts)
        if place is None:
            return
        stratum = counts[place]
        counts[place] = StratumAudit(
            stratum.size, stratum.audited + 1, stratum.wrong + orders[place][stratum.audited]
        )
        yield list(counts)


@pytest.mark.parametrize("name", POOLS)
def test_the_interval_of_sixty_audits_covers_the_precision(name: str) -> None:
    strata = POOLS[name]
    truth = 1 - sum(wrong for _, wrong in strata) / sum(size for size, _ in strata)
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(RUNS):
        *_, counts = audits(shuffled(rng, strata), 60)
        low, high = interval(counts)
        hits += low - 1e-9 <= truth <= high + 1e-9
    print(f"{name}: covered {hits / RUNS:.4f} of {RUNS} at 60 audits")
    assert covers(hits, 0.95)


@pytest.mark.slow
@pytest.mark.parametrize("name", POOLS)
def test_the_interval_covers_the_precision_even_if_the_audit_stops_at_the_worst_time(
    name: str,
) -> None:
    strata = POOLS[name]
    truth = 1 - sum(wrong for _, wrong in strata) / sum(size for size, _ in strata)
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(RUNS):
        looks = (interval(counts) for counts in audits(shuffled(rng, strata), 120))
        hits += all(low - 1e-9 <= truth <= high + 1e-9 for low, high in looks)
    print(f"{name}: covered {hits / RUNS:.4f} of {RUNS} at each of 120 looks")
    assert covers(hits, 0.95)


@pytest.mark.slow
def test_repeated_looks_invalidate_a_fixed_interval_but_not_the_confidence_sequence() -> None:
    """A precision of exactly 0.95, tested for being higher, with up to 300 audits."""
    rng = np.random.default_rng(3)
    exact = {}  # by n: the most wrong questions that the one-sided exact test certifies
    for n in range(20, 301):
        exact[n] = max(
            (
                wrong
                for wrong in range(n + 1)
                if binomtest(wrong, n, 0.05, alternative="less").pvalue <= 0.05
            ),
            default=-1,
        )
    peeked = ours = 0
    size, bad = 2000, 101  # just under 0.95
    for _ in range(RUNS):
        order = rng.permutation(size) < bad
        wrong = np.cumsum(order[:300])
        peeked += any(wrong[n - 1] <= exact[n] for n in range(20, 301))
        ours += any(
            e_value([StratumAudit(size, n, int(wrong[n - 1]))], CONFIDENCE) >= 20
            for n in range(60, 301, 8)
            if wrong[n - 1] <= n * 0.05
        )
    print(f"certified falsely: peeking {peeked / RUNS:.4f}, sequence {ours / RUNS:.4f} of {RUNS}")
    assert peeked / RUNS > 0.10
    assert keeps_under(ours, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "strata",
    [
        [(100, 0), (200, 16)],  # the strict stratum is clean, the loose stratum just fails
        [(120, 3), (90, 7), (90, 30)],  # the second just fails, the third by far
        [(300, 16)],
    ],
)
def test_a_certified_threshold_rarely_has_less_than_the_target_precision(
    strata: list[tuple[int, int]],
) -> None:
    sizes, bad = np.cumsum(strata, axis=0).T
    misses = [bool(w > 0.05 * s) for s, w in zip(sizes, bad, strict=True)]
    rng = np.random.default_rng(4)
    violated = certified = 0
    for _ in range(RUNS):
        ever = set[int]()
        for number, counts in enumerate(audits(shuffled(rng, strata), 160)):
            if number % 4:
                continue
            evidence = [e_value(counts[: i + 1], CONFIDENCE) for i in range(len(strata))]
            for place in range(len(strata)):
                if evidence[place] < 20:
                    break
                ever.add(place)
        certified += bool(ever)
        violated += any(misses[place] for place in ever)
    print(f"{strata}: violated {violated / RUNS:.4f}, certified something {certified / RUNS:.4f}")
    assert keeps_under(violated, 0.05)


def test_the_simulated_rule_is_that_of_the_app() -> None:
    counts = [StratumAudit(400, 80, 0), StratumAudit(400, 80, 3)]
    certificates = certify([Fraction(9, 10), Fraction(6, 10)], counts, CONFIDENCE)
    assert [certificate.e_value for certificate in certificates] == [
        e_value(counts[:1], CONFIDENCE),
        e_value(counts, CONFIDENCE),
    ]
