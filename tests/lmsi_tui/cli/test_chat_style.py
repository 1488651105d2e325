"""Chat style from the command line: what is told before sampling, and what is refused."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from engine.inference.chat_template import layout_in
from engine.inference.template_process import TODAY
from engine.jobs import stages
from engine.jobs.sample import sample_pool
from engine.project.folder import Project, open_project
from engine.project.settings import changed
from engine.sampling import runs, scheduler
from lmsi_tui.cli import doctor
from lmsi_tui.cli.main import run
from store import inference_sessions, models, paths, questions
from store.connection import connect
from store.enums import EndReason, JobKind, Split
from store.errors import BadInput
from store.records import Reading, ReasoningPath
from tests.engine.chat_shapes import GEMMA_2, PARTS, SMOLLM_3
from tests.engine.tiny import tiny_model
from tests.projects import claimed

if TYPE_CHECKING:
    from pathlib import Path

NOTE = "takes no system turn"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny", context=512)


def a_project(folder: Path, model: Path, template: str) -> Project:
    """A project in chat style for a model with this template, with one question."""
    copied = folder / "model"
    copied.mkdir()
    for file in model.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    (copied / "chat_template.jinja").write_text(template)
    question = folder / "q.jsonl"
    question.write_text('{"question": "What is 2 + 2?"}\n')
    made = folder / "p"
    chat = ["--set", "sample.style=chat", "--set", "sample.format=zero-shot-cot"]
    assert run(["init", str(made), "--model", str(copied), *chat]) == 0
    assert run(["import", str(question), "--task", "number", "--project", str(made)]) == 0
    return open_project(made)


def test_where_the_system_text_goes_is_told_before_sampling(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = a_project(tmp_path, model, GEMMA_2)
    capsys.readouterr()
    new = ["init", str(tmp_path / "new"), "--model", str(tmp_path / "model"), "--preview"]
    assert run(new) == 0
    assert NOTE in capsys.readouterr().out
    assert run([*new, "--json"]) == 0
    assert NOTE in json.loads(capsys.readouterr().out)["chat_note"]
    checks = {check.name: check.says for check in doctor._project(project.folder)}
    assert NOTE in checks["chat template of model/base"]
    with connect(project.database, read_only=True) as conn:
        planned = stages.plan(conn, project, JobKind.SAMPLE, project.settings)
    assert planned.problem is None
    assert any(NOTE in note for note in planned.notes)


def test_a_template_without_the_question_is_refused_in_the_plan(
    tmp_path: Path, model: Path
) -> None:
    project = a_project(tmp_path, model, "{{ messages[0].role }}")
    with connect(project.database, read_only=True) as conn:
        planned = stages.plan(conn, project, JobKind.SAMPLE, project.settings)
    assert planned.problem is not None
    assert "the question" in planned.problem
    checks = {check.name: check.ok for check in doctor._project(project.folder)}
    assert not checks["chat template of model/base"]


def test_paths_of_prompts_without_a_question_are_not_counted(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = a_project(tmp_path, model, PARTS)
    with connect(project.database) as conn:
        work = claimed(conn, project, JobKind.SAMPLE)
        (teacher,) = models.all_of(conn)
        begun = runs.open_pool_run(work, teacher)
        (question,) = questions.by_split(conn, Split.POOL)
        path = ReasoningPath(0, 0, question.id, 0, "9", (1,), EndReason.END, time.time())
        paths.add(conn, begun.id, [path], [Reading(0, "number/1", "9", "9", None)])
        with pytest.raises(BadInput, match=r"sample\.seed"):
            sample_pool(work, teacher)
        # Paths of sessions that gave the template parts are right.
        layout = layout_in(project.inside(teacher.location)).name
        inference_sessions.add(conn, [begun.id], "transformers", "", {"chat_layout": layout})
        monkeypatch.setattr(scheduler, "sample", lambda *args, **kwargs: None)
        assert sample_pool(work, teacher)["paths"] == 1


@pytest.mark.slow
def test_the_prompt_is_printed_as_the_model_gets_it(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = a_project(tmp_path, model, SMOLLM_3)
    capsys.readouterr()
    assert run(["prompt", str(project.folder)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("<|im_start|>system\n")
    assert TODAY.strftime("%d %B %Y") in printed.out
    assert "<|im_start|>user\nWhat is 2 + 2?<|im_end|>" in printed.out
    assert printed.out.endswith("<|im_start|>assistant\nLet's think step by step.\n")
    assert printed.err.endswith(" tokens.\n")
    # Plain text is printed as before.
    assert run(["prompt", str(project.folder), "--set", "sample.style=base"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "Q: What is 2 + 2?\nA: Let's think step by step.\n"
    assert printed.err.endswith(" tokens.\n")


def test_a_plain_prompt_is_printed_without_the_model(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = a_project(tmp_path, model, GEMMA_2)
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    capsys.readouterr()
    assert run(["prompt", str(project.folder), "--set", "sample.style=base"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "Q: What is 2 + 2?\nA: Let's think step by step.\n"
    assert "no model at" in printed.err
    assert run(["prompt", str(project.folder)]) == 2
    assert "no model at" in capsys.readouterr().err


def test_a_path_longer_than_the_context_is_refused_in_the_plan(tmp_path: Path, model: Path) -> None:
    project = a_project(tmp_path, model, GEMMA_2)
    for tokens, fits in ((200, True), (511, False), (512, False)):
        settings = changed(project.settings, {"sample": {"max_tokens": tokens}})
        with connect(project.database, read_only=True) as conn:
            problem = stages.plan(conn, project, JobKind.SAMPLE, settings).problem
        assert (problem is None) == fits
        assert problem is None or "sample.max_tokens" in problem
