"""Prompts that are too long for a model's context are found before anything is sampled."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.demo.project import MODELS
from engine.inference import rendered_prompt
from engine.jobs import pilot, sample, stages
from engine.project.folder import open_project
from engine.prompting.templates import Prompt
from engine.sampling import context_check
from lmsi_tui.cli.main import run
from store import paths, questions
from store.connection import connect
from store.enums import JobKind, PromptStyle, Split
from store.errors import BadInput
from tests.projects import claimed, scripted_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.folder import Project

LONG = "Tom has 2 apples and Ann has 3 more than Tom. " * 6 + "How many are there?"
SHORT = "How much is 2 + 3?"


@contextmanager
def project_with(
    folder: Path, texts: list[str], max_tokens: int
) -> Iterator[tuple[Project, sqlite3.Connection]]:
    """A project whose model has a context of 384 tokens, with these questions in both splits."""
    made = folder / "p"
    settings = [f"sample.max_tokens={max_tokens}", "sample.format=zero-shot-cot"]
    options = [word for setting in settings for word in ("--set", setting)]
    model = MODELS / "pebble-s" / "pebble-s.gguf"
    assert run(["init", str(made), "--model", str(model), *options]) == 0
    for split in Split.POOL, Split.EVAL:
        file = folder / f"{split}.jsonl"
        rows = [{"question": f"{text} ({split})", "answer": "5"} for text in texts]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        options = ["--task", "number", "--split", split, "--project", str(made)]
        assert run(["import", str(file), *options]) == 0
    project = open_project(made)
    with connect(project.database) as conn:
        yield project, conn


def test_a_plan_names_the_longest_prompt_and_what_to_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with project_with(tmp_path, [SHORT, LONG], 300) as (project, conn):
        problems = []
        for kind in (JobKind.SAMPLE, JobKind.EVALUATE, JobKind.ROUND):
            problem = stages.plan(conn, project, kind, project.settings).problem
            assert problem is not None
            assert "Tom has 2 apples" in problem
            assert "384" in problem
            problems.append(problem)
        most = int(problems[0].partition("at most ")[2].partition(",")[0])
        settings = replace(
            project.settings, sample=replace(project.settings.sample, max_tokens=most)
        )
        # The lengths are known: no other process counts them again.
        monkeypatch.setattr(context_check, "render_prompts", None)
        assert stages.plan(conn, project, JobKind.SAMPLE, settings).problem is None


def test_prompts_that_fit_by_their_bytes_are_not_tokenized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context_check, "render_prompts", None)
    monkeypatch.setattr(context_check, "TEMPLATE_BYTES", 0)
    with project_with(tmp_path, [SHORT], 300) as (project, conn):
        assert stages.plan(conn, project, JobKind.SAMPLE, project.settings).problem is None


def test_a_pilot_says_it_before_it_samples(tmp_path: Path) -> None:
    with project_with(tmp_path, [SHORT, LONG], 300) as (project, conn):
        work = claimed(conn, project, JobKind.EVALUATE, pilot=2)
        with pytest.raises(BadInput, match="Tom has 2 apples"):
            pilot.run(work)
        assert not paths.runs(conn)


def test_the_longest_prompt_is_checked_before_the_first_path(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "p")
    script = project.folder / "models" / "script.json"
    written = json.loads(script.read_text())
    with connect(project.database) as conn:
        longest = max(len(each.text) for each in questions.by_split(conn, Split.POOL))
        work = claimed(conn, project, JobKind.SAMPLE)
        script.write_text(json.dumps(written | {"context": longest + 200}))
        with pytest.raises(BadInput, match="longest prompt"):
            sample.run(work)
        (begun,) = paths.runs(conn)
        assert not paths.has_any(conn, begun.id)


def test_prompts_are_counted_together_as_one_by_one() -> None:
    model = MODELS / "pebble-s" / "pebble-s.gguf"
    prompts = [Prompt(f"Q: {text}\nA:", PromptStyle.BASE, 0) for text in (SHORT, LONG)]
    together = rendered_prompt.render_prompts(model, prompts)
    assert together == [rendered_prompt.render_prompt(model, prompt) for prompt in prompts]


def test_the_longest_questions_of_each_task_are_found(tmp_path: Path) -> None:
    with project_with(tmp_path, [SHORT, LONG, LONG + "?"], 100) as (_, conn):
        (found,) = questions.longest(conn, Split.POOL, 1)
        assert found.text == f"{LONG}? (pool)"
        assert len(questions.longest(conn, Split.POOL, 2)) == 2
