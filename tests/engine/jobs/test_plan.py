"""A plan, compared with what the job then does."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.demo.project import make_demo
from engine.jobs import evaluate, job_settings, memory_estimate, plan, sample, stages
from engine.project.folder import create_project
from engine.project.setting_help import help_texts
from engine.project.settings import Engine, Settings, TrainSettings, changed
from store import examples, jobs, models, paths
from store.connection import connect, transaction
from store.enums import JobKind, JobState, Phase
from store.schema import ensure_schema
from tests.projects import claimed, scripted_project
from tests.seed import POOL, STUDENT, TEACHER, running, seeded_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.folder import Project


@pytest.fixture
def story(tmp_path: Path) -> Iterator[tuple[Project, sqlite3.Connection]]:
    """The story, with its store."""
    project = seeded_project(tmp_path / "story")
    with connect(project.database) as conn:
        yield project, conn


def planned(
    conn: sqlite3.Connection, project: Project, kind: JobKind, **changes: dict[str, object]
) -> plan.Plan:
    return stages.plan(conn, project, kind, changed(project.settings, changes))


def paths_sampled_by(conn: sqlite3.Connection, project: Project, kind: JobKind) -> int:
    """Number of paths that a job of this kind samples when it runs."""
    before = sum(paths.counts(conn, run.id).paths for run in paths.runs(conn))
    work = claimed(conn, project, kind)
    {JobKind.SAMPLE: sample.run, JobKind.EVALUATE: evaluate.run}[kind](work)
    with transaction(conn):
        jobs.finish(conn, work.progress.job_id, JobState.DONE, "done", None, {})
    return sum(paths.counts(conn, run.id).paths for run in paths.runs(conn)) - before


# Settings.


def test_every_setting_has_a_meaning() -> None:
    settings = Settings()
    for section in dataclasses.fields(settings):
        for field in dataclasses.fields(getattr(settings, section.name)):
            text = help_texts()[section.name, field.name]
            assert text.strip(), (section.name, field.name)
            assert "\n" not in text


NEEDS_ANOTHER = {
    ("curate.weighting", "by-agreement"),
    ("curate.counting", "weighted"),
    ("curate.counting", "soft"),
    ("model.engine", "server"),
}
"""Choices that are refused while another setting is as it is."""


@pytest.mark.parametrize("kind", list(JobKind))
def test_the_settings_that_matter_exist_and_can_be_set_to_what_they_are(kind: JobKind) -> None:
    settings = Settings()
    for setting in job_settings.settings_of(settings, kind):
        value = list(setting.value) if isinstance(setting.value, tuple) else setting.value
        assert changed(settings, {setting.section: {setting.name: value}}) == settings
        for choice in setting.choices:
            new_value = {"true": True, "false": False}.get(choice, choice)
            if (setting.path, choice) not in NEEDS_ANOTHER:
                changed(settings, {setting.section: {setting.name: new_value}})


# Sampling.


@pytest.mark.parametrize("rule", ["off", "exact", "fast"])
def test_a_new_sampling_stays_within_the_planned_bounds(tmp_path: Path, rule: str) -> None:
    project = scripted_project(tmp_path / "p", changes={"sample": {"early_stop": rule}})
    with connect(project.database) as conn:
        made = planned(conn, project, JobKind.SAMPLE)
        assert made.problem is None
        assert made.questions == 12
        assert made.paths is not None
        assert not made.reused
        assert made.paths[1] == 12 * 8
        assert made.paths[0] <= paths_sampled_by(conn, project, JobKind.SAMPLE) <= made.paths[1]
        again = planned(conn, project, JobKind.SAMPLE)
        assert again.paths == (0, 0)
        assert "stored" in again.reused[0]


@pytest.mark.parametrize(
    "changes", [{"m": 20}, {"early_stop": "off"}, {"threshold": "0.9"}, {"cap": 0}, {"m": 4}]
)
def test_a_sampling_after_a_change_stays_within_the_planned_bounds(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    project = scripted_project(tmp_path / "p")
    with connect(project.database) as conn:
        paths_sampled_by(conn, project, JobKind.SAMPLE)
        made = planned(conn, project, JobKind.SAMPLE, sample=changes)
        assert made.paths is not None
        least, most = made.paths
        other = replace(project, settings=changed(project.settings, {"sample": changes}))
        assert least <= paths_sampled_by(conn, other, JobKind.SAMPLE) <= most


def test_another_temperature_is_another_run(story: tuple[Project, sqlite3.Connection]) -> None:
    project, conn = story
    made = planned(conn, project, JobKind.SAMPLE, sample={"temperature": 1.0, "early_stop": "off"})
    assert made.paths == (POOL * 16, POOL * 16)
    assert not made.reused


def test_the_time_comes_from_the_rate_that_was_measured_last(
    story: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = story
    with transaction(conn):
        last = [job for job in jobs.all_of(conn) if job.kind is JobKind.SAMPLE][-1]
        jobs.metrics_add(conn, last.id, 10**6, {"paths_per_second": 2.0})
    made = planned(conn, project, JobKind.SAMPLE, sample={"early_stop": "off"})
    assert made.paths is not None
    assert made.paths[0] == made.paths[1] > 0
    assert made.seconds == (made.paths[0] / 2, made.paths[1] / 2)
    with transaction(conn):
        conn.execute("DELETE FROM metric")
    assert planned(conn, project, JobKind.SAMPLE, sample={"early_stop": "off"}).seconds is None


def test_a_rate_belongs_to_its_model_and_not_to_a_similar_name(
    story: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = story
    base = models.by_name(conn, f"{TEACHER}/base")
    assert base is not None
    with transaction(conn):
        similar = models.add(conn, replace(base, name=TEACHER, sha256="another"))
        job = running(conn, JobKind.SAMPLE)
        jobs.enter(conn, job.id, Phase.SAMPLING, None, base.id)
        jobs.progress(conn, job.id, 1, 2, f"sampling {base.name}")
        jobs.metrics_add(conn, job.id, 1, {"paths_per_second": 2.0})
        jobs.finish(conn, job.id, JobState.CANCELLED, f"sampling {base.name}", None, {})
    of_base = planned(conn, project, JobKind.SAMPLE, sample={"early_stop": "off"})
    assert of_base.seconds is not None
    other = planned(
        conn,
        project,
        JobKind.SAMPLE,
        model={"teacher": similar.name},
        sample={"early_stop": "off"},
    )
    assert other.problem is None
    assert other.seconds is None, f"{TEACHER} is another model than {base.name}"


# Training.


def test_a_training_set_is_planned_by_its_votes(story: tuple[Project, sqlite3.Connection]) -> None:
    project, conn = story
    kept = {
        threshold: planned(conn, project, JobKind.CURATE, sample={"threshold": threshold}).kept
        for threshold in ("0.3", "0.6", "1")
    }
    assert kept["0.6"] == (26, 26)
    assert kept["0.3"] is not None
    assert kept["1"] is not None
    assert kept["0.3"][0] >= 26 >= kept["1"][0]


def test_a_fine_tuning_is_planned_from_files(tmp_path: Path) -> None:
    project = make_demo(tmp_path / "demo", pool=3, evaluation=3)
    with connect(project.database) as conn:
        made = planned(conn, project, JobKind.FINETUNE)
        assert made.problem is not None
        assert "lmsi-tui curate" in made.problem
        assert made.first is JobKind.CURATE
        base = models.by_name(conn, "pebble-l/base")
        assert base is not None
        assert base.parameters is not None
        full = TrainSettings(method="full")
        parts = {
            part.name: part.size for part in memory_estimate.of_training(project, base, full, 1000)
        }
        assert parts["weights"] == 4 * base.parameters
        assert parts["optimizer"] == 8 * base.parameters
        assert parts["activations"] > 0
        lora = memory_estimate.of_training(project, base, TrainSettings(rank=8), 1000)
        wide = memory_estimate.of_training(project, base, TrainSettings(rank=16), 1000)
        assert 2 * _size(lora, "adapter") == _size(wide, "adapter")
        assert _size(lora, "optimizer") < parts["optimizer"]
        sampled = memory_estimate.of_sampling(project, base, Engine.TRANSFORMERS, 64, 200, 100)
        assert _size(sampled, "weights") == sum(
            file.stat().st_size
            for file in (project.folder / "models/pebble-l").glob("*.safetensors")
        )
        kept = "KV cache"
        assert _size(sampled, kept) == 64 * 100 * 2 * 4 * 32 * 4
        unshared = memory_estimate.of_sampling(project, base, Engine.LLAMA_CPP, 64, 200, 100)
        assert _size(unshared, kept) == 3 * _size(sampled, kept)
        assert memory_estimate.of_sampling(project, base, Engine.SCRIPTED, 64, 200, 100) == ()


def _size(parts: tuple[memory_estimate.Part, ...], name: str) -> int:
    return next(part.size for part in parts if part.name == name)


def test_the_sizes_of_a_lora_adapter_are_those_that_peft_makes(tmp_path: Path) -> None:
    from engine.training import loss
    from engine.training.model import RECOMPUTE_FROM, load_model

    project = make_demo(tmp_path / "demo", pool=1, evaluation=1)
    with connect(project.database) as conn:
        base = models.by_name(conn, "pebble-l/base")
    assert base is not None
    settings = TrainSettings(rank=8)
    loaded = load_model(project.inside(base.location), settings)
    learnt = sum(weight.numel() for weight in loaded.weights.values())
    parts = memory_estimate.of_training(project, base, settings, 1000)
    assert _size(parts, "adapter") == pytest.approx(4 * learnt, rel=0.1)
    assert memory_estimate.RECOMPUTE_FROM == RECOMPUTE_FROM
    assert memory_estimate.HEAD_BYTES == 4 * loss.HEAD_LOGITS


def test_a_training_that_was_done_is_found_again(tmp_path: Path) -> None:
    project = _trainable(tmp_path)
    with connect(project.database) as conn:
        frozen = examples.sets(conn)[-1]
        base = models.by_name(conn, f"{TEACHER}/base")
        assert base is not None
        made = planned(conn, project, JobKind.FINETUNE)
        assert made.problem is None
        assert (made.examples, made.questions) == (frozen.examples, frozen.questions)
        assert made.steps is not None
        assert made.steps > 0
        assert frozen.key[:12] in made.reused[0]
        assert made.seconds is not None
        from engine.models.identity import recipe
        from store.enums import Stage

        name = recipe(base, frozen.key, Stage.LMSI, project.settings.finetune)
        (project.folder / "adapters" / f"{name}.unfinished").mkdir(parents=True)
        assert "checkpoint" in planned(conn, project, JobKind.FINETUNE).reused[1]
        conn.execute(
            "UPDATE model SET adapter = ? WHERE name = ?", [f"adapters/{name}", f"{TEACHER}/lmsi"]
        )
        done = planned(conn, project, JobKind.FINETUNE)
        assert f"{TEACHER}/lmsi" in done.reused[1]
        assert done.seconds == (0, 0)
        assert planned(conn, project, JobKind.FINETUNE, finetune={"rank": 4}).reused[1:] == ()


def test_twice_the_epochs_take_twice_the_steps_and_the_time(tmp_path: Path) -> None:
    project = _trainable(tmp_path)
    with connect(project.database) as conn:
        two_epochs = planned(conn, project, JobKind.FINETUNE, finetune={"epochs": 2})
        four_epochs = planned(conn, project, JobKind.FINETUNE, finetune={"epochs": 4})
        assert two_epochs.steps is not None
        assert four_epochs.steps == pytest.approx(2 * two_epochs.steps, abs=1)
        assert two_epochs.seconds is not None
        assert four_epochs.seconds is not None
        assert four_epochs.seconds[0] == pytest.approx(2 * two_epochs.seconds[0])


def test_a_distillation_is_planned_for_every_student(tmp_path: Path) -> None:
    project = _trainable(tmp_path)
    with connect(project.database) as conn:
        made = planned(conn, project, JobKind.DISTILL)
        assert made.problem is None
        assert made.models == (f"{STUDENT}/base",)
        none = planned(conn, project, JobKind.DISTILL, model={"students": []})
        assert none.problem is not None
        assert f"{STUDENT}/base" in none.problem
        unknown = planned(conn, project, JobKind.DISTILL, model={"students": ["nobody"]})
        assert unknown.problem is not None
        assert "'nobody'" in unknown.problem
        assert unknown.settings


def _trainable(tmp_path: Path) -> Project:
    """The story with folders where its models lie, as if they were Hugging Face's."""
    project = seeded_project(tmp_path / "story")
    for name in (TEACHER, STUDENT):
        folder = project.folder / "models" / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"hidden_size": 64}))
    settings = replace(
        project.settings, model=replace(project.settings.model, engine=Engine.SCRIPTED)
    )
    with connect(project.database) as conn:
        for name in (TEACHER, STUDENT):
            conn.execute(
                "UPDATE model SET location = ? WHERE name = ?", [f"models/{name}", f"{name}/base"]
            )
    return replace(project, settings=settings)


