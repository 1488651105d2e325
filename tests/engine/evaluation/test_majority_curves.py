"""The curves against brute force."""

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
sampled = st.lists(st.tuples(answers, st.sets(st.sampled_from("abc"))), min_size=1, max_size=4)


def leads_alone(answers: tuple[str | None, ...], right: set[str]) -> bool:
    counts = majority.tally(answers)
    if not counts or (len(counts) > 1 and counts[0][1] == counts[1][1]):
        return False
    return counts[0][0] in right


@given(sampled)
def test_a_majority_of_k_is_the_mean_over_all_subsets_of_k_paths(
    sampled: list[tuple[list[str | None], set[str]]],
) -> None:
    expected = []
    for k in range(1, 6):
        shares = []
        for answers, right in sampled:
            subsets = list(itertools.combinations(answers, k))
            shares.append(sum(leads_alone(subset, right) for subset in subsets) / len(subsets))
        expected.append(sum(shares) / len(shares))
    assert majority_curves.majority_accuracy(sampled) == pytest.approx(expected)


def test_without_questions_there_is_no_curve() -> None:
    assert majority_curves.majority_accuracy([]) == []
    assert majority_curves.by_agreement([]) == []


def test_agreement_is_binned_as_exact_fractions() -> None:
    # 0.29 * 100 is 28.999999999999996 in floats.
    majorities = [
        (29, 100, True),
        (28, 100, False),
        (100, 100, True),
        (0, 8, False),
        (7, 100, True),
    ]
    bins = majority_curves.by_agreement(majorities, bins=100)
    assert [(each.low, each.n, each.correct) for each in bins] == [
        (0.0, 1, 0),
        (0.07, 1, 1),
        (0.28, 1, 0),
        (0.29, 1, 1),
        (0.99, 1, 1),
    ]
    assert bins[-1].high == 1.0


@given(st.lists(st.tuples(st.integers(0, 8), st.just(8), st.booleans()), min_size=1))
def test_every_question_is_in_the_bin_of_its_agreement(
    majorities: list[tuple[int, int, bool]],
) -> None:
    bins = majority_curves.by_agreement(majorities)
    assert sum(each.n for each in bins) == len(majorities)
    for each in bins:
        inside = [
            right
            for top, m, right in majorities
            if each.low <= top / m < each.high or (each.high == 1.0 and top == m)
        ]
        assert (each.n, each.correct) == (len(inside), sum(inside))
        assert each.interval == intervals.wilson(each.correct, each.n)
        assert each.accuracy == each.correct / each.n


def test_the_curve_of_an_evaluation_ends_at_its_accuracy(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "project", pool=1, evaluation=12)
    with connect(project.database) as conn:
        evaluate.run(claimed(conn, project, JobKind.EVALUATE))
        (evaluation,) = (
            evaluation for evaluation in evaluations.all_of(conn) if evaluation.method is Method.SC
        )
        curves = majority_curves.read(conn, evaluation)
        ids = [vote.question_id for vote in votes.for_run(conn, evaluation.run_id)]
        answers = paths.answers_by_question(conn, evaluation.run_id, ids)
    assert curves.model == "scripted/base"
    assert (curves.whole, len(curves.majority)) == (12, evaluation.k)
    assert curves.majority[-1] == pytest.approx(evaluation.accuracy)
    assert sum(each.n for each in curves.bins) == evaluation.n
    assert sum(each.correct for each in curves.bins) == evaluation.correct
    assert curves.majority[0] == pytest.approx(
        sum(
            str(number) == answer
            for number, by_index in enumerate(answers.values())
            for answer in by_index.values()
        )
        / (12 * evaluation.k)
    )
