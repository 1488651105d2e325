"""Hostile text from every source of text, on every screen of the real app."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from engine.jobs import curate, evaluate, sample
from store import examples, jobs, models, paths, questions, votes
from store.connection import connect, transaction
from store.enums import AnswerType, JobKind, JobState, Split
from store.records import Question, content_hash, question_key
from tests.lmsi_tui.driving import driven, settled
from tests.nasty import FORBIDDEN, NASTY
from tests.projects import a_model, claimed, scripted_project
from tests.seed import at_work

if TYPE_CHECKING:
    from textual.app import App
    from textual.pilot import Pilot

    from engine.project.folder import Project

STEPS = {
    "home": [
        "down",
        "down",
        "down",
        "enter",
        "escape",
        "escape",
        "s",
        "escape",
        "question_mark",
        "escape",
    ],
    "review": ["tab", "n", "l", "l", "slash", "escape", "o", "m", "escape", "t", "escape", "b"],
    "training-set": ["down", "down", "tab", "enter", "escape"],
    "results": ["down", "down", "tab", "down", "enter", "escape", "h", "enter", "escape", "escape"],
    "jobs": ["down", "enter", "escape"],
}
"""Keys that open the parts of each screen; their commands are tested elsewhere."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which questions, options, passages, paths, answers, names, job messages and a
    log are hostile; sampled, curated and measured for real by a script."""
    project = scripted_project(
        tmp_path_factory.mktemp("hostile"),
        pool=0,
        evaluation=0,
        changes={"sample": {"m": 4, "threshold": "0", "max_tokens": 6000}, "evaluate": {"k": 2}},
    )
    texts = [text for text in NASTY.values() if "\ufffe" not in text]
    hostile_questions = [
        Question(
            id=0,
            key=question_key("span", f"{split} {text}", (), str(number)),
            split=split,
            source="[/] \x1b[2J set",
            position=number,
            task="span",
            answer_type=AnswerType.SPAN,
            text=f"{number} {split} {text}",
            passage=text,
        )
        for split in (Split.POOL, Split.EVAL)
        for number, text in enumerate(texts)
    ]
    lines = {f" {text} The answer is {text[:40]}.": 1.0 for text in texts}
    script = project.folder / "models" / "hostile.json"
    script.write_text(
        json.dumps(
            {
                "context": 200_000,
                "slots": 4,
                "rules": [{"answers": lines, "texts": ["{answer}"]}],
            }
        )
    )
    name = "[/] \x1b]0;x\x07 model"
    settings = (project.folder / "lmsi.toml").read_text()
    (project.folder / "lmsi.toml").write_text(
        settings.replace('teacher = "scripted/base"', f"teacher = {json.dumps(name)}")
    )
    from dataclasses import replace

    from engine.project.folder import open_project

    project = open_project(project.folder)
    with connect(project.database) as conn:
        with transaction(conn):
            model = replace(
                a_model(project, script), name=name, sha256=content_hash(script.read_text())
            )
            models.add(conn, model)
            gold = {
                question.key: ("42",)
                for question in hostile_questions
                if question.split is Split.EVAL
            }
            questions.add(conn, hostile_questions, gold)
        for kind, stage in (
            (JobKind.SAMPLE, sample.run),
            (JobKind.CURATE, curate.run),
            (JobKind.EVALUATE, evaluate.run),
        ):
            work = claimed(
                conn, project, kind, **({"models": [name]} if kind == "evaluate" else {})
            )
            result = stage(work)
            with transaction(conn):
                jobs.finish(conn, work.progress.job_id, JobState.DONE, "done", None, result)
        work = claimed(conn, project, JobKind.FINETUNE)
        with transaction(conn):
            wrong = NASTY["clear screen"] + NASTY["closing tag"] + NASTY["long line"]
            jobs.finish(conn, work.progress.job_id, JobState.FAILED, wrong, wrong, {})
        (run,) = [run for run in paths.runs(conn) if run.split is Split.POOL]
        assert votes.for_run(conn, run.id)
        assert examples.sets(conn)
        log = project.folder / "logs" / f"job-{work.progress.job_id}.log"
        log.write_text("\n".join(texts), encoding="utf-8")
    return project


def shown(app: App[None]) -> str:
    """Every character that the compositor would draw, with the layers of the screen merged."""
    lines = app.screen._compositor.render_strips()
    return "".join(segment.text for strip in lines for segment in strip)


@pytest.mark.parametrize("size", [(120, 36), (80, 24), (40, 12)], ids=str)
@pytest.mark.parametrize("place", STEPS)
async def test_hostile_text_is_harmless_on_every_screen(
    place: str, size: tuple[int, int], hostile: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGER", "true")
    with at_work(hostile):
        async with driven(hostile, place, size=size) as pilot:
            await look(pilot)
            for key in STEPS[place]:
                await pilot.press(key)
                await settled(pilot)
                await look(pilot)
            assert pilot.app.is_running


async def look(pilot: Pilot[None]) -> None:
    """No character on the screen controls the terminal."""
    harmful = FORBIDDEN & set(shown(pilot.app))
    assert harmful == set(), sorted(map(ascii, harmful))


async def test_brackets_are_shown_as_written(hostile: Project) -> None:
    with at_work(hostile):
        async with driven(hostile, "review", size=(200, 50)) as pilot:
            seen = ""
            for _ in range(len(NASTY)):
                seen += shown(pilot.app)
                await pilot.press("n")
                await settled(pilot)
            assert "x[1] = a[i]; y[-1] += [b]" in seen
            assert "[@click=app.quit]" in seen
