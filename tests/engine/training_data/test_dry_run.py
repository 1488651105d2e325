"""Dry run: it shows tokens and labels before a training, and lists examples that are too long."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.jobs import curate, sample, stages
from engine.project.settings import changed
from engine.training_data.dry_run import LISTED, SHOWN, dry_run
from store import examples, models
from store.connection import connect, transaction
from store.enums import JobKind
from tests.engine.tiny import tiny_model
from tests.projects import claimed, command, scripted_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.folder import Project

STUDENT = "tiny/base"


@pytest.fixture
def curated(tmp_path: Path) -> Iterator[tuple[Project, sqlite3.Connection]]:
    """A curated set, and a student whose context is too short for some examples."""
    from engine.models.identity import base_model
    from engine.project.folder import open_project, save_settings

    project = scripted_project(tmp_path / "p")
    save_settings(project.folder, changed(project.settings, {"model": {"students": [STUDENT]}}))
    project = open_project(project.folder)
    base = tiny_model(project.folder / "models" / "tiny", context=64)
    with connect(project.database) as conn:
        with transaction(conn):
            models.add(conn, base_model(project, STUDENT, base))
        work = claimed(conn, project, JobKind.CURATE)
        sample.run(work)
        curate.run(work)
        yield project, conn


def test_examples_are_shown_as_tokens_and_labels_and_long_ones_are_listed(
    curated: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = curated
    frozen = examples.sets(conn)[-1]
    student = models.by_name(conn, STUDENT)
    assert student is not None
    shown = dry_run(conn, project, frozen, student)
    assert shown.reason is None
    assert shown.context == 64
    assert len(shown.shown) == SHOWN
    assert len({example.prompt_format for example in shown.shown}) == SHOWN
    rows = {row.position: row for row in examples.examples(conn, frozen.key)}
    for example in shown.shown:
        assert "".join(example.prompt) == rows[example.position].prompt
        assert "".join(example.completion) == rows[example.position].completion + "<|end|>"
    counted = examples.encodings(conn, frozen.key, student.tokenizer_sha256, rows)
    long = [
        position
        for position, encoding in counted.items()
        if encoding.prompt_tokens + encoding.completion_tokens > 64
    ]
    assert 0 < len(long) < len(rows)
    assert shown.too_long == len(long)
    assert [position for position, _ in shown.longest] == sorted(long)[:LISTED]
    assert all(tokens > 64 for _, tokens in shown.longest)


def test_a_setting_decides_whether_long_examples_are_left_out_or_refused(
    curated: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = curated
    leaving_out = stages.plan(conn, project, JobKind.DISTILL, project.settings)
    assert leaving_out.problem is None
    refusing = changed(project.settings, {"distill": {"too_long": "refuse"}})
    problem = stages.plan(conn, project, JobKind.DISTILL, refusing).problem
    assert problem is not None
    assert "examples are longer than the 64 tokens of tiny/base: set too_long to" in problem


def test_the_plan_reports_that_teacher_logits_cannot_be_used(
    curated: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = curated
    wished = changed(project.settings, {"distill": {"top_k_logits": 8}})
    problem = stages.plan(conn, project, JobKind.DISTILL, wished).problem
    assert problem is not None
    assert "has another tokenizer than its teacher scripted/base" in problem


def test_missing_token_counts_are_reported(
    curated: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = curated
    student = models.by_name(conn, STUDENT)
    assert student is not None
    other = replace(student, tokenizer_sha256="never counted")
    shown = dry_run(conn, project, examples.sets(conn)[-1], other)
    assert shown.reason is not None
    assert "tokens of tiny/base" in shown.reason
    assert "`lmsi-tui curate`" in shown.reason


def test_the_command_prints_the_plan_and_starts_nothing(
    curated: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = curated
    before = conn.execute("SELECT count(*) FROM job").fetchone()
    done = command("distill", project.folder, "--plan")
    assert done.returncode == 0, done.stderr
    for text in ("<|end|>", "100 examples exceed the 64 tokens", "  loss     ", "time"):
        assert text in done.stdout
    event = json.loads(command("distill", project.folder, "--plan", "--json").stdout)
    assert event["looked"][0]["too_long"] > 0
    refused = command("finetune", project.folder, "--plan")
    assert refused.returncode == 2
    assert "scripted/base" in refused.stderr
    assert conn.execute("SELECT count(*) FROM job").fetchone() == before
