"""What a pilot may say, and what a guard and an audit find, with engines that play a script."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from engine.evaluation import acceptance, drift_alarms, pilot
from engine.evaluation.pilot import HeadroomVerdict, judge_headroom
from engine.jobs import evaluate, sample
from engine.review import audit
from engine.statistics import intervals
from store import evaluations, models, paths, questions, reviews, votes
from store.connection import connect, transaction
from store.enums import JobKind, Method, Outcome, Queue, Split, Stage, Verdict
from store.errors import BadInput
from store.records import Model, Review, content_hash
from tests.projects import TEACHER, a_question, claimed, scripted_project

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from engine.project.folder import Project

SAY = [" The answer is {answer}."]
SCATTERED = {str(number): 1.0 for number in range(5000, 5040)}
"""Wrong answers that hardly ever agree."""


def rule(text: str, answers: Mapping[str, float]) -> dict[str, object]:
    return {"contains": text, "answers": answers, "texts": SAY}


def measured_project(
    folder: Path, n: int, weights: Mapping[int, Mapping[str, float]], k: int = 8
) -> Project:
    """A project whose model answers the question at each position as `weights` say, and all others
    wrongly and at random; measured."""
    project = scripted_project(folder, pool=4, evaluation=n, changes={"evaluate": {"k": k}})
    rules = [rule(a_question(i, Split.EVAL).text, said) for i, said in weights.items()]
    script = {"context": 8192, "slots": 8, "rules": [*rules, rule("", SCATTERED)]}
    (project.folder / "models" / "script.json").write_text(json.dumps(script))
    with connect(project.database) as conn:
        evaluate.run(claimed(conn, project, JobKind.EVALUATE, models=[TEACHER]))
    return project


def piloted(project: Project) -> pilot.Pilot:
    with connect(project.database, read_only=True) as conn:
        teacher = models.by_name(conn, TEACHER)
        assert teacher is not None
        return pilot.from_evaluations(conn, teacher, project.settings.sample)


def like_ul2(n: int) -> dict[int, dict[str, float]]:
    """UL2-20B on GSM8K (Huang et al. 2022, Table 8): greedy 5.4, majority 6.4 %.

    4.1 % of the questions are always right; 2.3 % are right half the time and then win the vote.
    """
    sure, half = round(0.041 * n), round(0.023 * n)
    shaky = {str(one): 0.45 / len(SCATTERED) for one in SCATTERED}
    return {i: {str(i): 1.0} for i in range(sure)} | {
        i: {str(i): 0.55} | shaky for i in range(sure, sure + half)
    }


def test_a_small_model_on_which_lmsi_does_nothing_is_not_called_worth_it(tmp_path: Path) -> None:
    found = piloted(measured_project(tmp_path, 80, like_ul2(80)))
    assert found.n == 80
    assert found.greedy.share < 0.1
    assert found.verdict is not HeadroomVerdict.HEADROOM
    assert found.detectable is not None
    assert 0.05 < found.detectable < 0.2


def test_with_enough_questions_it_is_called_no_fuel(tmp_path: Path) -> None:
    found = piloted(measured_project(tmp_path, 1000, like_ul2(1000)))
    assert found.greedy.share == pytest.approx(0.054, abs=0.008)
    assert found.majority.share == pytest.approx(0.064, abs=0.004)
    assert found.gap.high < 0.05
    assert found.verdict is HeadroomVerdict.NO_HEADROOM
    assert any("larger teacher" in one for one in pilot.advice(found))


def test_a_model_whose_vote_knows_more_than_its_answer_has_fuel(tmp_path: Path) -> None:
    wrong = {str(one): 0.4 / len(SCATTERED) for one in SCATTERED}
    found = piloted(measured_project(tmp_path, 60, {i: {str(i): 0.6} | wrong for i in range(60)}))
    assert found.verdict is HeadroomVerdict.HEADROOM
    assert found.questions_needed is None
    mine, *others = found.forecasts
    assert (mine.m, mine.threshold) == (8, "0.6")
    assert mine.paths <= 8 * found.pool
    by_threshold = [one.kept_share for one in others if one.m == 16]
    assert by_threshold == sorted(by_threshold, reverse=True)
    assert mine.seconds is not None


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
def test_the_verdict_is_only_what_the_interval_supports(
    won: int, lost: int, n: int, verdict: HeadroomVerdict
) -> None:
    before = [False] * won + [True] * lost + [False] * (n - won - lost)
    after = [True] * won + [False] * lost + [False] * (n - won - lost)
    gap = intervals.paired(before, after)
    assert judge_headroom(gap) is verdict
    needed = pilot.questions_needed(gap)
    assert (needed is None) == (verdict is not HeadroomVerdict.UNKNOWN)
    if needed is not None:
        assert needed > n


def test_a_model_that_was_not_measured_has_no_pilot(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has not been measured"):
        piloted(scripted_project(tmp_path))


# A majority that is confidently wrong.


def truly(run_id: int, asked: int, right: str) -> Review:
    return Review(0, asked, run_id, Queue.AUDIT, Verdict.TYPED, right, None, None, 2.0, 0.0)


def test_an_audit_finds_a_majority_that_is_confidently_wrong(tmp_path: Path) -> None:
    """Three of ten questions have one wrong answer that nine of ten paths give."""
    project = scripted_project(tmp_path, pool=200, changes={"sample": {"m": 8}})
    rules = [
        rule(a_question(i).text, {str(i) if i % 10 > 2 else "4711": 9.0, "1": 1.0})
        for i in range(200)
    ]
    script = {"context": 8192, "slots": 8, "rules": rules}
    (project.folder / "models" / "script.json").write_text(json.dumps(script))
    with connect(project.database) as conn:
        sample.run(claimed(conn, project, JobKind.SAMPLE))
        (run,) = paths.runs(conn)
        pool = questions.by_split(conn, Split.POOL)
        counted = {one.question_id: one for one in votes.for_run(conn, run.id)}

        def now() -> audit.Audit:
            held = reviews.active(conn, run.id)
            return audit.of_run(pool, counted, held, threshold="0.6", run_key=run.key)

        accepted = sum(count.size for count in now().counts)
        assert accepted > 150  # the vote is sure of itself
        for _ in range(60):
            (question,) = now().upcoming(1)
            reviews.add(conn, truly(run.id, question.id, str(question.position)))
        found = now()
    precision = found.precision
    assert precision is not None
    assert precision.high < 0.95
    assert precision.low < 0.7 < precision.high
    assert not any(one.certified for one in found.certificates(Fraction(95, 100)))


# Rounds that collapse.


def a_round(project: Project, number: int, right: int, n: int, spread: int) -> Model:
    """A model of which `right` of n questions are right; its wrong answers have `spread` forms."""
    script = project.folder / "models" / f"round-{number}.json"
    wrong = {str(9000 + i): 1.0 for i in range(spread)}
    rules = [rule(a_question(i, Split.EVAL).text, {str(i): 1.0}) for i in range(right)]
    script.write_text(json.dumps({"context": 8192, "slots": 8, "rules": [*rules, rule("", wrong)]}))
    with connect(project.database) as conn, transaction(conn):
        base = models.by_name(conn, TEACHER)
        assert base is not None
        return models.add(
            conn,
            replace(
                base,
                id=0,
                name=f"scripted/round-{number}",
                stage=Stage.LMSI,
                location=project.stored(script),
                sha256=content_hash([number, script.read_text()]),
                base_id=base.id,
            ),
        )


def test_the_guard_stops_a_collapse_at_the_right_round(tmp_path: Path) -> None:
    """Right answers of 200: 80, 110, 150, then 120 while agreement still rises, then 60."""
    n = 200
    project = scripted_project(tmp_path, pool=4, evaluation=n)
    path = [(80, 40), (110, 20), (150, 10), (120, 2), (60, 1)]
    rounds = [a_round(project, i, right, n, spread) for i, (right, spread) in enumerate(path)]
    with connect(project.database) as conn:
        names = [one.name for one in rounds]
        evaluate.run(claimed(conn, project, JobKind.EVALUATE, models=names))
        by_model = {
            one.model_id: one
            for one in evaluations.all_of(conn)
            if one.method is Method.COT and one.split is Split.EVAL
        }
        answered = [evaluations.answers(conn, by_model[one.id].id) for one in rounds]
        gains = [
            intervals.paired([old[i] for i in sorted(old)], [new[i] for i in sorted(old)])
            for old, new in itertools.pairwise(answered)
        ]
        sampled = {run.model_id: run for run in paths.runs(conn) if run.temperature > 0}
        seen = [drift_alarms.indicators_of_run(conn, sampled[one.id]) for one in rounds]
    assert [acceptance.decide(one) for one in gains] == [
        Outcome.ACCEPT,
        Outcome.ACCEPT,
        Outcome.REJECT,
        Outcome.REJECT,
    ]
    verdicts = {n: acceptance.decide(one) for n, one in enumerate(gains, start=1)}
    assert acceptance.last_accepted(verdicts) == 2
    # The collapse shows without labels too: more agreement, fewer answers, and no audit behind it.
    before, after = seen[2], seen[3]
    assert before is not None
    assert after is not None
    said = drift_alarms.alarms(before, after)
    assert any("no audit shows" in one for one in said)
    assert not drift_alarms.alarms(before, before)


def test_the_guard_rejects_what_is_worse_out_of_domain_and_leaves_the_rest_undecided() -> None:
    gain = intervals.paired([False] * 30 + [True] * 70, [True] * 100)
    same = intervals.paired([True, False] * 50, [True, False] * 50)
    loss = intervals.paired([True] * 100, [False] * 30 + [True] * 70)
    assert acceptance.decide(gain, same) is Outcome.ACCEPT
    assert acceptance.decide(gain, loss) is Outcome.REJECT
    assert acceptance.decide(same) is Outcome.UNDECIDED
    assert (
        acceptance.last_accepted({1: Outcome.ACCEPT, 2: Outcome.UNDECIDED, 3: Outcome.REJECT}) == 1
    )
    assert acceptance.last_accepted({}) == 0


def test_alarms_name_what_changed() -> None:
    calm = drift_alarms.DriftIndicators(50, 0.6, 1.5, 0.01, 0.02, 200, 0.9)
    assert drift_alarms.alarms(calm, replace(calm, agreement=0.7), precision_gain=0.05) == []
    said = drift_alarms.alarms(
        calm, drift_alarms.DriftIndicators(50, 0.9, 0.3, 0.2, 0.3, 90, 0.2), precision_gain=-0.1
    )
    assert len(said) == 6
