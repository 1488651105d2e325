from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pkgutil import resolve_name
from typing import TYPE_CHECKING

import pytest

from engine.demo.project import MODELS
from engine.project.settings import changed
from lmsi_tui.cli.main import run
from lmsi_tui.cli.parser import build_parser
from store import inference_sessions, jobs, paths, questions
from store.connection import connect
from store.enums import EarlyStop, JobKind, JobState, Split
from tests.projects import (
    TEACHER,
    add_round,
    command,
    last_job,
    scripted_project,
    signals_reach_children,
)

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from engine.project.folder import Project

PATIENCE = 60


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def big(tmp_path: Path) -> Project:
    return scripted_project(
        tmp_path / "big", pool=400, changes={"sample": {"m": 32, "early_stop": "off"}}
    )


def test_a_stage_is_enqueued_followed_and_summarized(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    done = command("sample", project.folder)
    assert done.returncode == 0, done.stderr
    assert "12 questions settled" in done.stdout
    assert done.stderr.splitlines()[-1] == "done"
    assert last_job(project).state is JobState.DONE


def test_a_preset_changes_the_settings_of_a_job_and_set_overrides_it(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    done = command("sample", project.folder, "--preset", "paper", "--set", "sample.m=4")
    assert done.returncode == 0, done.stderr
    with connect(project.database, read_only=True) as conn:
        (run,) = paths.runs(conn)
    assert (run.m, run.early_stop) == (4, EarlyStop.OFF)
    changes = last_job(project).params["settings"]
    assert isinstance(changes, dict)
    sample = changed(project.settings, changes).sample
    assert (sample.m, sample.threshold, sample.cap) == (4, "0", 0)
    assert sample.early_stop is EarlyStop.OFF


def test_an_unknown_preset_is_refused_with_the_presets_that_exist(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    refused = command("sample", project.folder, "--preset", "books")
    assert refused.returncode == 2
    assert "books" in refused.stderr
    assert "paper" in refused.stderr


def test_with_json_stdout_has_only_json_lines(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    done = command("sample", project.folder, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    events = lines(done.stdout)
    assert events[-1]["event"] == "done"
    assert {event["event"] for event in events[:-1]} <= {"progress"}
    result = events[-1]["result"]
    assert isinstance(result, dict)
    assert result["questions"] == 12


def test_the_same_command_again_repeats_no_work(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    first = lines(command("sample", project.folder, "--json").stdout)[-1]
    second = lines(command("sample", project.folder, "--json").stdout)[-1]
    assert first["result"] == second["result"]
    with connect(project.database, read_only=True) as conn:
        (sampled,) = paths.runs(conn)
        # The second time no model was loaded.
        (session,) = inference_sessions.of_run(conn, sampled.id)
        assert session.engine == "scripted"
    assert "engine scripted" in command("status", project.folder).stdout


def test_evaluating_ends_with_the_report_and_status_agrees(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    evaluated = lines(command("evaluate", project.folder, "--json").stdout)[-1]
    assert evaluated["event"] == "report"
    report, status = (
        lines(command(name, project.folder, "--json").stdout)[-1] for name in ("report", "status")
    )
    assert report == evaluated
    assert status == evaluated | {"event": "status", "outdated_votes": []}
    measured = evaluated["evaluations"]
    assert isinstance(measured, list)
    assert {(row["method"], row["k"], row["n"]) for row in measured} == {
        ("direct", 1, 8),
        ("cot", 1, 8),
        ("single", 1, 8),
        ("sc", 4, 8),
    }
    for row in measured:
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1


def test_a_detached_job_runs_without_the_command(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    assert "is queued" in command("sample", project.folder, "--detach").stdout
    attached = command("sample", project.folder)
    assert attached.returncode == 0
    with connect(project.database, read_only=True) as conn:
        assert len(jobs.all_of(conn)) <= 2


def started(project: Project) -> subprocess.Popen[str]:
    """A running `sample` command that has stored some paths."""
    with signals_reach_children():
        process = subprocess.Popen(
            [sys.executable, "-m", "lmsi_tui", "sample", str(project.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    while not drawn(project):
        assert process.poll() is None, process.communicate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    return process


def drawn(project: Project) -> int:
    with connect(project.database, read_only=True) as conn:
        return sum(paths.counts(conn, run.id).paths for run in paths.runs(conn))


def test_ctrl_c_pauses_and_the_same_command_continues(big: Project) -> None:
    process = started(big)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, message
    assert "same command again" in message
    assert "Traceback" not in message
    assert last_job(big).state is JobState.PAUSED
    before = drawn(big)
    assert 0 < before < 400 * 32
    assert command("sample", big.folder).returncode == 0
    assert drawn(big) == 400 * 32
    with connect(big.database, read_only=True) as conn:
        assert len(jobs.all_of(conn)) == 1


def test_killing_the_command_does_not_stop_the_worker(big: Project) -> None:
    process = started(big)
    process.kill()
    process.communicate()
    again = command("sample", big.folder)
    assert again.returncode == 0
    assert "continuing job" in again.stderr
    assert drawn(big) == 400 * 32


def test_a_job_can_be_paused_and_cancelled_from_another_terminal(big: Project) -> None:
    process = started(big)
    number = last_job(big).id
    assert command("jobs", big.folder, "--cancel", number).returncode == 0
    _, message = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "cancelled" in message


def test_jobs_lists_jobs_and_shows_a_log(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    assert "No jobs yet" in command("jobs", project.folder).stdout
    command("sample", project.folder)
    listed = command("jobs", project.folder).stdout
    assert "sample" in listed
    assert "done" in listed
    assert command("jobs", project.folder, "--log", 1).returncode == 0


def test_questions_are_imported_once(tmp_path: Path) -> None:
    project = scripted_project(tmp_path, pool=0, evaluation=0)
    file = tmp_path / "mine.jsonl"
    file.write_text(
        '{"question": "What is 2 + 2?", "answer": "4"}\n{"question": "What is 5 + 1?"}\n'
    )
    arguments = ("import", file, "--task", "number", "--project", project.folder, "--json")
    first, again = (lines(command(*arguments).stdout)[-1] for _ in range(2))
    assert (first["read"], first["added"], first["known"]) == (2, 2, 0)
    assert (again["read"], again["added"], again["known"]) == (2, 0, 2)
    elsewhere = lines(command(*arguments, "--split", "eval").stdout)[-1]
    assert (elsewhere["added"], elsewhere["elsewhere"]) == (0, 1)
    with connect(project.database, read_only=True) as conn:
        assert len(questions.by_split(conn, Split.POOL)) == 2
        assert questions.gold_for(conn, Split.POOL) == {}


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"lmsi-tui {metadata.version('lmsi-tui')}\n"


def test_the_prompt_is_printed_verbatim(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = scripted_project(tmp_path)
    assert run(["prompt", str(project.folder), "--number", "2"]) == 0
    assert capsys.readouterr().out == (
        "Q: Which number comes before 11?\nA: Count: 9, 10, 11. The answer is 10.\n\n"
        "Q: Which number comes before 3?\nA: Count: 1, 2, 3. The answer is 2.\n\n"
        "Q: Which number comes before 2 in pool?\nA:\n"
    )
    assert run(["prompt", str(project.folder), "--format", "zero-shot-cot"]) == 0
    assert capsys.readouterr().out.endswith("A: Let's think step by step.\n")


def test_a_training_set_is_exported(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    for stage in (JobKind.SAMPLE, JobKind.CURATE):
        assert command(stage, project.folder).returncode == 0
    assert command("export", "training-set", project.folder).returncode == 0
    (file,) = (project.folder / "exports").glob("*.jsonl")
    rows = lines(file.read_text())
    assert {row["format"] for row in rows} == {
        "few-shot-cot",
        "few-shot-direct",
        "zero-shot-cot",
        "zero-shot-direct",
    }
    for row in rows:
        assert str(row["prompt"]).startswith("Q: ")
        assert "The answer is" in str(row["completion"])


def test_the_doctor_finds_a_model_that_has_changed(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    done = command("doctor", project.folder)
    assert done.returncode == 2
    assert "FAIL  model scripted/base" in done.stdout
    checks = lines(command("doctor", tmp_path / "nothing", "--json").stdout)[-1]["checks"]
    assert isinstance(checks, list)
    assert {check["name"] for check in checks} >= {"torch", "disk", "memory", "project"}


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "lmsi_tui", "status", str(project.folder)],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert "Traceback" not in done.stderr


def subcommands() -> list[argparse.ArgumentParser]:
    (group,) = [action for action in build_parser()._actions if isinstance(action.choices, dict)]
    assert isinstance(group.choices, dict)
    return list(group.choices.values())


def test_every_command_names_an_existing_function() -> None:
    for parser in subcommands():
        assert callable(resolve_name(parser.get_default("command"))), parser.prog


def test_an_unknown_command_is_reported_with_the_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run([str(tmp_path / "smaple")])
    assert ended.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "smaple' is neither a folder with a project nor a command" in message
    assert "sample" in message


@pytest.mark.parametrize("typed", [["--"], ["-x"], ["--json"]])
def test_options_without_a_command_are_bad_usage(typed: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(typed)
    assert ended.value.code == 2


def test_a_file_is_not_a_project_folder(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").touch()
    done = command(tmp_path / "q.jsonl")
    assert done.returncode == 2
    assert "neither a folder" in done.stderr.splitlines()[-1]


def test_a_preview_of_models_writes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    models = ["--model", MODELS / "pebble-l", "--student", MODELS / "pebble-m"]
    done = command("init", folder, *models, "--preview", "--json")
    events = lines(done.stdout)
    assert [event["name"] for event in events] == ["pebble-l/base", "pebble-m/base"]
    assert events[1]["same_tokenizer"] is True
    assert events[0]["trainable"] is True
    stdout = command("init", folder, *models, "--preview").stdout
    assert "pebble-m/base: Hugging Face folder, llama, 146,880 parameters." in stdout
    assert not folder.exists()


def test_a_preview_of_questions_needs_no_project_and_detects_the_task(tmp_path: Path) -> None:
    file = tmp_path / "sums.jsonl"
    rows = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(5)]
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"question": ""}]))
    (event,) = lines(command("import", file, "--preview", "--json", cwd=tmp_path).stdout)
    assert (event["task"], event["guessed"], event["read"]) == ("number", True, 5)
    assert event["left_out"] == [[6, "it has no question"]]
    first = event["first"]
    assert isinstance(first, list)
    assert [question["text"] for question in first] == [row["question"] for row in rows[:3]]
    stdout = command("import", file, "--preview", cwd=tmp_path).stdout
    assert "--task number" in stdout
    assert "What is 0 + 1?" in stdout


def test_an_import_without_a_task_detects_and_prints_it(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "p", pool=0)
    file = tmp_path / "sums.jsonl"
    file.write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    done = command("import", file, "--project", project.folder)
    assert done.returncode == 0, done.stderr
    assert "--task number" in done.stdout
    with connect(project.database, read_only=True) as conn:
        assert [question.task for question in questions.by_split(conn, Split.POOL)] == ["number"]


def test_the_demo_can_be_made_without_running_anything(tmp_path: Path) -> None:
    done = command("demo", tmp_path / "d", "--pool", 8, "--eval", 4, "--only-make", "--json")
    assert lines(done.stdout) == [{"event": "made", "project": str(tmp_path / "d")}]
    with connect(tmp_path / "d" / "lmsi.db", read_only=True) as conn:
        assert len(questions.by_split(conn, Split.POOL)) == 8
        assert jobs.all_of(conn) == []


LAZY = {"rich.progress", "tomlkit", "psutil", "engine.importing.questions", "engine.demo", "numpy"}


def test_the_app_does_not_import_what_only_other_commands_need(tmp_path: Path) -> None:
    script = (
        "import sys, lmsi_tui.cli.main, lmsi_tui.cli.parser, lmsi_tui.cli.open_app, lmsi_tui.app\n"
        "lmsi_tui.cli.parser.build_parser()\n"
        "print(*sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert LAZY & set(ran.stdout.split()) == set()


def test_every_setting_is_listed_with_its_value_and_meaning(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    listed = command("settings", project.folder)
    assert listed.returncode == 0, listed.stderr
    assert '  exemplars = "examples.toml"' in listed.stdout
    assert "Share of the m paths that must agree" in listed.stdout
    names = [line["name"] for line in lines(command("settings", project.folder, "--json").stdout)]
    assert "sample.m" in names
    assert len(set(names)) == len(names)


# Rounds.


def test_a_round_prints_its_power_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = scripted_project(tmp_path, evaluation=100)
    assert run(["round", str(project.folder), "--detach"]) == 0
    before, after = capsys.readouterr().out.splitlines()
    assert before.startswith("With 100 evaluation questions and 20 % of them changing")
    assert after.startswith("Job 1 (round) is queued")
    assert run(["round", str(project.folder), "--rounds", "3", "--detach", "--json"]) == 0
    forecast, queued = lines(capsys.readouterr().out)
    assert (forecast["event"], forecast["n"]) == ("forecast", 100)
    assert queued["event"] == "queued"
    assert last_job(project).params["rounds"] == 3


def test_a_round_is_decided_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = scripted_project(tmp_path)
    assert run(["round", str(project.folder), "--accept", "1"]) == 2
    assert "There is no round 1" in capsys.readouterr().err
    add_round(project, sampled=TEACHER, trained=TEACHER, won=2, lost=1, n=20)
    assert run(["round", str(project.folder), "--accept", "1"]) == 0
    assert capsys.readouterr().out == f"Round 1: {TEACHER} accepted (your decision).\n"
    assert run(["round", str(project.folder), "--reject", "1", "--json"]) == 0
    (event,) = lines(capsys.readouterr().out)
    assert (event["event"], event["verdict"], event["guard"]) == ("round", "reject", "undecided")
    assert run(["report", str(project.folder)]) == 0
    stdout = capsys.readouterr().out
    assert f"Round 1: {TEACHER} rejected (your decision). No significant difference" in stdout
    assert "  alarm: Mean path length changed" in stdout
