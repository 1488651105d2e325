"""Distillation to students of other families: own tokenizers, styles and files, all the way."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.conversion.export import export
from engine.conversion.hf_to_gguf import convert_base
from engine.jobs import curate, evaluate, sample, train
from engine.models.identity import base_model
from engine.project.settings import Engine, changed
from engine.training_data.dry_run import dry_run
from engine.training_data.student_prompts import in_style, tokens_key, training_style
from store import examples, models, paths
from store.connection import connect, transaction
from store.enums import JobKind, PromptFormat, PromptStyle, Split, Stage
from store.errors import BadInput
from tests.engine.tiny import tiny_model
from tests.projects import TEACHER, claimed, scripted_project

if TYPE_CHECKING:
    import sqlite3

    from engine.project.folder import Project
    from engine.project.job_context import Work
    from store.records import Model

PLAIN, CHAT, FILE = "plain/base", "chat/base", "file/base"
STUDENTS = (PLAIN, CHAT, FILE)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A scripted teacher with a training set; students: a folder without chat template, one with,
    and a GGUF file with a chat template."""
    folder = tmp_path_factory.mktemp("distillation")
    scripted = scripted_project(folder / "project", pool=4, evaluation=2)
    scripted = replace(
        scripted,
        settings=changed(
            scripted.settings,
            {
                "model": {"students": list(STUDENTS)},
                "distill": {"method": "lora", "epochs": 1.0, "examples_per_step": 64},
                "evaluate": {"k": 2},
            },
        ),
    )
    plain = tiny_model(folder / "plain", context=1024)
    chat = tiny_model(
        folder / "chat", family="qwen2", chat=True, context=1024, seed=1, vocab_size=528
    )
    file = folder / "student.gguf"
    convert_base(chat, file)
    with connect(scripted.database) as conn:
        with transaction(conn):
            for name, location in zip(STUDENTS, (plain, chat, file), strict=True):
                models.add(conn, base_model(scripted, name, location))
        sample.run(claimed(conn, scripted, JobKind.SAMPLE))
        curate.run(next_job(conn, scripted, JobKind.CURATE))
    return replace(
        scripted,
        settings=changed(
            scripted.settings,
            {"model": {"engine": Engine.AUTO}, "sample": {"max_tokens": 8}},
        ),
    )


def next_job(conn: sqlite3.Connection, project: Project, kind: JobKind, **params: object) -> Work:
    conn.execute("UPDATE job SET state = 'done'")
    return claimed(conn, project, kind, **params)


def student(conn: sqlite3.Connection, name: str) -> Model:
    stored = models.by_name(conn, name)
    assert stored is not None
    return stored


def test_a_student_is_trained_in_the_style_in_which_it_is_measured(project: Project) -> None:
    with connect(project.database, read_only=True) as conn:
        (frozen,) = examples.sets(conn)
        styles = {
            name: training_style(conn, project, project.settings, frozen, student(conn, name))
            for name in (TEACHER, *STUDENTS)
        }
    assert styles == {
        TEACHER: PromptStyle.BASE,
        PLAIN: PromptStyle.BASE,
        CHAT: PromptStyle.CHAT,
        FILE: PromptStyle.CHAT,
    }


def test_prompts_and_paths_take_the_style_of_the_student(project: Project) -> None:
    with connect(project.database, read_only=True) as conn:
        (frozen,) = examples.sets(conn)
        rows = examples.examples(conn, frozen.key)
        same = in_style(conn, project, project.settings, rows, frozen, PromptStyle.BASE)
        chats = in_style(conn, project, project.settings, rows, frozen, PromptStyle.CHAT)
    assert same == rows
    for row, chat in zip(rows, chats, strict=True):
        assert chat.prompt.startswith('[["system", ')
        assert chat.completion.strip() == row.completion.strip()
        assert (chat.weight, chat.path_id) == (row.weight, row.path_id)
        assert chat.token_ids == ()
        opened = chat.prompt_format is PromptFormat.ZERO_SHOT_COT
        assert chat.completion.startswith(" ") == opened


def test_the_tokens_are_counted_as_the_student_sees_them(project: Project) -> None:
    with connect(project.database, read_only=True) as conn:
        (frozen,) = examples.sets(conn)
        chat, plain = student(conn, CHAT), student(conn, PLAIN)
        key = tokens_key(conn, project, project.settings, frozen, chat)
        encodings = examples.encodings(conn, frozen.key, key, range(frozen.examples))
        seen = dry_run(conn, project, frozen, chat)
        assert tokens_key(conn, project, project.settings, frozen, plain) == plain.tokenizer_sha256
    assert len(encodings) == frozen.examples
    assert seen.reason is None
    for shown in seen.shown:
        prompt, completion = "".join(shown.prompt), "".join(shown.completion)
        assert prompt.startswith("<|turn|>system\n")
        assert "<|turn|>assistant\n" in prompt
        assert completion.endswith("<|end|>"), "the student learns to end its turn"
        assert not completion.startswith("\n")


def test_students_are_trained_measured_and_exported_with_their_own_files(
    project: Project,
) -> None:
    with connect(project.database) as conn:
        planned = train.plan_distill(conn, project)
        assert [note.split()[0] for note in planned.notes] == [CHAT, FILE]
        trained = train.distill(next_job(conn, project, JobKind.DISTILL))
        assert set(trained) == set(STUDENTS)
        distilled = [each for each in models.all_of(conn) if each.stage is Stage.DISTILLED]
        assert [each.name for each in distilled] == [
            "plain/distilled",
            "chat/distilled",
            "file/distilled",
        ]
        assert distilled[2].adapter_gguf is not None
        assert project.inside(distilled[2].adapter_gguf).exists()
        again = train.distill(next_job(conn, project, JobKind.DISTILL))
        assert all(result["trained_before"] for result in again.values())  # type: ignore[index]
        names = [each.name for each in distilled]
        evaluate.run(next_job(conn, project, JobKind.EVALUATE, models=names))
        styles = {
            models.by_id(conn, run.model_id).name: run.prompt_style
            for run in paths.runs(conn)
            if run.split is Split.EVAL
        }
        assert styles == {
            "plain/distilled": PromptStyle.BASE,
            "chat/distilled": PromptStyle.CHAT,
            "file/distilled": PromptStyle.CHAT,
        }
        for name in names:
            written = export(project, conn, {"what": "adapter", "model": name})["written"]
            assert project.inside(str(written)).exists()


def test_a_student_of_another_style_cannot_learn_the_tokens_of_its_teacher(
    project: Project,
) -> None:
    settings = changed(
        project.settings, {"distill": {"top_k_logits": 4}, "model": {"students": [CHAT]}}
    )
    with connect(project.database) as conn:
        asked = replace(project, settings=settings)
        with pytest.raises(BadInput, match="style"):
            train.plan_distill(conn, asked)
        with pytest.raises(BadInput, match="style"):
            train.distill(next_job(conn, asked, JobKind.DISTILL))
