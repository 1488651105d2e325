"""A study of arms: planned, stopped and continued, and its report equals the benchmark."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from benchmarks import control, gains
from engine.demo.project import make_demo
from engine.evaluation import arm_gains
from engine.evaluation.accuracy import compare, comparisons
from engine.evaluation.standalone import standalone_tests
from engine.jobs import curate, evaluate, sample, stages, study_arms, train
from engine.project.job_context import PauseRequested
from engine.reports import project_report, rendering
from engine.reports.sections.reproduction import command_of
from store import evaluations, examples, jobs, models, questions
from store.connection import connect
from store.enums import Arm, JobKind, JobState, Method, Split, Stage
from tests.projects import claimed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from sqlite3 import Connection

    from engine.jobs.plan import Plan
    from engine.project.folder import Project

SETTINGS: dict[str, dict[str, object]] = {
    "sample": {"m": 6, "early_stop": "off", "threshold": "0.3", "cap": 2},
    "curate": {"formats": ["few-shot-cot", "few-shot-direct"]},
    "finetune": {"learning_rate": 1e-3, "epochs": 1, "examples_per_step": 16},
    "evaluate": {"k": 3, "ood": False},
    "model": {"teacher": "pebble-s/base", "students": []},
}
CHOSEN = (Arm.VOTED, Arm.UNVOTED, Arm.FIRST_TOKENS)


def study(conn: Connection, project: Project, *chosen: Arm) -> dict[str, object]:
    """Run the study in this process, as the worker does."""
    params = study_arms.params({}, chosen, 4)
    work = claimed(conn, project, JobKind.FINETUNE, **params)
    result = stages.RUN[JobKind.FINETUNE](work)
    jobs.finish(conn, work.progress.job_id, JobState.DONE, "done", None, result)
    return result


def planned(conn: Connection, project: Project) -> Plan:
    return stages.plan(conn, project, JobKind.FINETUNE, project.settings, arms=(CHOSEN, 4))


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Connection]]:
    """A curated set of paths that a real model sampled."""
    folder = tmp_path_factory.mktemp("arms") / "demo"
    project = make_demo(folder, pool=16, evaluation=16, changes=SETTINGS)
    with connect(project.database) as conn:
        for kind, stage in ((JobKind.SAMPLE, sample.run), (JobKind.CURATE, curate.run)):
            work = claimed(conn, project, kind)
            stage(work)
            jobs.finish(conn, work.progress.job_id, JobState.DONE, "done", None, {})
        yield project, conn


@pytest.fixture(scope="module")
def studied(
    curated: tuple[Project, Connection],
) -> tuple[Project, Connection, tuple[Plan, Plan, Plan], dict[str, object]]:
    """The control of the benchmark, then a study that was stopped in its last arm."""
    project, conn = curated
    before = planned(conn, project)
    for work, model in control.train_controls(project):
        evaluate.measure(work, model)
    train_model = train.train_model

    def stop_in_the_last_arm(*args: object) -> dict[str, object]:
        if args[2].arm is Arm.FIRST_TOKENS:  # type: ignore[attr-defined]  # a training set
            raise PauseRequested
        return train_model(*args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "train_model", stop_in_the_last_arm)
        with pytest.raises(PauseRequested):
            study(conn, project, *CHOSEN)
    stopped = jobs.all_of(conn)[-1]
    jobs.finish(conn, stopped.id, JobState.PAUSED, "paused", None, {})
    between = planned(conn, project)
    result = study(conn, project, *CHOSEN)
    return project, conn, (before, between, planned(conn, project)), result


Studied = tuple["Project", "Connection", tuple["Plan", "Plan", "Plan"], dict[str, object]]


def test_a_stopped_study_goes_on_and_repeats_nothing(studied: Studied) -> None:
    project, conn, _, result = studied
    arms = result["arms"]
    assert isinstance(arms, list)
    assert [(each["arm"], each["model"]) for each in arms] == [
        (Arm.VOTED, "pebble-s/lmsi"),
        (Arm.UNVOTED, "pebble-s/unvoted"),
        (Arm.FIRST_TOKENS, "pebble-s/first-tokens"),
    ]
    assert [each["trained_before"] for each in arms] == [True, True, False]
    again = study(conn, project, *CHOSEN)["arms"]
    assert isinstance(again, list)
    assert all(each["trained_before"] for each in again)
    trained = {model.name: model.stage for model in models.all_of(conn) if model.training_set}
    assert trained == {
        "pebble-s/lmsi": Stage.LMSI,
        "pebble-s/unvoted": Stage.CONTROL,
        "pebble-s/first-tokens": Stage.CONTROL,
    }


def test_the_plan_counts_what_is_left(studied: Studied) -> None:
    _, _, (before, between, after), _ = studied
    assert before.problem is None
    assert [bool(arm.model) for arm in before.arms] == [False, False, False]
    assert [bool(arm.model) for arm in between.arms] == [True, True, False]
    assert [bool(arm.model) for arm in after.arms] == [True, True, True]
    paths = 16 * (2 + 3)  # direct, greedy, and three sampled ones for each question
    assert before.paths == (4 * paths, 4 * paths)
    assert between.paths == (paths, paths)
    assert after.paths == (0, 0)
    assert after.seconds == (0.0, 0.0)
    tokens = {arm.arm: arm.tokens for arm in before.arms}
    assert tokens[Arm.FIRST_TOKENS] < tokens[Arm.UNVOTED] == tokens[Arm.VOTED]


def test_the_report_equals_the_benchmark_on_the_same_seed(studied: Studied) -> None:
    _, conn, _, _ = studied
    report = arm_gains.read(conn)
    assert report is not None
    for method in (Method.COT, Method.SINGLE, Method.SC):
        row = report.of(Split.EVAL, method)
        assert row is not None
        assert row.vote is not None
        for before, after, shown in (
            ("base", "lmsi", row.gains[Arm.VOTED]),
            ("unvoted", "lmsi", row.vote),
            ("base", "unvoted", row.gains[Arm.UNVOTED]),
        ):
            claim = gains.Claim("", f"pebble-s/{before}", f"pebble-s/{after}", method)
            sides = (gains.evaluation_of(conn, claim, name) for name in gains.sides(claim))
            measured = compare(conn, *sides)
            assert measured is not None
            numbers = gains.print_claim(claim, "0", measured.result)
            assert dataclasses.asdict(shown).items() >= {
                (name, numbers[name]) for name in ("n", "gain", "low", "high", "p")
            }
        total = row.gains[Arm.UNVOTED].gain + row.vote.gain
        assert row.gains[Arm.VOTED].gain == pytest.approx(total)
        assert row.gains[Arm.FIRST_TOKENS].n == 16


def test_the_unvoted_arm_of_the_study_is_the_control_of_the_benchmark(studied: Studied) -> None:
    project, conn, _, _ = studied
    (model,) = [model for model in models.all_of(conn) if model.name == "pebble-s/unvoted"]
    for _, trained in control.train_controls(project):
        assert trained == model
    assert sum(frozen.arm is Arm.UNVOTED for frozen in examples.sets(conn)) == 1


def test_the_full_report_says_what_the_vote_adds(studied: Studied) -> None:
    project, conn, _, _ = studied
    document = project_report.build(project, conn)
    (section,) = [each for each in document.sections if each.title == "Where the gain comes from"]
    assert "the vote adds" in str(section.blocks[0])
    text = rendering.markdown(document)
    assert "first 4 tokens" in text
    assert "arm unvoted" in text
    compared = {(each.before, each.after) for each in comparisons(conn)}
    assert ("pebble-s/unvoted", "pebble-s/lmsi") in compared
    assert [test.model for test in standalone_tests(conn)] == ["pebble-s/lmsi"]
    commands = [command_of(job) for job in jobs.all_of(conn) if "study" in job.params]
    assert commands[-1] == (
        "lmsi-tui study arms --arms voted,unvoted,first-tokens --first-tokens 4"
    )


def test_models_of_equal_weights_share_their_measurement(studied: Studied) -> None:
    _, conn, _, _ = studied
    newest = evaluations.newest(conn)
    base = models.by_name(conn, "pebble-s/base")
    lmsi = models.by_name(conn, "pebble-s/lmsi")
    assert base is not None
    assert lmsi is not None
    assert (base.id, Split.EVAL, Method.COT) in newest
    same = arm_gains.gains_of(conn, base, {Arm.VOTED: lmsi, Arm.RANDOM: lmsi})
    assert all(each.gains[Arm.RANDOM] == each.gains[Arm.VOTED] for each in same)


def test_a_study_without_evaluation_questions_cannot_start(tmp_path: Path) -> None:
    project = make_demo(tmp_path / "demo", pool=4, evaluation=1, changes=SETTINGS)
    with connect(project.database) as conn:
        missing = planned(conn, project)
        assert missing.problem is not None
        assert missing.first is JobKind.CURATE
        measured = [question.id for question in questions.by_split(conn, Split.EVAL)]
        questions.remove(conn, measured)
        alone = planned(conn, project)
        assert alone.problem is not None
        assert "known answers" in alone.problem
