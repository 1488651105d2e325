"""Fine-tuning with a contrast: what is planned is trained, and older sets get losing paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.demo.project import make_demo
from engine.jobs import curate, sample, stages, train
from engine.project.settings import changed
from engine.training_data import losing_paths
from store import contrast, examples, jobs, models
from store.connection import connect
from store.enums import JobKind, JobState
from store.errors import BadInput
from tests.projects import claimed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from sqlite3 import Connection

    from engine.project.folder import Project

CONTRAST: dict[str, dict[str, object]] = {
    "sample": {"m": 8, "early_stop": "off", "threshold": "0.3", "cap": 3},
    "finetune": {"objective": "contrast", "learning_rate": 2e-4, "examples_per_step": 16},
    "model": {"teacher": "pebble-s/base", "students": []},
}


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Connection]]:
    """A curated set of paths that a real model sampled."""
    folder = tmp_path_factory.mktemp("contrast") / "demo"
    project = make_demo(folder, pool=16, evaluation=4, changes=CONTRAST)
    with connect(project.database) as conn:
        for kind, stage in ((JobKind.SAMPLE, sample.run), (JobKind.CURATE, curate.run)):
            work = claimed(conn, project, kind)
            stage(work)
            jobs.finish(conn, work.progress.job_id, JobState.DONE, "done", None, {})
        yield project, conn


def test_a_contrast_trains_what_was_planned(curated: tuple[Project, Connection]) -> None:
    project, conn = curated
    planned = stages.plan(conn, project, JobKind.FINETUNE, project.settings)
    assert planned.problem is None
    assert planned.contrast is not None
    frozen = examples.sets(conn)[-1]
    losers = contrast.losing_texts(conn, frozen.key)
    assert planned.contrast.losers == len(losers) > 0
    assert planned.contrast.questions == frozen.questions == sum(planned.contrast.margins)
    assert planned.contrast.without_losers == frozen.questions - len(
        {path.question_id for path in losers}
    )
    assert planned.contrast.loss == "kto"
    assert planned.contrast.pairs >= planned.contrast.losers
    work = claimed(conn, project, JobKind.FINETUNE)
    result = train.finetune(work)
    measured = {metric.name for metric in jobs.metrics(conn, work.progress.job_id)}
    jobs.finish(conn, work.progress.job_id, JobState.DONE, "done", None, result)
    assert {"loss", "winner_logp"} <= measured
    assert result["losing_examples"] > 0  # type: ignore[operator]  # a number
    assert result["steps"] == pytest.approx(planned.steps, abs=1)
    again = train.finetune(claimed(conn, project, JobKind.FINETUNE))
    assert again == {"model": result["model"], "trained_before": True}
    majority = changed(project.settings, {"finetune": {"objective": "majority"}})
    other = stages.plan(conn, project, JobKind.FINETUNE, majority)
    assert other.contrast is None
    assert len(other.reused) == 1  # the set, and no finished training
    trained = [model.name for model in models.all_of(conn) if model.training_set]
    assert trained == [result["model"]]


def test_a_set_that_is_older_than_losing_paths_is_planned_and_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_demo(tmp_path / "older", pool=16, evaluation=4, changes=CONTRAST)
    with connect(project.database) as conn:
        sample.run(claimed(conn, project, JobKind.SAMPLE))
        with monkeypatch.context() as patch:
            patch.setattr(losing_paths, "freeze", lambda *_: None)
            curate.run(claimed(conn, project, JobKind.CURATE))
        planned = stages.plan(conn, project, JobKind.FINETUNE, project.settings)
        assert planned.problem is None
        assert (planned.contrast, bool(planned.contrast_note)) == (None, True)
        result = train.finetune(claimed(conn, project, JobKind.FINETUNE))
        assert result["losing_examples"] > 0  # type: ignore[operator]  # a number
        assert contrast.is_stored(conn, examples.sets(conn)[-1].key)


def test_a_set_without_losing_paths_cannot_be_contrasted(tmp_path: Path) -> None:
    settings = {**CONTRAST, "sample": {**CONTRAST["sample"], "m": 1, "threshold": "0"}}
    alone = make_demo(tmp_path / "alone", pool=4, evaluation=4, changes=settings)
    with connect(alone.database) as conn:
        sample.run(claimed(conn, alone, JobKind.SAMPLE))
        curate.run(claimed(conn, alone, JobKind.CURATE))
        planned = stages.plan(conn, alone, JobKind.FINETUNE, alone.settings)
        assert planned.problem is not None
        assert "sample.early_stop" in planned.problem
        with pytest.raises(BadInput, match=r"finetune\.objective"):
            train.finetune(claimed(conn, alone, JobKind.FINETUNE))