# Measuring.


def test_a_measurement_samples_exactly_what_was_planned(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "p")
    with connect(project.database) as conn:
        made = planned(conn, project, JobKind.EVALUATE)
        assert made.problem is None
        assert made.questions == 8
        assert made.paths == (8 * 6, 8 * 6)
        assert paths_sampled_by(conn, project, JobKind.EVALUATE) == 8 * 6
        assert planned(conn, project, JobKind.EVALUATE).paths == (0, 0)
        assert planned(conn, project, JobKind.EVALUATE, evaluate={"k": 6}).paths == (16, 16)
        assert planned(conn, project, JobKind.EVALUATE, evaluate={"limit": 2}).paths == (0, 0)


def test_chosen_models_alone_are_measured(story: tuple[Project, sqlite3.Connection]) -> None:
    project, conn = story
    settings = changed(project.settings, {"evaluate": {"seed": 5}})
    chosen = stages.plan(conn, project, JobKind.EVALUATE, settings, chosen=[f"{TEACHER}/base"])
    everyone = stages.plan(conn, project, JobKind.EVALUATE, settings)
    assert chosen.models == (f"{TEACHER}/base",)
    assert chosen.paths is not None
    # The greedy paths have a seed of their own, too.
    assert everyone.paths == (4 * chosen.paths[0], 4 * chosen.paths[1])


