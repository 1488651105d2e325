from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.voting import majority
from store.enums import AnswerType, Decision, EarlyStop
from store.errors import BadInput

if TYPE_CHECKING:
    from store.records import Vote

ANSWERS = st.sampled_from(["a", "b", "c", None])
THRESHOLDS = st.sampled_from(["0", "0.28", "1/3", "0.5", "0.6", "0.75", "1"])


def vote(
    answers: list[str | None],
    *,
    m: int | None = None,
    rule: EarlyStop = EarlyStop.OFF,
    threshold: str = "0.5",
    cap: int = 0,
    epsilon: float = 0.0,
    undecided: int = 0,
) -> Vote:
    return majority.count_vote(
        answers,
        run_id=1,
        question_id=2,
        m=len(answers) if m is None else m,
        rule=rule,
        threshold=threshold,
        cap=cap,
        epsilon=epsilon,
        reader="number/1",
        undecided=undecided,
    )


def kept(answers: list[str | None], counted: Vote, cap: int) -> list[int] | None:
    """Indices of the paths that would be trained on, among those that were counted."""
    if counted.decision is not Decision.KEEP:
        return None
    agreeing = [i for i, answer in enumerate(answers[: counted.drawn]) if answer == counted.winner]
    return agreeing[:cap] if cap else agreeing


def test_the_tally_counts_most_first_and_breaks_ties_by_first_appearance() -> None:
    assert majority.tally(["b", None, "a", "c", "a", "c"]) == (("a", 2), ("c", 2), ("b", 1))


def test_a_tie_has_no_winner() -> None:
    counted = vote(["a", "b", "b", "a"], threshold="0")
    assert counted.winner is None
    assert counted.decision is Decision.REJECT


def test_abstentions_count_in_the_denominator() -> None:
    counted = vote(["a", None, None, "a"], threshold="0.6")
    assert counted.decision is Decision.REJECT
    assert (counted.abstained, counted.agreement) == (2, 0.5)


def test_the_threshold_zero_keeps_every_plurality() -> None:
    counted = vote([None, "a", None, None], threshold="0")
    assert (counted.decision, counted.winner) == (Decision.KEEP, "a")
    assert vote([None, None], threshold="0").decision is Decision.REJECT


def test_shares_are_compared_exactly() -> None:
    assert math.ceil(0.28 * 25) == 8
    assert majority.kept_needed(25, "0.28") == 7
    assert majority.kept_needed(3, "1/3") == 1
    assert majority.kept_needed(32, "0") == 1


def test_an_invalid_threshold_is_refused() -> None:
    with pytest.raises(BadInput, match="threshold"):
        majority.kept_needed(32, "1.5")


def test_a_vote_without_early_stop_is_open_until_all_paths_are_sampled() -> None:
    assert vote(["a"] * 9, m=10).decision is Decision.OPEN
    assert vote(["a"] * 10, m=10).decision is Decision.KEEP


def test_exact_rejects_as_soon_as_no_answer_can_reach_the_threshold() -> None:
    counted = vote([None] * 10, m=10, rule=EarlyStop.EXACT, threshold="0.6", cap=2)
    assert (counted.decision, counted.drawn) == (Decision.REJECT, 5)


def test_exact_keeps_as_soon_as_the_winner_and_its_kept_paths_are_certain() -> None:
    counted = vote(["a"] * 10, m=10, rule=EarlyStop.EXACT, threshold="0.6", cap=2)
    assert (counted.decision, counted.drawn) == (Decision.KEEP, 6)
    capped = vote(["a"] * 10, m=10, rule=EarlyStop.EXACT, threshold="0.6", cap=8)
    assert capped.drawn == 8


def test_without_a_cap_the_kept_paths_need_every_path() -> None:
    assert vote(["a"] * 10, m=10, rule=EarlyStop.EXACT).drawn == 10


@given(st.lists(ANSWERS, min_size=1, max_size=24), THRESHOLDS, st.integers(0, 10))
def test_exact_has_the_decision_the_label_and_the_kept_paths_of_the_full_vote(
    answers: list[str | None], threshold: str, cap: int
) -> None:
    full = vote(answers, threshold=threshold, cap=cap)
    early = vote(answers, rule=EarlyStop.EXACT, threshold=threshold, cap=cap)
    assert early.decision is full.decision
    assert kept(answers, early, cap) == kept(answers, full, cap)
    if full.decision is Decision.KEEP:
        assert early.winner == full.winner


