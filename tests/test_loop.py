"""The whole loop on the embedded models, in small: real stages through the real command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from engine.project.folder import open_project
from store import examples, jobs, models, paths, questions
from store.connection import connect
from store.enums import JobState, Method, PromptStyle, Split, Stage
from tests.projects import command

if TYPE_CHECKING:
    from pathlib import Path

    from engine.project.folder import Project

SIZES = ("--pool", 48, "--eval", 24, "--seed", 5)
CHANGES = {"evaluate.k": 3, "sample.m": 8, "finetune.epochs": 1, "distill.epochs": 1}

Json = dict[str, object]


def demo(folder: Path) -> list[Json]:
    options = [part for name, value in CHANGES.items() for part in ("--set", f"{name}={value}")]
    done = command("demo", folder, "--headless", "--json", *SIZES, *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Json]:
    folder = tmp_path_factory.mktemp("loop") / "demo"
    events = demo(folder)
    return open_project(folder), events[-1]


def test_the_last_line_is_the_report(finished: tuple[Project, Json]) -> None:
    _, report = finished
    assert report["event"] == "report"
    assert report["seed"] == 5
    assert isinstance(report["seconds"], float)
    assert isinstance(report["peak_rss_mb"], float)
    assert 0 < report["peak_rss_mb"] < 2000


def test_every_model_is_measured_with_every_method(finished: tuple[Project, Json]) -> None:
    _, report = finished
    measured = report["evaluations"]
    assert isinstance(measured, list)
    assert {(evaluation["model"], evaluation["stage"]) for evaluation in measured} == {
        *((f"pebble-{size}/base", "base") for size in "lms"),
        ("pebble-l/lmsi", "lmsi"),
        *((f"pebble-{size}/distilled", "distilled") for size in "ms"),
    }
    assert len(measured) == 6 * len(Method)
    for evaluation in measured:
        assert evaluation["n"] == 24
        assert evaluation["k"] == (3 if evaluation["method"] == "sc" else 1)
        assert 0 <= evaluation["low"] <= evaluation["accuracy"] <= evaluation["high"] <= 1


def test_each_trained_model_is_compared_with_its_base_and_the_next_larger_one(
    finished: tuple[Project, Json],
) -> None:
    _, report = finished
    compared = report["comparisons"]
    assert isinstance(compared, list)
    pairs = {(comparison["before"], comparison["after"]) for comparison in compared}
    assert pairs == {
        ("pebble-l/base", "pebble-l/lmsi"),
        ("pebble-m/base", "pebble-m/distilled"),
        ("pebble-s/base", "pebble-s/distilled"),
        ("pebble-l/base", "pebble-m/distilled"),
        ("pebble-m/base", "pebble-s/distilled"),
    }
    for comparison in compared:
        assert comparison["low"] <= comparison["gain"] <= comparison["high"]
        assert 0 < comparison["p"] <= 1


def test_status_and_report_agree_with_it(finished: tuple[Project, Json]) -> None:
    project, report = finished
    added: dict[str, Json] = {"report": {}, "status": {"outdated_votes": []}}
    for name, more in added.items():
        printed = json.loads(command(name, project.folder, "--json").stdout.splitlines()[-1])
        assert printed == report | {"event": name} | more


def test_repeating_the_command_changes_nothing(finished: tuple[Project, Json]) -> None:
    project, report = finished
    with connect(project.database, read_only=True) as conn:
        before = [paths.counts(conn, run.id) for run in paths.runs(conn)]
    again = demo(project.folder)[-1]
    with connect(project.database, read_only=True) as conn:
        assert [paths.counts(conn, run.id) for run in paths.runs(conn)] == before
        assert {job.state for job in jobs.all_of(conn)} == {JobState.DONE}
    assert again["evaluations"] == report["evaluations"]
    assert again["comparisons"] == report["comparisons"]


def test_trained_models_exist_in_both_formats(finished: tuple[Project, Json]) -> None:
    project, _ = finished
    with connect(project.database, read_only=True) as conn:
        all_models = models.all_of(conn)
        frozen = examples.sets(conn)
    trained = [model for model in all_models if model.stage is not Stage.BASE]
    assert {model.training_set for model in trained} == {frozen[-1].key}
    for model in trained:
        adapter = model.stage is Stage.LMSI
        assert (model.adapter is not None) is adapter
        weights = model.adapter or model.location
        gguf = model.adapter_gguf if adapter else model.gguf
        assert gguf is not None
        assert project.inside(weights).is_dir()
        assert project.inside(gguf).stat().st_size > 0
    assert not list((project.folder / "adapters").glob("*.unfinished"))


def test_paths_are_trained_on_with_the_tokens_that_were_sampled(
    finished: tuple[Project, Json],
) -> None:
    project, _ = finished
    with connect(project.database, read_only=True) as conn:
        rows = examples.examples(conn, examples.sets(conn)[-1].key)
        stored = {
            path.id: path
            for run in paths.runs(conn)
            if run.split is Split.POOL
            for question in questions.by_split(conn, Split.POOL)
            for path, _ in paths.for_question(conn, run.id, question.id)
        }
    reasoned = [row for row in rows if row.path_id is not None]
    assert reasoned
    for row in reasoned:
        assert row.path_id is not None
        assert row.token_ids == stored[row.path_id].token_ids
        assert row.completion == stored[row.path_id].text


def test_an_adapter_can_be_exported(finished: tuple[Project, Json], tmp_path: Path) -> None:
    project, _ = finished
    done = command(
        "export", "adapter", project.folder, "--out", tmp_path, "--model", "pebble-l/lmsi"
    )
    assert done.returncode == 0, done.stderr
    exported = tmp_path / "pebble-l-lmsi"
    names = {path.name for path in exported.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "adapter.gguf"} <= names
    assert str(project.folder) not in (exported / "adapter_config.json").read_text()


def test_llama_cpp_and_transformers_agree_after_training(
    finished: tuple[Project, Json],
) -> None:
    from engine.inference.backend import Sampling
    from engine.inference.engine_selection import open_fastest
    from engine.inference.prompt_lengths import SequenceLengths
    from engine.project.settings import Engine, ModelSettings
    from engine.prompting.tasks import exemplars_for
    from engine.prompting.templates import render
    from tests.engine.tiny import ListSource, requests

    project, _ = finished
    settings = project.settings.sample
    with connect(project.database, read_only=True) as conn:
        model = models.by_name(conn, "pebble-l/lmsi")
        measured = questions.by_split(conn, Split.EVAL)[:10]
    assert model is not None
    texts: list[dict[str, str]] = []
    for engine in (Engine.TRANSFORMERS, Engine.LLAMA_CPP):
        extent = SequenceLengths(prompt=256, path=256)
        backend = open_fastest(project, model, ModelSettings(engine=engine), extent).backend
        exemplars = exemplars_for(project, settings, "pebble")
        prompts = [
            backend.tokenize(render(question, settings.format, PromptStyle.BASE, exemplars).text)
            for question in measured
        ]
        greedy = Sampling(temperature=0.0, max_tokens=100, stop=("\nQ:",))
        source = ListSource(requests(prompts, paths=1))
        texts.append({path.question: path.text for path in backend.sample(source, greedy)})
        backend.close()
    assert texts[0] == texts[1]