def test_the_first_round_is_planned(tmp_path: Path) -> None:
    project = make_demo(tmp_path / "demo", pool=5, evaluation=4)
    with connect(project.database) as conn:
        made = planned(conn, project, JobKind.ROUND, evaluate={"ood": False})
    assert made.problem is None
    assert made.models == ("pebble-l/base", "pebble-m/base", "pebble-s/base")
    assert made.could_show.startswith("With 4 evaluation questions")
    assert made.paths is not None
    measured = 2 * 3 * 4 * (2 + 8)
    assert made.paths[1] == 5 * 32 + measured
    assert made.needs > 0
    assert made.available is not None
    assert made.seconds is None


def test_the_plan_of_a_round_without_known_answers_says_that_nothing_is_tested(
    tmp_path: Path,
) -> None:
    project = make_demo(tmp_path / "demo", pool=5, evaluation=4)
    with connect(project.database) as conn:
        conn.execute("PRAGMA foreign_keys = OFF")
        conn.execute("DROP TRIGGER gold_is_not_deleted")
        conn.execute("DELETE FROM gold")
        conn.execute("DELETE FROM question WHERE split <> 'pool'")
        made = planned(conn, project, JobKind.ROUND)
    assert made.problem is None
    assert "no test can accept this round" in made.could_show


