"""A model is taught where it disagreed: what is planned is trained, and continued."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.demo.project import make_demo
from engine.jobs import curate, sample, stages, train
from engine.project.folder import open_project
from engine.project.job_context import PauseRequested, Progress
from engine.project.settings import Settings, changed
from store import contrast, examples, jobs, models
from store.connection import connect
from store.enums import JobKind, JobState
from store.errors import BadInput
from tests.projects import claimed, command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from sqlite3 import Connection

    from engine.project.folder import Project

TEACH: dict[str, dict[str, object]] = {
    "sample": {"m": 8, "early_stop": "off", "threshold": "0.3", "cap": 3},
    "finetune": {
        "objective": "teach",
        "learning_rate": 2e-4,
        "examples_per_step": 8,
        "epochs": 1.0,
    },
    "model": {"teacher": "pebble-s/base", "students": []},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A curated set of paths that a real model sampled."""
    folder = tmp_path_factory.mktemp("teach") / "demo"
    project = make_demo(folder, pool=12, evaluation=4, changes=TEACH)
    with connect(project.database) as conn:
        for kind, stage in ((JobKind.SAMPLE, sample.run), (JobKind.CURATE, curate.run)):
            work = claimed(conn, project, kind)
            stage(work)
            jobs.finish(conn, work.progress.job_id, JobState.DONE, "done", None, {})
    return project


def copied(project: Project, folder: Path) -> Project:
    return open_project(Path(shutil.copytree(project.folder, folder)))


@pytest.fixture
def curated(made: Project, tmp_path: Path) -> Iterator[tuple[Project, Connection]]:
    """A copy of it."""
    project = copied(made, tmp_path / "demo")
    with connect(project.database) as conn:
        yield project, conn


def finetuned(conn: Connection, project: Project) -> Mapping[str, object]:
    work = claimed(conn, project, JobKind.FINETUNE)
    result = train.finetune(work)
    jobs.finish(conn, work.progress.job_id, JobState.DONE, "done", None, result)
    return result


def test_a_model_is_taught_what_was_planned(curated: tuple[Project, Connection]) -> None:
    project, conn = curated
    planned = stages.plan(conn, project, JobKind.FINETUNE, project.settings)
    assert planned.problem is None
    losers = contrast.losing_texts(conn, examples.sets(conn)[-1].key)
    assert planned.examples == len(losers) > 0
    assert f"{len(losers):,} losing paths" in planned.taught
    result = finetuned(conn, project)
    trained = (result["examples"], result["validation_examples"])
    assert sum(trained) <= len(losers)  # type: ignore[arg-type]  # counts
    assert result["steps"] == pytest.approx(planned.steps, abs=1)
    again = train.finetune(claimed(conn, project, JobKind.FINETUNE))
    assert again == {"model": result["model"], "trained_before": True}
    majority = changed(project.settings, {"finetune": {"objective": "majority"}})
    other = stages.plan(conn, project, JobKind.FINETUNE, majority)
    assert not other.taught
    assert len(other.reused) == 1  # the set, and no finished training


def test_a_teaching_that_is_interrupted_ends_with_the_same_weights(
    made: Project,
    curated: tuple[Project, Connection],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project, conn = curated
    expected = finetuned(conn, project)
    whole = models.by_name(conn, str(expected["model"]))
    assert whole is not None
    assert whole.adapter is not None
    written = project.inside(whole.adapter) / "adapter_model.safetensors"
    weights = written.read_bytes()
    other = copied(made, tmp_path / "other")
    with connect(other.database) as again:
        measure, is_begun = Progress.measure, False

        def noted(self: Progress, step: int, *values: object, **named: object) -> None:
            nonlocal is_begun
            measure(self, step, *values, **named)  # type: ignore[arg-type]  # passed on
            is_begun = step > 0

        def pause(_: Progress) -> None:
            if is_begun:
                raise PauseRequested

        work = claimed(again, other, JobKind.FINETUNE)
        with monkeypatch.context() as patch:
            patch.setattr(Progress, "measure", noted)
            patch.setattr(Progress, "look", pause)
            with pytest.raises(PauseRequested):
                train.finetune(work)
        assert is_begun
        result = train.finetune(work)
        stored = models.by_name(again, str(result["model"]))
    assert stored is not None
    assert stored.adapter is not None
    assert (other.inside(stored.adapter) / written.name).read_bytes() == weights


def test_what_cannot_be_taught_is_refused_by_the_plan_and_the_job(
    curated: tuple[Project, Connection],
) -> None:
    project, conn = curated
    scripted = {"settings": {"model": {"engine": "scripted"}}}
    planned = stages.plan(
        conn, project, JobKind.FINETUNE, changed(project.settings, scripted["settings"])
    )
    assert planned.problem is not None
    assert "finetune.objective" in planned.problem
    with pytest.raises(BadInput, match=r"finetune\.objective"):
        train.finetune(claimed(conn, project, JobKind.FINETUNE, **scripted))
    conn.execute("UPDATE job SET state = 'cancelled'")
    formats = {"settings": {"curate": {"formats": ["zero-shot-cot"]}}}
    curate.run(claimed(conn, project, JobKind.CURATE, **formats))
    with pytest.raises(BadInput, match=r"curate\.formats"):
        train.finetune(claimed(conn, project, JobKind.FINETUNE))


def test_students_are_not_taught() -> None:
    with pytest.raises(BadInput, match=r"distill\.objective is teach"):
        changed(Settings(), {"distill": {"objective": "teach"}})


def test_the_command_plans_a_teaching(curated: tuple[Project, Connection]) -> None:
    project, _ = curated
    settings = project.folder / "lmsi.toml"
    settings.write_text(settings.read_text().replace('"teach"', '"majority"'))
    planned = command("teach", project.folder, "--plan")
    assert planned.returncode == 0, planned.stderr
    assert "losing paths of" in planned.stdout
    assert "losing paths of" not in command("finetune", project.folder, "--plan").stdout
