"""The curves against counting everything by hand."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.evaluation import majority_curves
from engine.jobs import evaluate
from engine.statistics import intervals
from engine.voting import majority
from store import evaluations, paths, votes
from store.connection import connect
from store.enums import JobKind, Method
from tests.projects import claimed, scripted_project

if TYPE_CHECKING:
    from pathlib import Path

answers = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=5, max_size=5)
drawn = st.lists(st.tuples(answers, st.sets(st.sampled_from("abc"))), min_size=1, max_size=4)


def leads_alone(drawn: tuple[str | None, ...], right: set[str]) -> bool:
    counts = majority.tally(drawn)
    if not counts or (len(counts) > 1 and counts[0][1] == counts[1][1]):
        return False
    return counts[0][0] in right


@given(drawn)
def test_a_majority_of_k_is_the_mean_over_all_ways_to_draw_k(
    drawn: list[tuple[list[str | None], set[str]]],
) -> None:
    expected = []
    for k in range(1, 6):
        shares = []
        for found, right in drawn:
            ways = list(itertools.combinations(found, k))
            shares.append(sum(leads_alone(way, right) for way in ways) / len(ways))
        expected.append(sum(shares) / len(shares))
    assert majority_curves.majority_accuracy(drawn) == pytest.approx(expected)


def test_without_questions_there_is_no_curve() -> None:
    assert majority_curves.majority_accuracy([]) == []
    assert majority_curves.by_agreement([]) == []


def test_agreement_is_binned_as_exact_fractions() -> None:
    # 0.29 * 100 is 28.999999999999996 in floats.
    judged = [(29, 100, True), (28, 100, False), (100, 100, True), (0, 8, False), (7, 100, True)]
    bins = majority_curves.by_agreement(judged, bins=100)
    assert [(one.low, one.n, one.correct) for one in bins] == [
        (0.0, 1, 0),
        (0.07, 1, 1),
        (0.28, 1, 0),
        (0.29, 1, 1),
        (0.99, 1, 1),
    ]
    assert bins[-1].high == 1.0


@given(st.lists(st.tuples(st.integers(0, 8), st.just(8), st.booleans()), min_size=1))
def test_every_question_is_in_the_bin_of_its_agreement(judged: list[tuple[int, int, bool]]) -> None:
    bins = majority_curves.by_agreement(judged)
    assert sum(one.n for one in bins) == len(judged)
    for one in bins:
        inside = [
            right
            for top, m, right in judged
            if one.low <= top / m < one.high or (one.high == 1.0 and top == m)
        ]
        assert (one.n, one.correct) == (len(inside), sum(inside))
        assert one.interval == intervals.wilson(one.correct, one.n)
        assert one.accuracy == one.correct / one.n


def test_the_curves_of_an_evaluation_end_where_it_was_measured(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "project", pool=1, evaluation=12)
    with connect(project.database) as conn:
        evaluate.run(claimed(conn, project, JobKind.EVALUATE))
        measured = {one.method: one for one in evaluations.all_of(conn)}
        voted = measured[Method.SC]
        found = majority_curves.read(conn, voted)
        counted = votes.for_run(conn, voted.run_id)
        drawn = paths.answers_by_question(conn, voted.run_id, [one.question_id for one in counted])
    assert found.model == "scripted/base"
    assert (found.whole, len(found.majority)) == (12, voted.k)
    assert found.majority[-1] == pytest.approx(voted.accuracy)
    assert sum(one.n for one in found.bins) == voted.n
    assert sum(one.correct for one in found.bins) == voted.correct
    assert found.majority[0] == pytest.approx(
        sum(
            str(at) == answer
            for at, by_index in enumerate(drawn.values())
            for answer in by_index.values()
        )
        / (12 * voted.k)
    )
