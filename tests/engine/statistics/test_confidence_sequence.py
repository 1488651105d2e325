"""Label precision, its confidence sequence, and certified thresholds."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.statistics.confidence_sequence import (
    StratumAudit,
    _log_likelihood,
    certify,
    e_value,
    estimate,
    interval,
    log_bet,
    log_max_likelihood,
    next_stratum,
)

P95 = Fraction(95, 100)


@st.composite
def counted(draw: st.DrawFn, strata: int = 3, size: int = 40) -> list[StratumAudit]:
    counts = []
    for _ in range(draw(st.integers(1, strata))):
        whole = draw(st.integers(1, size))
        audited = draw(st.integers(0, whole))
        counts.append(StratumAudit(whole, audited, draw(st.integers(0, audited))))
    return counts


@settings(max_examples=60)
@given(counted())
def test_the_interval_contains_the_estimate_and_possible_precisions(
    counts: list[StratumAudit],
) -> None:
    size = sum(stratum.size for stratum in counts)
    result = estimate(counts)
    assert 0 <= result.low <= result.high <= 1
    assert result.low >= sum(stratum.audited - stratum.wrong for stratum in counts) / size - 1e-9
    assert result.high <= 1 - sum(stratum.wrong for stratum in counts) / size + 1e-9
    if result.estimate is not None:
        assert result.low - 1e-9 <= result.estimate <= result.high + 1e-9


@settings(max_examples=60)
@given(counted(strata=3, size=7))
def test_the_maximum_likelihood_is_that_of_the_best_division(counts: list[StratumAudit]) -> None:
    fewest, values = log_max_likelihood(counts)
    best: dict[int, float] = {}
    possible = [
        range(stratum.wrong, stratum.size - (stratum.audited - stratum.wrong) + 1)
        for stratum in counts
    ]
    for division in itertools.product(*possible):
        value = sum(
            _log_likelihood(stratum, wrong) for stratum, wrong in zip(counts, division, strict=True)
        )
        best[sum(division)] = max(best.get(sum(division), -math.inf), value)
    assert len(values) == len(best)
    for place, value in enumerate(values):
        assert value == pytest.approx(best[fewest + place], abs=1e-9)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=1, max_size=3).map(
        lambda pairs: [(size, min(wrong, size)) for size, wrong in pairs]
    ),
    st.integers(0, 8),
)
def test_the_expected_evidence_against_the_true_precision_is_at_most_one(
    strata: list[tuple[int, int]], looks: int
) -> None:
    """Exactly, over all orders of the questions, after any number of audits."""
    truth = sum(wrong for _, wrong in strata)
    size = sum(whole for whole, _ in strata)
    target = 1 - Fraction(truth - 1, size) if truth else Fraction(2)

    def expected(counts: list[StratumAudit], left: int) -> float:
        place = next_stratum(counts)
        if left == 0 or place is None:
            fewest, values = log_max_likelihood(counts)
            return math.exp(log_bet(counts) - values[truth - fewest])
        stratum, (whole, wrong) = counts[place], strata[place]
        chance = (wrong - stratum.wrong) / (whole - stratum.audited)
        total = 0.0
        for bad, weight in ((1, chance), (0, 1 - chance)):
            if weight > 0:
                after = StratumAudit(whole, stratum.audited + 1, stratum.wrong + bad)
                total += weight * expected([*counts[:place], after, *counts[place + 1 :]], left - 1)
        return total

    start = [StratumAudit(whole, 0, 0) for whole, _ in strata]
    assert expected(start, looks) <= 1 + 1e-9
    if truth:
        # The evidence that a precision was reached is the least over all that miss it.
        assert e_value(start, target) <= 1 + 1e-9


def test_an_audit_of_every_question_leaves_no_uncertainty() -> None:
    assert interval([StratumAudit(40, 40, 2), StratumAudit(10, 10, 0)]) == pytest.approx(
        (0.96, 0.96)
    )
    assert e_value([StratumAudit(40, 40, 2)], P95) == math.inf
    assert (
        e_value([StratumAudit(40, 40, 3)], P95) == 0.0
        or e_value([StratumAudit(40, 40, 3)], P95) < 1
    )


def test_without_audits_the_interval_is_uninformative() -> None:
    result = estimate([StratumAudit(100, 0, 0)])
    assert (result.estimate, result.low, result.high) == (None, 0.0, 1.0)
    assert result.expected_wrong is None


@pytest.mark.parametrize(
    ("counts", "enough"),
    [
        ([StratumAudit(56, 0, 0)], False),
        ([StratumAudit(56, 1, 1)], False),
        ([StratumAudit(50, 5, 0), StratumAudit(6, 4, 0)], False),
        ([StratumAudit(50, 6, 0), StratumAudit(6, 4, 0)], True),
        ([StratumAudit(4, 3, 0)], False),
        ([StratumAudit(4, 4, 0)], True),
    ],
)
def test_an_estimate_needs_ten_audits_or_all_of_them(
    counts: list[StratumAudit], enough: bool
) -> None:
    assert estimate(counts).has_enough_audits is enough


def test_strata_are_weighted_by_their_size() -> None:
    result = estimate([StratumAudit(900, 10, 0), StratumAudit(100, 10, 5)])
    assert result.estimate == pytest.approx(0.95)
    assert result.expected_wrong is not None
    assert result.expected_wrong[0] == pytest.approx(50)
    assert result.expected_left is not None
    assert result.expected_left[0] == pytest.approx(45)


def test_a_skipped_question_widens_the_interval_on_both_sides() -> None:
    clean, open_ = interval([StratumAudit(200, 60, 0)]), interval([StratumAudit(200, 55, 0, 5)])
    assert open_[0] < clean[0]
    assert open_[1] == clean[1] == 1.0
    assert e_value([StratumAudit(200, 55, 0, 5)], P95) < e_value([StratumAudit(200, 60, 0)], P95)


def test_impossible_counts_are_refused() -> None:
    for broken in [(5, 6, 0), (5, 3, 4), (5, 3, -1)]:
        with pytest.raises(ValueError, match="invalid"):
            StratumAudit(*broken)
    with pytest.raises(ValueError, match="at least one"):
        interval([])


# Certified thresholds.


def test_a_threshold_is_certified_only_after_every_stricter_one() -> None:
    levels = [Fraction(9, 10), Fraction(6, 10)]
    strict_open = certify(levels, [StratumAudit(400, 10, 0), StratumAudit(4000, 300, 0)], P95)
    assert [certificate.certified for certificate in strict_open] == [False, False]
    assert strict_open[1].e_value >= 20
    both = certify(levels, [StratumAudit(400, 80, 0), StratumAudit(4000, 300, 0)], P95)
    assert [certificate.certified for certificate in both] == [True, True]


@settings(max_examples=30)
@given(st.integers(30, 400), st.integers(30, 400), st.integers(0, 30))
def test_the_number_of_correct_audits_needed_is_minimal(
    strict: int, loose: int, audited: int
) -> None:
    counts = [StratumAudit(strict, audited, 0), StratumAudit(loose, audited, 0)]
    for number, certificate in enumerate(
        certify([Fraction(9, 10), Fraction(1, 2)], counts, P95), 1
    ):
        if certificate.clean_needed is None:
            assert certificate.e_value >= 20
            continue
        now = list(counts)
        for step in range(certificate.clean_needed):
            if step == certificate.clean_needed - 1:
                assert e_value(now[:number], P95) < 20
            place = next_stratum(now)
            assert place is not None
            now[place] = replace(now[place], audited=now[place].audited + 1)
        assert e_value(now[:number], P95) >= 20


def test_no_number_of_correct_audits_compensates_too_many_wrong_ones() -> None:
    (certificate,) = certify([Fraction(1, 2)], [StratumAudit(100, 40, 6)], P95)
    assert (certificate.certified, certificate.clean_needed) == (False, None)


def test_how_many_correct_audits_certify_a_threshold() -> None:
    # With n fixed before, 59 clean audits would do (0.95^59 < 0.05); peeking costs sixteen more.
    assert (
        e_value([StratumAudit(1000, 74, 0)], P95) < 20 <= e_value([StratumAudit(1000, 75, 0)], P95)
    )
