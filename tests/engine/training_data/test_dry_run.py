"""Before a training, a person sees the tokens and labels, and what does not fit."""

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
def there(tmp_path: Path) -> Iterator[tuple[Project, sqlite3.Connection]]:
    """A curated set whose student holds few tokens, so that some examples do not fit."""
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


def test_examples_are_shown_as_tokens_and_labels_and_what_is_long_is_listed(
    there: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = there
    frozen = examples.sets(conn)[-1]
    student = models.by_name(conn, STUDENT)
    assert student is not None
    found = dry_run(conn, project, frozen, student)
    assert found.reason is None
    assert found.context == 64
    assert len(found.shown) == SHOWN
    assert len({one.prompt_format for one in found.shown}) == SHOWN
    rows = {one.position: one for one in examples.examples(conn, frozen.key)}
    for one in found.shown:
        assert "".join(one.prompt) == rows[one.position].prompt
        assert "".join(one.completion) == rows[one.position].completion + "<|end|>"
    counted = examples.encodings(conn, frozen.key, student.tokenizer_sha256, rows)
    long = [n for n, one in counted.items() if one.prompt_tokens + one.completion_tokens > 64]
    assert 0 < len(long) < len(rows)
    assert found.too_long == len(long)
    assert [place for place, _ in found.longest] == sorted(long)[:LISTED]
    assert all(tokens > 64 for _, tokens in found.longest)


def test_a_person_decides_what_becomes_of_examples_that_do_not_fit(
    there: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = there
    made = stages.plan(conn, project, JobKind.DISTILL, project.settings)
    assert made.problem is None
    refusing = changed(project.settings, {"distill": {"too_long": "refuse"}})
    problem = stages.plan(conn, project, JobKind.DISTILL, refusing).problem
    assert problem is not None
    assert "examples are longer than the 64 tokens of tiny/base: set too_long to" in problem


def test_the_plan_says_before_that_a_teacher_cannot_be_learnt_from(
    there: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = there
    wished = changed(project.settings, {"distill": {"top_k_logits": 8}})
    problem = stages.plan(conn, project, JobKind.DISTILL, wished).problem
    assert problem is not None
    assert "has another tokenizer than its teacher scripted/base" in problem


def test_tokens_that_were_not_counted_are_told_in_a_sentence(
    there: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = there
    student = models.by_name(conn, STUDENT)
    assert student is not None
    other = replace(student, tokenizer_sha256="never counted")
    found = dry_run(conn, project, examples.sets(conn)[-1], other)
    assert found.reason is not None
    assert "tokens of tiny/base" in found.reason
    assert "`lmsi-tui curate`" in found.reason


def test_the_command_prints_the_plan_and_starts_nothing(
    there: tuple[Project, sqlite3.Connection],
) -> None:
    project, conn = there
    before = conn.execute("SELECT count(*) FROM job").fetchone()
    done = command("distill", project.folder, "--plan")
    assert done.returncode == 0, done.stderr
    for words in ("learns to end with <|end|>", "are left out, none is cut", "  loss     ", "time"):
        assert words in done.stdout
    told = json.loads(command("distill", project.folder, "--plan", "--json").stdout)
    assert told["looked"][0]["too_long"] > 0
    cannot = command("finetune", project.folder, "--plan")
    assert cannot.returncode == 2
    assert "scripted/base" in cannot.stderr
    assert conn.execute("SELECT count(*) FROM job").fetchone() == before