# What is not there.


@pytest.mark.parametrize("kind", list(JobKind))
def test_an_empty_project_says_what_is_missing(tmp_path: Path, kind: JobKind) -> None:
    project = create_project(tmp_path / "empty", Settings())
    ensure_schema(project.database)
    with connect(project.database) as conn:
        made = planned(conn, project, kind)
    assert made.problem is not None
    assert made.problem.endswith(".")
    assert made.settings == job_settings.settings_of(project.settings, kind)


PROBLEMS: list[tuple[JobKind, str, str]] = [
    (JobKind.SAMPLE, "DELETE FROM question WHERE split = 'pool'", "The pool is empty"),
    (JobKind.EVALUATE, "DELETE FROM question WHERE split = 'eval'", "no evaluation questions"),
    (JobKind.SAMPLE, "DELETE FROM model", "There is no model named"),
    (JobKind.FINETUNE, "UPDATE model SET location = 'http://x/v1#y'", "is a server"),
    (JobKind.FINETUNE, "SELECT 1", "no weights to train"),
]


@pytest.mark.parametrize(
    ("kind", "change", "words"), PROBLEMS, ids=[problem[2] for problem in PROBLEMS]
)
def test_a_problem_is_one_sentence(tmp_path: Path, kind: JobKind, change: str, words: str) -> None:
    project = scripted_project(tmp_path / "p")
    with connect(project.database) as conn:
        conn.execute("PRAGMA foreign_keys = OFF")
        for trigger in ("gold_is_not_deleted",):
            conn.execute(f"DROP TRIGGER {trigger}")
        conn.execute(change)
        made = planned(conn, project, kind)
    assert made.problem is not None
    assert words in made.problem
    assert made.paths is None


def test_a_vote_needs_paths(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "p")
    with connect(project.database) as conn:
        made = planned(conn, project, JobKind.VOTE)
        assert made.first is JobKind.SAMPLE
        paths_sampled_by(conn, project, JobKind.SAMPLE)
        again = planned(conn, project, JobKind.VOTE)
        assert again.problem is None
        assert again.paths == (0, 0)


def test_an_engine_that_cannot_read_the_model_is_a_problem(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "p")
    with connect(project.database) as conn:
        made = planned(conn, project, JobKind.SAMPLE, model={"engine": "llama.cpp"})
    assert made.problem is not None
    assert "no GGUF" in made.problem


def test_planning_writes_nothing(story: tuple[Project, sqlite3.Connection]) -> None:
    project, _ = story
    with connect(project.database, read_only=True) as reader:
        for kind in JobKind:
            stages.plan(reader, project, kind, project.settings)
        assert len(paths.runs(reader)) == len(paths.runs(story[1]))


def test_a_job_without_a_model_gives_no_rate(story: tuple[Project, sqlite3.Connection]) -> None:
    project, conn = story
    conn.execute("UPDATE job SET model_id = NULL")
    made = planned(conn, project, JobKind.SAMPLE, sample={"early_stop": "off"})
    assert made.problem is None
    assert made.seconds is None