@settings(max_examples=60)
@given(st.lists(ANSWERS, max_size=6), st.integers(1, 4), THRESHOLDS, st.integers(1, 4))
def test_exact_is_open_only_while_the_outcome_can_differ(
    answers: list[str | None], missing: int, threshold: str, cap: int
) -> None:
    m = len(answers) + missing
    now = vote(answers, m=m, rule=EarlyStop.EXACT, threshold=threshold, cap=cap)
    endings = set()
    for number in range(5**missing):
        # Each missing path has a seen answer, a new answer or an abstention.
        rest = [("a", "b", "c", "new", None)[number // 5**place % 5] for place in range(missing)]
        full = vote([*answers, *rest], threshold=threshold, cap=cap)
        paths = kept([*answers, *rest], full, cap)
        endings.add((full.decision, full.winner if paths else None, tuple(paths or ())))
    assert (now.decision is Decision.OPEN) == (len(endings) > 1)


@given(st.lists(ANSWERS, min_size=1, max_size=20), THRESHOLDS, st.integers(0, 8), st.randoms())
def test_the_order_in_which_paths_finish_does_not_matter(
    answers: list[str | None], threshold: str, cap: int, rng: random.Random
) -> None:
    finished: dict[int, str | None] = {}
    order = list(range(len(answers)))
    rng.shuffle(order)
    settled: Vote | None = None
    for index in order:
        finished[index] = answers[index]
        in_order: list[str | None] = []
        while len(in_order) in finished:
            in_order.append(finished[len(in_order)])
        counted = vote(in_order, m=len(answers), rule=EarlyStop.EXACT, threshold=threshold, cap=cap)
        if counted.decision is not Decision.OPEN:
            settled = settled or counted
            assert counted == settled
    assert settled == vote(answers, rule=EarlyStop.EXACT, threshold=threshold, cap=cap)


@given(st.lists(ANSWERS, min_size=1, max_size=24), THRESHOLDS, st.integers(0, 10))
def test_fast_with_a_vanishing_epsilon_is_exact(
    answers: list[str | None], threshold: str, cap: int
) -> None:
    exact = vote(answers, rule=EarlyStop.EXACT, threshold=threshold, cap=cap)
    fast = vote(answers, rule=EarlyStop.FAST, threshold=threshold, cap=cap, epsilon=1e-40)
    assert fast == exact


@given(st.lists(ANSWERS, min_size=1, max_size=24), THRESHOLDS, st.integers(0, 10))
def test_fast_never_needs_more_paths_than_exact(
    answers: list[str | None], threshold: str, cap: int
) -> None:
    exact = vote(answers, rule=EarlyStop.EXACT, threshold=threshold, cap=cap)
    fast = vote(answers, rule=EarlyStop.FAST, threshold=threshold, cap=cap, epsilon=0.05)
    assert fast.drawn <= exact.drawn


@pytest.mark.parametrize("threshold", ["0", "0.5", "0.75", "0.9"])
def test_fast_saves_paths_and_changes_few_decisions(threshold: str) -> None:
    rng = random.Random(7)
    changed = fast_drawn = exact_drawn = 0
    questions = 600
    for _ in range(questions):
        share = rng.betavariate(2, 1)
        answers: list[str | None] = [
            "a" if rng.random() < share else rng.choice("bcdef") for _ in range(32)
        ]
        full = vote(answers, threshold=threshold, cap=8)
        fast = vote(answers, rule=EarlyStop.FAST, threshold=threshold, cap=8, epsilon=0.01)
        exact = vote(answers, rule=EarlyStop.EXACT, threshold=threshold, cap=8)
        fast_drawn, exact_drawn = fast_drawn + fast.drawn, exact_drawn + exact.drawn
        same_label = full.decision is Decision.REJECT or full.winner == fast.winner
        changed += not (full.decision is fast.decision and same_label)
    assert fast_drawn < exact_drawn < questions * 32
    assert changed <= 0.02 * questions


def test_the_probability_of_more_successes_is_the_beta_binomial_tail() -> None:
    # Under a uniform prior and no draws every number of successes is as likely.
    assert majority._tail(4, 0, 0, 3) == pytest.approx(2 / 5)
    # Laplace's rule of succession.
    assert majority._tail(1, 3, 1, 1) == pytest.approx(4 / 6)
    assert majority._tail(3, 1, 1, 0) == 1.0
    assert majority._tail(3, 1, 1, 4) == 0.0


@given(st.lists(ANSWERS, max_size=20), st.integers(1, 12), THRESHOLDS, st.integers(0, 8))
def test_requested_paths_are_at_most_the_missing_ones_and_no_fewer_can_decide(
    answers: list[str | None], missing: int, threshold: str, cap: int
) -> None:
    m = len(answers) + missing
    now = vote(answers, m=m, rule=EarlyStop.EXACT, threshold=threshold, cap=cap)
    if now.decision is not Decision.OPEN:
        return
    requested = majority.paths_to_request(
        now.top, now.second, now.drawn, m=m, rule=EarlyStop.EXACT, threshold=threshold, cap=cap
    )
    assert 1 <= requested <= missing
    leader = now.tally[0][0] if now.tally else "a"
    if requested > majority.WAVE:
        for rest in ([leader] * (requested - 1), [None] * (requested - 1)):
            sooner = vote(
                [*answers, *rest], m=m, rule=EarlyStop.EXACT, threshold=threshold, cap=cap
            )
            assert sooner.decision is Decision.OPEN


@settings(max_examples=300)
@given(st.data())
def test_no_path_in_flight_can_decide_a_vote_before_the_paths_it_needs(data: st.DataObject) -> None:
    m = data.draw(st.integers(1, 24))
    cap = data.draw(st.integers(0, 8))
    threshold = f"0.{data.draw(st.integers(1, 9))}"
    answers = data.draw(st.lists(ANSWERS, min_size=m, max_size=m))
    requested = data.draw(st.integers(0, m))
    finished = data.draw(st.sets(st.sampled_from(range(requested)))) if requested else set()
    known = {index: answers[index] for index in finished}
    needed = majority.paths_needed(
        known, requested, m=m, rule=EarlyStop.EXACT, threshold=threshold, cap=cap
    )
    assert requested <= needed <= m
    in_flight = [index for index in range(needed) if index not in known]
    # The rest is as decisive as it can be: all for the leader, or none for anyone.
    counted = Counter(answer for answer in known.values() if answer is not None).most_common(1)
    rest = data.draw(st.sampled_from([counted[0][0] if counted else "a", None]))
    answers = [known.get(index, rest) for index in range(m)]
    decided_after = vote(answers, m=m, rule=EarlyStop.EXACT, threshold=threshold, cap=cap).drawn
    if len(in_flight) > majority.WAVE:
        assert decided_after <= requested or decided_after >= needed
    elif needed < m:
        assert len(in_flight) == majority.WAVE


@given(st.lists(ANSWERS, max_size=24), st.integers(0, 24))
def test_paths_that_are_known_to_decide_nothing_need_not_be_looked_at(
    answers: list[str | None], undecided: int
) -> None:
    whole = vote(answers, m=24, rule=EarlyStop.EXACT, threshold="0.5", cap=3)
    if undecided < whole.drawn:
        again = vote(
            answers, m=24, rule=EarlyStop.EXACT, threshold="0.5", cap=3, undecided=undecided
        )
        assert again == whole


def test_without_early_stop_all_missing_paths_are_requested_at_once() -> None:
    requested = majority.paths_to_request(1, 0, 1, m=32, rule=EarlyStop.OFF, threshold="0.6", cap=8)
    assert requested == 31
    first = majority.paths_to_request(0, 0, 0, m=32, rule=EarlyStop.EXACT, threshold="0.6", cap=8)
    # 20 of 32 must agree: 13 paths that do not can reject, 20 that do can keep.
    assert first == 13


@settings(max_examples=60)
@given(st.lists(ANSWERS, min_size=1, max_size=12), st.sets(st.sampled_from("abc"), max_size=2))
def test_the_accuracy_at_every_k_is_the_mean_over_all_subsets(
    answers: list[str | None], right: set[str]
) -> None:
    exact = majority.majority_at(answers, right)
    for k in range(1, len(answers) + 1):
        hits = subsets = 0
        for chosen in combinations(answers, k):
            counts = Counter(answer for answer in chosen if answer is not None).most_common()
            alone = counts and (len(counts) == 1 or counts[0][1] > counts[1][1])
            hits += bool(alone and counts[0][0] in right)
            subsets += 1
        assert exact[k - 1] == Fraction(hits, subsets)


def test_agreement_and_entropy_measure_how_divided_a_vote_is() -> None:
    assert majority.agreement(["a", "a", "b", None]) == 0.5
    assert majority.entropy(["a", "b", None]) == pytest.approx(1.0)
    assert majority.entropy(["a", "a"]) == 0.0
    assert majority.agreement([]) == majority.entropy([None]) == 0.0


def test_equal_answers_are_merged_into_the_first_form() -> None:
    merged = majority.merge_equal(AnswerType.MATH, ["0.5", None, "\\frac{1}{2}", "3"])
    assert merged == ["0.5", None, "0.5", "3"]
    assert majority.merge_equal(AnswerType.NUMBER, ["1/3", "1/3"]) == ["1/3", "1/3"]


def test_equal_formulas_are_one_answer_of_a_vote() -> None:
    counted = majority.count_vote(
        ["\\frac{1}{2}", "0.5", None],
        run_id=1,
        question_id=1,
        m=3,
        rule=EarlyStop.OFF,
        threshold="0.6",
        cap=0,
        epsilon=0,
        reader="math/2",
    )
    assert counted.tally == (("\\frac{1}{2}", 2),)
