"""A dial measures each strength once, chooses one, and the export gets it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine.demo.project import make_demo
from engine.evaluation import dial
from engine.jobs import curate, evaluate, export, sample, stages, train
from engine.models.gguf_header import read_contents
from engine.project.folder import open_project
from engine.project.job_context import PauseRequested, Progress
from engine.reports import model_tree, project_report
from engine.sampling import runs
from store import evaluations, jobs, models, paths
from store.connection import connect
from store.enums import JobKind, JobState, Method, Split
from store.errors import BadInput
from tests.projects import claimed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from sqlite3 import Connection

    from engine.evaluation.dial import Dial
    from engine.project.folder import Project

TRAINED = "pebble-s/lmsi"
CHANGES: dict[str, dict[str, object]] = {
    "sample": {"m": 4, "threshold": "0.3", "cap": 2},
    "curate": {"formats": ["few-shot-cot"]},
    "finetune": {"epochs": 1.0, "examples_per_step": 16},
    "evaluate": {"k": 2, "ood": False},
    "model": {"teacher": "pebble-s/base", "students": []},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a trained adapter."""
    folder = tmp_path_factory.mktemp("dial") / "demo"
    project = make_demo(folder, pool=12, evaluation=48, changes=CHANGES)
    with connect(project.database) as conn:
        finish(conn, project, JobKind.SAMPLE, sample.run)
        finish(conn, project, JobKind.CURATE, curate.run)
        finish(conn, project, JobKind.FINETUNE, train.finetune)
    return project


@pytest.fixture
def trained(made: Project, tmp_path: Path) -> Iterator[tuple[Project, Connection]]:
    """A copy of it."""
    project = open_project(Path(shutil.copytree(made.folder, tmp_path / "demo")))
    with connect(project.database) as conn:
        yield project, conn


def finish(
    conn: Connection, project: Project, kind: JobKind, stage: Any, **params: object
) -> dict[str, Any]:
    work = claimed(conn, project, kind, **params)
    result: dict[str, Any] = json.loads(json.dumps(stage(work)))
    jobs.finish(conn, work.progress.job_id, JobState.DONE, "done", None, result)
    return result


def dialed(conn: Connection, project: Project, strengths: list[float]) -> Dial:
    params: dict[str, object] = {dial.PARAM: TRAINED, "strengths": strengths}
    result = finish(conn, project, JobKind.EVALUATE, stages.RUN[JobKind.EVALUATE], **params)
    return dial.from_json(result[dial.PARAM])


def count(conn: Connection) -> int:
    ((rows,),) = conn.execute("SELECT count(*) FROM path")
    return int(rows)


def test_each_strength_is_measured_once_and_apart_from_the_model_itself(
    trained: tuple[Project, Connection],
) -> None:
    project, conn = trained
    finish(conn, project, JobKind.EVALUATE, evaluate.run, models=[TRAINED])
    measured, before = evaluations.all_of(conn), count(conn)
    result = dialed(conn, project, [0.5, 4.0])
    questions = {row.n for row in result.rows}
    (n,) = questions
    assert 10 <= n <= 38
    assert [row.strength for row in result.rows] == [0.5] * 3 + [1.0] * 3 + [4.0] * 3
    assert evaluations.all_of(conn) == measured, "a strength is no measurement of the model"
    own = evaluations.newest(conn)
    model = models.by_name(conn, TRAINED)
    assert model is not None
    first_half = {row.method: row for row in result.rows if row.strength == 1}
    for method in (Method.SINGLE, Method.SC, Method.COT):
        assert first_half[method].correct <= own[model.id, Split.EVAL, method].correct
    # Strength 1 was stored, if its adapter was kept.
    sampled = 2 * n * 3 + (0 if result.strength == 1 else 3 * (48 - n))
    assert count(conn) == before + sampled
    by_strength = {runs.strength_of(conn, run) for run in paths.runs(conn)}
    assert by_strength == {0.5, 1.0, 4.0}
    again = dialed(conn, project, [0.5, 4.0])
    assert again == result
    assert count(conn) == before + sampled
    texts = {
        runs.strength_of(conn, run): [
            paths.for_question(conn, run.id, question.id)[0][0].text
            for question in dial.halves(runs.measured_questions(conn, project.settings))[0]
        ]
        for run in paths.runs(conn)
        if run.model_id == model.id and run.temperature > 0
    }
    assert texts[4.0] != texts[1.0]
    assert not list((project.folder / "adapters").glob(".*"))


def test_an_interrupted_dial_continues(
    trained: tuple[Project, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, conn = trained
    begin = Progress.begin

    def pause(self: Progress, title: str, *args: Any, **named: Any) -> None:
        if "0.5" in title and "greedy" in title:
            raise PauseRequested
        begin(self, title, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "begin", pause)
        work = claimed(conn, project, JobKind.EVALUATE, dial=TRAINED, strengths=[0.5])
        with pytest.raises(PauseRequested):
            stages.RUN[JobKind.EVALUATE](work)
    jobs.finish(conn, work.progress.job_id, JobState.PAUSED, "paused", None, {})
    before = count(conn)
    assert not list((project.folder / "adapters").glob(".*"))
    result = json.loads(json.dumps(stages.RUN[JobKind.EVALUATE](work)))
    n = dial.from_json(result[dial.PARAM]).rows[0].n
    assert count(conn) == before + n, "only the greedy paths were missing"


def test_the_chosen_strength_is_exported_and_shown(
    trained: tuple[Project, Connection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, conn = trained
    monkeypatch.setattr(dial, "choose", lambda _: 0.5)
    result = dialed(conn, project, [0.5])
    assert {row.strength for row in result.check} == {0.5, 1.0}
    assert result.check[0].n + result.rows[0].n == 48

    def alphas(params: dict[str, object]) -> tuple[float, float]:
        request = {"what": "adapter", "model": None, "out": str(tmp_path / "out")} | params
        export.export_now(project, conn, request)
        folder = tmp_path / "out" / "pebble-s-lmsi"
        config = json.loads((folder / "adapter_config.json").read_text())
        values = read_contents(folder / "adapter.gguf").values
        return config["lora_alpha"], values["adapter.lora.alpha"]

    assert alphas({}) == (16, 16)
    assert alphas({"strength": 1.25}) == (40, 40)
    assert alphas({"strength": 1}) == (32, 32)
    assert model_tree.read(conn).strengths == {TRAINED: 0.5}
    document = project_report.build(project, conn)
    assert any("exported at strength 0.5" in str(section.blocks) for section in document.sections)


def test_what_cannot_be_dialed_is_refused(trained: tuple[Project, Connection]) -> None:
    project, conn = trained
    dial_of = stages.RUN[JobKind.EVALUATE]
    few = replace(
        project,
        settings=replace(project.settings, evaluate=replace(project.settings.evaluate, limit=8)),
    )
    with pytest.raises(BadInput, match="too few"):
        dial_of(claimed(conn, few, JobKind.EVALUATE, dial=TRAINED, strengths=[0.5]))
    with pytest.raises(BadInput, match="imported"):
        dial_of(claimed(conn, project, JobKind.EVALUATE, dial="pebble-s/base", strengths=[0.5]))
    stored = models.by_name(conn, TRAINED)
    assert stored is not None
    whole = replace(
        stored, id=0, name="whole/lmsi", adapter=None, adapter_gguf=None, sha256="whole"
    )
    models.add(conn, whole)
    with pytest.raises(BadInput, match="no adapter"):
        dial_of(claimed(conn, project, JobKind.EVALUATE, dial="whole/lmsi", strengths=[0.5]))
