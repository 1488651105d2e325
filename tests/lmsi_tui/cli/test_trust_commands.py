"""Pilot, audit, calibration and leaks on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lmsi_tui.home.stage_status import read_pool
from lmsi_tui.reviewing.queue import QueueSelection, read_queue
from store import jobs, paths, questions, reviews
from store.connection import connect
from store.enums import PromptStyle, Queue, Split, Verdict
from store.records import Review
from tests.engine.evaluation.scripted import rule, write_script
from tests.projects import command, scripted_project
from tests.test_layering import SLOW, loaded_after

if TYPE_CHECKING:
    from pathlib import Path

    from engine.project.folder import Project


def line(text: str) -> dict[str, object]:
    event = json.loads(text.splitlines()[-1])
    assert isinstance(event, dict)
    return event


def stdout_of(project: Project, name: str, *options: object) -> str:
    done = command(name, project.folder, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def sampled(tmp_path: Path) -> Project:
    project = scripted_project(tmp_path, pool=80)
    stdout_of(project, "sample")
    return project


def judge(project: Project, count: int, verdict: Verdict = Verdict.MAJORITY) -> None:
    """Audit the next questions as the review screen would."""
    keys = line(stdout_of(project, "audit", "--json"))["next"]
    assert isinstance(keys, list)
    for key in keys[:count]:
        with connect(project.database) as conn:
            (run,) = paths.runs(conn)
            question = questions.by_key(conn, Split.POOL, key)
            assert question is not None
            reviews.add(
                conn,
                Review(0, question.id, run.id, Queue.AUDIT, verdict, None, None, None, 1.0, 0.0),
            )


def test_a_pilot_measures_only_what_is_missing_and_gives_a_verdict(tmp_path: Path) -> None:
    project = scripted_project(tmp_path, pool=20, evaluation=30)
    text = stdout_of(project, "pilot", "--questions", 8)
    assert "n = 8" in text
    assert "Verdict: cannot tell yet" in text
    assert "80 % power" in text
    assert "over the pool (20 questions)" in text
    with connect(project.database, read_only=True) as conn:
        assert len(jobs.all_of(conn)) == 1
    event = line(stdout_of(project, "pilot", "--questions", 6, "--json"))
    assert event["event"] == "pilot"
    assert event["n"] == 8
    assert event["verdict"] in ("no fuel", "fuel present", "cannot tell yet")
    with connect(project.database, read_only=True) as conn:
        assert len(jobs.all_of(conn)) == 1, "nothing is measured twice"
    again = stdout_of(project, "pilot", "--questions", 7, "--set", "sample.threshold=0.9", "--json")
    assert line(again)["n"] == 8, "other settings remove no measurement"


def test_a_pilot_measures_again_after_its_settings_changed(tmp_path: Path) -> None:
    project = scripted_project(tmp_path, pool=4, evaluation=12)
    stdout_of(project, "pilot", "--questions", 8)
    settings = project.folder / "lmsi.toml"
    text = settings.read_text()
    settings.write_text(text.replace('style = "auto"', 'style = "chat"'))
    assert settings.read_text() != text
    stdout_of(project, "pilot", "--questions", 8)
    with connect(project.database, read_only=True) as conn:
        assert len(jobs.all_of(conn)) == 2
        assert {run.prompt_style for run in paths.runs(conn)} == {
            PromptStyle.BASE,
            PromptStyle.CHAT,
        }
    stdout_of(project, "pilot", "--questions", 8)
    with connect(project.database, read_only=True) as conn:
        assert len(jobs.all_of(conn)) == 2


def test_a_pilot_stops_when_its_verdict_is_certain(tmp_path: Path) -> None:
    project = scripted_project(tmp_path, pool=4, evaluation=60)
    scattered = {str(number): 1.0 for number in range(5000, 5040)}
    write_script(project.folder / "models" / "script.json", [rule("", scattered)])
    event = line(stdout_of(project, "pilot", "--json"))
    assert event["n"] == 32
    assert event["outlook"] == {
        "answer": "no",
        "obstacles": ["few right labels"],
        "questions": 32,
        "error": 0.05,
    }
    assert line(stdout_of(project, "pilot", "--questions", 60, "--json"))["n"] == 32
    with connect(project.database, read_only=True) as conn:
        assert len(jobs.all_of(conn)) == 1, "a certain verdict needs no more questions"


def test_an_audit_prints_precision_and_the_audits_still_needed(sampled: Project) -> None:
    text = stdout_of(sampled, "audit")
    assert "0 of " in text
    assert "not known yet (0.0 to 100.0 %" in text
    assert "more audits, all correct" in text
    judge(sampled, 2)
    judge(sampled, 1, Verdict.NONE)
    text = stdout_of(sampled, "audit")
    assert "3 of " in text
    assert "1 of them wrong" in text
    assert "too few audits for an estimate" in text
    assert "Wrong labels: 1 to " in text
    assert "With n = 3 fixed before" in stdout_of(sampled, "audit", "--planned", 3)
    assert "exactly 5 judged" in stdout_of(sampled, "audit", "--planned", 5)
    event = line(stdout_of(sampled, "audit", "--json", "--precision", "0.5"))
    assert event["asked"] == {"precision": 0.5, "confidence": 0.95}


def test_an_audit_in_the_app_counts_for_the_same_run_everywhere(sampled: Project) -> None:
    with connect(sampled.database, read_only=True) as conn:
        (first,) = paths.runs(conn)
    stdout_of(sampled, "sample", "--set", "sample.temperature=1.0")
    with connect(sampled.database) as conn:
        queue = read_queue(conn, sampled, QueueSelection(Queue.AUDIT))
        assert queue is not None
        assert queue.run.key == first.key
        pool = read_pool(conn, sampled)
        assert pool.run is not None
        assert pool.run.key == first.key
        for question_id in queue.ids[:3]:
            verdict = Verdict.MAJORITY
            reviews.add(
                conn,
                Review(
                    *(0, question_id, queue.run.id, Queue.AUDIT, verdict),
                    *(None, None, None, 1.0, 0.0),
                ),
            )
    assert "3 of " in stdout_of(sampled, "audit")
    assert "from audit" in stdout_of(sampled, "calibration")


def test_an_audit_loads_no_scipy_so_that_the_app_can_show_it(sampled: Project) -> None:
    loaded = loaded_after(
        "import sys\nfrom lmsi_tui.cli.main import run\nassert run(sys.argv[1:]) == 0",
        "audit",
        sampled.folder,
    )
    assert loaded & (SLOW | {"numpy"}) == set()


def test_calibration_comes_from_known_answers_and_from_the_audit(sampled: Project) -> None:
    assert command("calibration", sampled.folder).returncode == 2
    judge(sampled, 3)
    assert "from audit" in stdout_of(sampled, "calibration")
    stdout_of(sampled, "evaluate")
    text = stdout_of(sampled, "calibration")
    assert "from known answers" in text
    assert "without selection bias" in text
    assert "<- current" in text
    assert line(stdout_of(sampled, "calibration", "--json"))["event"] == "calibration"


def test_leaks_are_shown_with_both_questions(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    assert "0 of 12 pool questions nearly match one of 8" in stdout_of(project, "leaks")
    copy = {"question": "Which number comes BEFORE 2 in pool?", "answer": "1"}
    (tmp_path / "copy.jsonl").write_text(json.dumps(copy))
    done = command(
        *("import", tmp_path / "copy.jsonl", "--split", "eval", "--task", "number"),
        *("--project", project.folder),
    )
    assert done.returncode == 0, done.stderr
    text = stdout_of(project, "leaks")
    assert "1 of 12 pool questions" in text
    assert "BEFORE 2 in pool" in text
    leaks = line(stdout_of(project, "leaks", "--json"))["leaks"]
    assert isinstance(leaks, list)
    assert leaks[0]["overlap"] == 1.0
    stdout_of(project, "sample")
    assert "1 pool question nearly matches evaluation questions" in stdout_of(project, "curate")


def test_styles_need_a_chat_template(tmp_path: Path) -> None:
    project = scripted_project(tmp_path, evaluation=6)
    done = command("pilot", project.folder, "--styles")
    assert done.returncode == 2
    assert "no chat template" in done.stderr
