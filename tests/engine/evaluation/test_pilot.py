"""Whether a pilot's verdict follows from its interval, on scripted models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.evaluation import pilot
from engine.evaluation.pilot import HeadroomVerdict, judge_headroom
from engine.jobs import evaluate
from engine.statistics import intervals
from store import models
from store.connection import connect
from store.enums import JobKind, Split
from store.errors import BadInput
from tests.engine.evaluation.scripted import rule, write_script
from tests.projects import TEACHER, a_question, claimed, scripted_project

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from engine.project.folder import Project

SCATTERED = {str(number): 1.0 for number in range(5000, 5040)}
"""Wrong answers that rarely agree."""


def measured_project(
    folder: Path, n: int, weights: Mapping[int, Mapping[str, float]], k: int = 8
) -> Project:
    """A measured project whose model answers question i with the weights at i, and all other
    questions wrongly and at random."""
    project = scripted_project(folder, pool=4, evaluation=n, changes={"evaluate": {"k": k}})
    rules = [rule(a_question(i, Split.EVAL).text, answers) for i, answers in weights.items()]
    script = project.folder / "models" / "script.json"
    write_script(script, [*rules, rule("", SCATTERED)])
    with connect(project.database) as conn:
        evaluate.run(claimed(conn, project, JobKind.EVALUATE, models=[TEACHER]))
    return project


def pilot_of(project: Project) -> pilot.Pilot:
    with connect(project.database, read_only=True) as conn:
        teacher = models.by_name(conn, TEACHER)
        assert teacher is not None
        return pilot.from_evaluations(conn, teacher, project.settings.sample)


def like_ul2(n: int) -> dict[int, dict[str, float]]:
    """UL2-20B on GSM8K (Huang et al. 2022, Table 8): greedy 5.4, majority 6.4 %.

    4.1 % of the questions are always right; 2.3 % are right half the time and win the vote.
    """
    sure, half = round(0.041 * n), round(0.023 * n)
    unsure = {answer: 0.45 / len(SCATTERED) for answer in SCATTERED}
    return {i: {str(i): 1.0} for i in range(sure)} | {
        i: {str(i): 0.55} | unsure for i in range(sure, sure + half)
    }


def test_a_small_sample_of_a_model_without_headroom_gives_no_false_promise(tmp_path: Path) -> None:
    result = pilot_of(measured_project(tmp_path, 80, like_ul2(80)))
    assert result.n == 80
    assert result.greedy.share < 0.1
    assert result.verdict is not HeadroomVerdict.HEADROOM
    assert result.detectable is not None
    assert 0.05 < result.detectable < 0.2


def test_enough_questions_of_a_model_without_headroom_show_that_it_has_none(tmp_path: Path) -> None:
    result = pilot_of(measured_project(tmp_path, 1000, like_ul2(1000)))
    assert result.greedy.share == pytest.approx(0.054, abs=0.008)
    assert result.majority.share == pytest.approx(0.064, abs=0.004)
    assert result.gap.high < 0.05
    assert result.verdict is HeadroomVerdict.NO_HEADROOM
    assert any("larger teacher" in sentence for sentence in pilot.advice(result))


def test_a_model_whose_vote_beats_its_greedy_answer_has_headroom(tmp_path: Path) -> None:
    wrong = {answer: 0.4 / len(SCATTERED) for answer in SCATTERED}
    result = pilot_of(measured_project(tmp_path, 60, {i: {str(i): 0.6} | wrong for i in range(60)}))
    assert result.verdict is HeadroomVerdict.HEADROOM
    assert result.questions_needed is None
    own, *others = result.forecasts
    assert (own.m, own.threshold) == (8, "0.6")
    assert own.paths <= 8 * result.pool
    by_threshold = [forecast.kept_share for forecast in others if forecast.m == 16]
    assert by_threshold == sorted(by_threshold, reverse=True)
    assert own.seconds is not None


@pytest.mark.parametrize(
    ("won", "lost", "n", "verdict"),
    [
        (1, 0, 80, HeadroomVerdict.UNKNOWN),
        (0, 0, 40, HeadroomVerdict.UNKNOWN),
        (0, 0, 200, HeadroomVerdict.NO_HEADROOM),
        (3, 2, 1000, HeadroomVerdict.NO_HEADROOM),
        (20, 4, 80, HeadroomVerdict.HEADROOM),
        (4, 20, 80, HeadroomVerdict.NO_HEADROOM),
        (8, 4, 80, HeadroomVerdict.UNKNOWN),
    ],
)
def test_the_verdict_follows_from_the_interval(
    won: int, lost: int, n: int, verdict: HeadroomVerdict
) -> None:
    before = [False] * won + [True] * lost + [False] * (n - won - lost)
    after = [True] * won + [False] * lost + [False] * (n - won - lost)
    headroom = intervals.paired(before, after)
    assert judge_headroom(headroom) is verdict
    needed = pilot.questions_needed(headroom)
    assert (needed is None) == (verdict is not HeadroomVerdict.UNKNOWN)
    if needed is not None:
        assert needed > n


def test_a_model_that_has_not_been_measured_has_no_pilot(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has not been measured"):
        pilot_of(scripted_project(tmp_path))
