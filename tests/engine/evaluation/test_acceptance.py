"""Whether the acceptance test stops a collapse, on scripted models."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.evaluation import acceptance, drift_alarms
from engine.jobs import evaluate
from engine.statistics import intervals
from store import evaluations, models, paths
from store.connection import connect, transaction
from store.enums import JobKind, Method, Outcome, Split, Stage
from store.records import Model, content_hash
from tests.engine.evaluation.scripted import rule, write_script
from tests.projects import TEACHER, a_question, claimed, scripted_project

if TYPE_CHECKING:
    from pathlib import Path

    from engine.project.folder import Project


def a_round(project: Project, number: int, right: int, spread: int) -> Model:
    """A model with the first `right` questions right and `spread` different wrong answers."""
    script = project.folder / "models" / f"round-{number}.json"
    wrong = {str(9000 + i): 1.0 for i in range(spread)}
    rules = [rule(a_question(i, Split.EVAL).text, {str(i): 1.0}) for i in range(right)]
    write_script(script, [*rules, rule("", wrong)])
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


def test_a_collapse_is_stopped_at_the_right_round(tmp_path: Path) -> None:
    """Right answers of 200: 80, 110, 150, then 120 while agreement still rises, then 60."""
    n = 200
    project = scripted_project(tmp_path, pool=4, evaluation=n)
    course = [(80, 40), (110, 20), (150, 10), (120, 2), (60, 1)]
    rounds = [a_round(project, i, right, spread) for i, (right, spread) in enumerate(course)]
    with connect(project.database) as conn:
        names = [model.name for model in rounds]
        evaluate.run(claimed(conn, project, JobKind.EVALUATE, models=names))
        newest = evaluations.newest(conn)
        right_by_round = [
            evaluations.answers(conn, newest[model.id, Split.EVAL, Method.COT].id)
            for model in rounds
        ]
        gains = [
            intervals.paired([old[i] for i in sorted(old)], [new[i] for i in sorted(old)])
            for old, new in itertools.pairwise(right_by_round)
        ]
        sampled = {run.model_id: run for run in paths.runs(conn) if run.temperature > 0}
        indicators = [drift_alarms.indicators_of_run(conn, sampled[model.id]) for model in rounds]
    assert [acceptance.decide(gain) for gain in gains] == [
        Outcome.ACCEPT,
        Outcome.ACCEPT,
        Outcome.REJECT,
        Outcome.REJECT,
    ]
    verdicts = {n: acceptance.decide(gain) for n, gain in enumerate(gains, start=1)}
    assert acceptance.last_accepted(verdicts) == 2
    # The label-free alarms see it too: more agreement, fewer answers, and no audit to explain it.
    before, after = indicators[2], indicators[3]
    assert before is not None
    assert after is not None
    assert any("no audit shows" in alarm for alarm in drift_alarms.alarms(before, after))
    assert not drift_alarms.alarms(before, before)


def test_a_loss_out_of_domain_is_rejected_and_no_difference_is_undecided() -> None:
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
