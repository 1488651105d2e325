"""Bounds of what other thresholds would keep."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.voting import majority, threshold_curve
from engine.voting.majority import kept_needed
from store.enums import Decision, EarlyStop
from store.errors import BadInput
from store.votes import VoteGroup

M = 8
THRESHOLDS = ("0", "0.3", "0.5", "0.6", "7/8", "1")
answers = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=M, max_size=M)


def vote_group(given: list[str | None], rule: EarlyStop, threshold: str, cap: int = 3) -> VoteGroup:
    """The vote of these paths, as the store groups votes."""
    vote = majority.count_vote(
        given,
        run_id=1,
        question_id=1,
        m=M,
        rule=rule,
        threshold=threshold,
        cap=cap,
        epsilon=0.01,
        reader="number/1",
    )
    counts = [count for _, count in vote.tally] + [0, 0]
    return VoteGroup(vote.decision, counts[0], counts[1], vote.drawn, M, 1)


@given(answers, st.sampled_from(THRESHOLDS), st.sampled_from(THRESHOLDS))
def test_the_full_vote_is_between_the_bounds(full: list[str | None], own: str, other: str) -> None:
    stopped = vote_group(full, EarlyStop.EXACT, own)
    low, high = threshold_curve.kept_at([stopped], other)
    truth = vote_group(full, EarlyStop.OFF, other).decision is Decision.KEEP
    assert low <= truth <= high


@given(answers, st.sampled_from(THRESHOLDS))
def test_the_bounds_of_full_votes_are_equal(full: list[str | None], threshold: str) -> None:
    low, high = threshold_curve.kept_at([vote_group(full, EarlyStop.OFF, threshold)], threshold)
    assert low == high


@given(st.lists(answers, min_size=1, max_size=6), st.sampled_from(THRESHOLDS))
def test_the_curve_falls_and_marks_its_own_threshold(
    all_of_them: list[list[str | None]], own: str
) -> None:
    stopped = [vote_group(answers, EarlyStop.EXACT, own) for answers in all_of_them]
    curve = threshold_curve.curve(stopped, own)
    assert [entry.own for entry in curve].count(True) == 1
    (mine,) = [entry for entry in curve if entry.own]
    assert mine.low == mine.high == sum(group.decision is Decision.KEEP for group in stopped)
    for before, after in pairwise(curve):
        assert before.low >= after.low
        assert before.high >= after.high


@given(st.lists(answers, min_size=1, max_size=6), st.sampled_from(THRESHOLDS))
def test_every_decided_vote_is_in_exactly_one_bin(
    all_of_them: list[list[str | None]], own: str
) -> None:
    stopped = [vote_group(answers, EarlyStop.EXACT, own) for answers in all_of_them]
    bins = threshold_curve.histogram(stopped)
    assert sum(interval.exact + interval.at_least for interval in bins) == len(stopped)
    assert sum(interval.exact for interval in bins) == sum(group.drawn == M for group in stopped)
    for group in stopped:
        (place,) = {min(9, group.first * 10 // M)}
        assert bins[place].exact + bins[place].at_least > 0


def test_open_votes_are_left_out() -> None:
    waiting = VoteGroup(Decision.OPEN, 3, 1, 5, M, 10)
    assert threshold_curve.kept_at([waiting], "0") == (0, 0)
    assert (
        sum(interval.exact + interval.at_least for interval in threshold_curve.histogram([waiting]))
        == 0
    )
    assert threshold_curve.saved_share([waiting]) is None


def test_the_saved_share_is_relative_to_full_votes() -> None:
    half = VoteGroup(Decision.KEEP, 4, 0, 4, M, 3)
    full = VoteGroup(Decision.REJECT, 2, 2, M, M, 1)
    assert threshold_curve.saved_share([half, full]) == pytest.approx(1 - (3 * 4 + M) / (4 * M))


def test_an_invalid_threshold_is_refused() -> None:
    with pytest.raises(BadInput, match="give a share"):
        threshold_curve.kept_at([VoteGroup(Decision.KEEP, 4, 0, M, M, 1)], "much")


FEW = 5


def fewest(counts: Counter[str], drawn: int, rule: EarlyStop, threshold: str, cap: int) -> int:
    """By trying all possible answers of the missing paths."""
    needed = kept_needed(FEW, threshold)
    start = tuple(sorted(counts.items()))
    states = {start}
    for more in range(FEW - drawn + 1):
        for state in states:
            decision = majority._decide(
                Counter(dict(state)), drawn + more, FEW, needed, cap, rule, 0.01
            )
            if decision is not Decision.OPEN:
                return more
        states = {
            tuple(sorted((Counter(dict(state)) + Counter(answer)).items()))
            for state in states
            for answer in ({}, {"a": 1}, {"b": 1}, {f"new {more}": 1})
        }
    raise AssertionError("a full vote is always decided")


@given(
    st.lists(st.sampled_from(["a", "b", None]), max_size=FEW),
    st.sampled_from([EarlyStop.OFF, EarlyStop.EXACT]),
    st.sampled_from(THRESHOLDS),
    st.integers(0, 4),
)
def test_the_fewest_paths_are_those_of_the_best_possible_answers(
    given: list[str | None], rule: EarlyStop, threshold: str, cap: int
) -> None:
    counts = Counter(answer for answer in given if answer is not None)
    first, second, *_ = [*sorted(counts.values(), reverse=True), 0, 0]
    smallest = majority.fewest_paths(
        first, second, len(given), m=FEW, rule=rule, threshold=threshold, cap=cap
    )
    assert smallest == fewest(counts, len(given), rule, threshold, cap)
