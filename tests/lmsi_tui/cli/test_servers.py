"""A project whose teacher is on a server, through the real command line."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest

from engine.demo import world
from engine.demo.project import MODELS, TASK
from engine.inference.loading import addresses_of, chosen_engine
from engine.inference.server.client import API_KEY
from engine.jobs import sample
from engine.project.folder import open_project
from engine.project.job_context import PauseRequested
from engine.project.settings import Engine, ModelSettings
from lmsi_tui.cli.main import run
from store import examples, jobs, models, paths, questions
from store.connection import connect, transaction
from store.enums import JobKind, JobState, Split
from store.errors import BadInput
from tests.engine.inference.server.fake_server import Fake, serving
from tests.engine.inference.server.real_servers import llama_cpp_server
from tests.projects import claimed, command

if TYPE_CHECKING:
    from pathlib import Path

DRAWN = 10


def questions_file(folder: Path) -> Path:
    path = folder / "pool.jsonl"
    drawn = world.generate(Split.POOL, DRAWN, 5)
    path.write_text("".join(json.dumps({"question": row.text}) + "\n" for row in drawn))
    return path


def test_a_student_learns_from_a_server(tmp_path: Path) -> None:
    project = tmp_path / "p"
    drawn = [
        f"--set={change}"
        for change in (
            *("sample.m=4", "sample.threshold=0", "sample.early_stop=off"),
            "sample.format=zero-shot-direct",
        )
    ]

    def do(*arguments: object) -> str:
        done = command(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with llama_cpp_server(tmp_path / "cache") as url:
        do("init", project, "--model", url, "--student", MODELS / "pebble-s")
        do("import", questions_file(tmp_path), "--task", TASK, "--project", project)
        do("sample", project, *drawn)
        looked = do("doctor", project, "--json")
        checks = {row["name"]: row for row in json.loads(looked)["checks"]}
        assert checks[f"server {url}"]["ok"]
        assert "one path per request" in checks[f"server {url}"]["says"]
    do("sample", project, *drawn)  # the server has gone, and nothing is missing
    do("curate", project, *drawn)
    do("distill", project, "--set", "distill.epochs=0.2")
    refused = command("finetune", project)
    assert refused.returncode == 2
    assert "pebble-m/base is a server" in refused.stderr.splitlines()[-1]
    with connect(project / "lmsi.db", read_only=True) as conn:
        (run_,) = paths.runs(conn)
        assert run_.engine == "server"
        assert paths.counts(conn, run_.id).paths == 4 * DRAWN
        (frozen,) = examples.sets(conn)
        learnt = examples.examples(conn, frozen.key)
        # The server gave text; the student's own tokenizer makes tokens of it.
        assert all(row.token_ids == () for row in learnt)
        assert {row.name for row in models.all_of(conn)} == {
            *("pebble-m/base", "pebble-s/base", "pebble-s/distilled"),
        }


def test_several_servers_of_one_model_are_one_teacher(tmp_path: Path) -> None:
    project = tmp_path / "p"
    fakes = [Fake(served="org/Llama-7B", most=2), Fake(served="org/Llama-7B", most=2)]
    with ExitStack() as stack:
        urls = [stack.enter_context(serving(fake)).url for fake in fakes]
        assert run(["init", str(project), "--model", ",".join(urls)]) == 0
        file = questions_file(tmp_path)
        assert run(["import", str(file), "--task", "number", "--project", str(project)]) == 0
        done = command("sample", project, "--set", "sample.m=8", "--json")
        assert done.returncode == 0, done.stderr
    opened = open_project(project)
    assert opened.settings.model.teacher == "Llama-7B/base"
    assert list(opened.settings.model.servers) == urls
    assert all(fake.requests for fake in fakes)
    with connect(project / "lmsi.db", read_only=True) as conn:
        (model,) = models.all_of(conn)
        assert len(questions.by_split(conn, Split.POOL)) == DRAWN
    assert model.location == f"{urls[0]}#org/Llama-7B"
    moved = replace(opened.settings.model, servers=("http://node7:8000/v1",))
    assert addresses_of(model, moved) == ("http://node7:8000/v1#org/Llama-7B",)


def test_the_key_is_in_no_file_of_the_project_and_in_no_process_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    key = "sk-hostile-0123456789"
    monkeypatch.setenv(API_KEY, key)
    monkeypatch.setenv("LMSI_DEBUG", "1")
    command_lines: list[str] = []

    def write(body: dict[str, object], number: int) -> dict[str, object]:
        if body.get("max_tokens") == 64:
            command_lines.extend(
                " ".join(process.info["cmdline"] or [])
                for process in psutil.process_iter(["cmdline"])
            )
        return {"text": f" Your key is {key}. The answer is {number}.", "finish_reason": "stop"}

    project = tmp_path / "p"
    with serving(Fake(served="pebble", key=key, write=write)) as fake:
        assert run(["init", str(project), "--model", fake.url]) == 0
        file = questions_file(tmp_path)
        assert run(["import", str(file), "--task", "number", "--project", str(project)]) == 0
        sampling = ("--set", "sample.m=8", "--set", "sample.max_tokens=64")
        done = command("sample", project, *sampling)
        assert done.returncode == 0, done.stderr
        fake.faults.extend(["500"] * 12)
        assert run(["doctor", str(project)]) in (0, 2)
    failed = command(
        "sample", project, "--set", "sample.m=9", "--set", "model.servers=['http://x@y']"
    )
    assert failed.returncode == 2
    for report in ("md", "html", "json"):
        out = project / f"report.{report}"
        assert run(["report", str(project), "--format", report, "--out", str(out)]) == 0
    printed = capfd.readouterr()
    said = [done.stdout, done.stderr, failed.stdout, failed.stderr, printed.out, printed.err]
    assert not any(key in text for text in said)
    files = [path for path in project.rglob("*") if path.is_file()]
    assert {"lmsi.db", "worker.log"} <= {path.name for path in files}
    assert not [path for path in files if key.encode() in path.read_bytes()]
    assert any("engine.jobs.worker" in line for line in command_lines)
    assert not any(key in line for line in command_lines)


def test_a_round_on_a_server_without_a_student_is_refused_before_it_starts(
    tmp_path: Path,
) -> None:
    with serving(Fake()) as fake:
        assert run(["init", str(tmp_path / "p"), "--model", fake.url]) == 0
    done = command("round", tmp_path / "p")
    assert done.returncode == 2
    assert "--student" in done.stderr.splitlines()[-1]


def test_a_local_teacher_and_its_adapters_are_sampled_on_a_server(
    tmp_path: Path,
) -> None:
    project = tmp_path / "p"
    made = run(
        [
            *("init", str(project), "--model", str(MODELS / "pebble-l")),
            *("--student", str(MODELS / "pebble-s")),
            *("--set", "model.engine=server", "--set", 'model.servers=["http://a:1/v1"]'),
        ]
    )
    assert made == 0
    settings = open_project(project).settings.model
    with connect(project / "lmsi.db", read_only=True) as conn:
        teacher, student = models.all_of(conn)
    tuned = replace(teacher, name="pebble-l/lmsi", adapter="adapters/x", base_id=teacher.id)
    rewritten = replace(teacher, name="pebble-l/lmsi", base_id=teacher.id)
    assert chosen_engine(teacher, settings) is Engine.SERVER
    assert chosen_engine(tuned, settings) is Engine.SERVER
    assert chosen_engine(rewritten, settings) is Engine.TRANSFORMERS
    assert chosen_engine(student, settings) is Engine.TRANSFORMERS
    assert addresses_of(teacher, settings) == ("http://a:1/v1",)


@pytest.mark.parametrize("engine", [Engine.TRANSFORMERS, Engine.LLAMA_CPP])
def test_other_engines_refuse_a_server(tmp_path: Path, engine: Engine) -> None:
    with serving(Fake()) as fake:
        assert run(["init", str(tmp_path / "p"), "--model", fake.url]) == 0
    with connect(tmp_path / "p" / "lmsi.db", read_only=True) as conn:
        (model,) = models.all_of(conn)
    with pytest.raises(BadInput, match=f"{engine} but pebble/base is a server"):
        chosen_engine(model, ModelSettings(engine=engine))


def test_a_job_pauses_while_a_server_does_not_answer(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    fake = Fake()
    with serving(fake):
        assert run(["init", str(folder), "--model", fake.url]) == 0
        file = questions_file(tmp_path)
        assert run(["import", str(file), "--task", "number", "--project", str(folder)]) == 0
        project = open_project(folder)
        with connect(project.database) as conn:
            work = claimed(conn, project, JobKind.SAMPLE)

            def wish_and_hold(_: str) -> bool:
                with connect(project.database) as other, transaction(other):
                    jobs.request(other, work.progress.job_id, JobState.PAUSING)
                return True

            fake.holds = wish_and_hold
            with pytest.raises(PauseRequested):
                sample.run(work)
    assert fake.requests
