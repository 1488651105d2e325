"""Every user error ends in one sentence and an exit code, and changes nothing."""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from engine.demo.project import MODELS
from engine.project.folder import SETTINGS
from lmsi_tui.cli.main import run
from store import paths, questions
from store.connection import connect
from store.enums import Split
from tests.projects import command, scripted_project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Case:
    """A mistake: its setup, the command line, and what the message must contain."""

    name: str
    lay: Callable[[Path], None]
    typed: str
    """The command line; `{p}` is a scripted project, `{t}` its parent folder."""
    names: tuple[str, ...]
    code: int = 2


def nothing(_folder: Path) -> None:
    """No setup: the mistake is in the command line."""


def file(name: str, content: str | bytes) -> Callable[[Path], None]:
    def lay(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return lay


def settings(text: str) -> Callable[[Path], None]:
    """Replace the settings of the project."""
    return file(f"p/{SETTINGS}", text)


def folder_model(*names: str) -> Callable[[Path], None]:
    def lay(folder: Path) -> None:
        model = folder / "m"
        model.mkdir()
        for name in names:
            (model / name).write_text("{}")

    return lay


def cut_weights(folder: Path) -> None:
    header = json.dumps(
        {"w": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}
    ).encode()
    folder_model("config.json", "tokenizer.json")(folder)
    (folder / "m" / "model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + b"\0" * 100
    )


def broken_config(folder: Path) -> None:
    cut_weights(folder)
    header = b"{}"
    weights = len(header).to_bytes(8, "little") + header
    (folder / "m" / "model.safetensors").write_bytes(weights)
    (folder / "m" / "config.json").write_text("{oops")


def cut_gguf(folder: Path) -> None:
    from gguf import GGUFWriter
    from numpy import zeros

    whole = folder / "whole.gguf"
    writer = GGUFWriter(whole, "llama")
    writer.add_tensor("token_embd.weight", zeros((64, 64), dtype="float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (folder / "cut.gguf").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])


def headless_ggufs(folder: Path) -> None:
    """GGUF files that are read without an error, and are no language model."""
    from gguf import GGUFWriter
    from numpy import zeros

    for name, architecture, has_weights in (
        ("vocabulary", "llama", False),
        ("no-tokenizer", "llama", True),
        ("encoder", "nomic-bert", True),
    ):
        writer = GGUFWriter(folder / f"{name}.gguf", architecture)
        if name != "no-tokenizer":
            writer.add_tokenizer_model("gpt2")
            writer.add_token_list(["a", "b"])
        if has_weights:
            writer.add_tensor("token_embd.weight", zeros((64, 64), dtype="float32"))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def no_database(folder: Path) -> None:
    for path in (folder / "p").glob("lmsi.db*"):
        path.unlink()
    (folder / "p" / "lmsi.db").write_text(
        "this is no database, but it is long enough to be one" * 9
    )


def newer_database(folder: Path) -> None:
    conn = sqlite3.connect(folder / "p" / "lmsi.db")
    conn.execute("PRAGMA user_version = 99")
    conn.close()


def no_model_file(folder: Path) -> None:
    (folder / "p" / "models" / "script.json").unlink()


def script_only(folder: Path) -> None:
    """A project whose model is a script, with a training set."""
    assert run(["sample", str(folder / "p"), "--json"]) == 0
    assert run(["curate", str(folder / "p"), "--json"]) == 0


def sampled(folder: Path) -> None:
    assert run(["sample", str(folder / "p"), "--json"]) == 0


NUMBERS = '{"question": "What is 2 + 2?", "answer": "4"}\n'

CASES = (
    Case("no terminal", nothing, "", ("terminal", "lmsi-tui demo", "--help")),
    Case("no terminal for a project", nothing, "{p}", ("terminal",)),
    Case("no terminal to review in", nothing, "review {p}", ("terminal",)),
    Case("a folder that is not a project", nothing, "{t}", ("not a project", "lmsi-tui init")),
    Case(
        "review of a missing project", nothing, "review {t}/nowhere", ("nowhere", "lmsi-tui init")
    ),
    Case("no such project", nothing, "status {t}/nowhere", ("nowhere", "lmsi-tui init")),
    Case("not a project", nothing, "status {t}", ("not a project", "lmsi-tui init")),
    Case("unknown setting", settings("[sample]\nbeams = 3\n"), "status {p}", ("beams", SETTINGS)),
    Case("broken settings", settings("[sample\n"), "status {p}", (SETTINGS, "line 1")),
    Case("setting of another type", settings("[sample]\nm = 'x'\n"), "sample {p}", ("m is 'x'",)),
    Case("setting without a value", nothing, "sample {p} --set m=3", ("--set m=3", "SECTION.NAME")),
    Case("setting out of range", nothing, "sample {p} --set sample.m=0", ("sample.m is 0",)),
    Case("unknown setting typed", nothing, "sample {p} --set sample.mm=3", ("mm",)),
    Case("no such model", nothing, "init {t}/n --model {t}/none", ("none", "no model")),
    Case(
        "model is a text file", file("a.txt", "hello"), "init {t}/n --model {t}/a.txt", ("a.txt",)
    ),
    Case("not a GGUF file", file("a.gguf", "hello"), "init {t}/n --model {t}/a.gguf", ("a.gguf",)),
    Case("truncated GGUF", cut_gguf, "init {t}/n --model {t}/cut.gguf", ("cut.gguf", "truncated")),
    *(
        Case(
            f"{name} as the model",
            headless_ggufs,
            f"init {{t}}/n --model {{t}}/{name}.gguf",
            (f"{name}.gguf", says),
        )
        for name, says in (
            ("vocabulary", "no weights"),
            ("no-tokenizer", "no tokenizer"),
            ("encoder", "generates no text"),
        )
    ),
    Case(
        "no such GGUF file of a folder",
        nothing,
        f"init {{t}}/n --model {MODELS}/pebble-s --gguf {{t}}/none.gguf",
        ("none.gguf",),
    ),
    Case(
        "GGUF file of another model",
        nothing,
        f"init {{t}}/n --model {MODELS}/pebble-s --gguf {MODELS}/pebble-l/pebble-l.gguf",
        ("pebble-l.gguf", "another model"),
    ),
    Case(
        "GGUF file of another model, previewed",
        nothing,
        f"init {{t}}/n --model {MODELS}/pebble-s --gguf {MODELS}/pebble-l/pebble-l.gguf --preview",
        ("pebble-l.gguf", "another model"),
    ),
    Case(
        "GGUF file of a GGUF file",
        nothing,
        f"init {{t}}/n --model {MODELS}/pebble-s/pebble-s.gguf "
        f"--gguf {MODELS}/pebble-l/pebble-l.gguf",
        ("pebble-s.gguf", "leave --gguf"),
    ),
    Case(
        "a name with a control character",
        nothing,
        f"init {{t}}/n --model {MODELS}/pebble-s --name a\x07b",
        ("'a\\x07b'", "--name"),
    ),
    Case(
        "a file as the project",
        file("q.jsonl", NUMBERS),
        "status {t}/q.jsonl",
        ("q.jsonl is a file",),
    ),
    Case("folder without config", folder_model(), "init {t}/n --model {t}/m", ("config.json",)),
    Case(
        "folder without weights",
        folder_model("config.json"),
        "init {t}/n --model {t}/m",
        ("safetensors",),
    ),
    Case(
        "truncated weights",
        cut_weights,
        "init {t}/n --model {t}/m",
        ("model.safetensors", "truncated"),
    ),
    Case(
        "a server that does not answer",
        nothing,
        "init {t}/n --model http://127.0.0.1:1/v1",
        ("http://127.0.0.1:1/v1", "start it"),
    ),
    Case("no address", nothing, "init {t}/n --model http://", ("http://host:port/v1",)),
    Case(
        "a student that is a server",
        folder_model("config.json"),
        "init {t}/n --model {t}/m --student http://127.0.0.1:1/v1",
        ("http://127.0.0.1:1/v1", "student"),
    ),
    Case(
        "servers without an address",
        nothing,
        "sample {p} --set model.engine=server",
        ("model.servers is empty",),
    ),
    Case(
        "invalid server in the settings",
        nothing,
        "sample {p} --set model.engine=server --set model.servers=['nowhere']",
        ("'nowhere'", "http://host:port/v1"),
    ),
    Case("already a project", nothing, "init {p} --model {t}", ("already a project",)),
    Case("no such file", nothing, "import {t}/no.jsonl --task number --project {p}", ("no.jsonl",)),
    Case(
        "not text",
        file("b.jsonl", b"\x00\xff\xfe\x80" * 50),
        "import {t}/b.jsonl --task number --project {p}",
        ("b.jsonl",),
    ),
    Case(
        "empty file",
        file("e.jsonl", ""),
        "import {t}/e.jsonl --task number --project {p}",
        ("e.jsonl",),
    ),
    Case(
        "broken line",
        file("l.jsonl", NUMBERS + "{oops\n"),
        "import {t}/l.jsonl --task number --project {p}",
        ("l.jsonl", "2"),
    ),
    Case(
        "answers of another type",
        file("w.jsonl", '{"question": "Who?", "answer": "Napoleon"}\n' * 3),
        "import {t}/w.jsonl --task number --split eval --project {p}",
        ("w.jsonl",),
    ),
    Case(
        "choice without options",
        file("c.jsonl", '{"question": "Which?", "answer": "a"}\n'),
        "import {t}/c.jsonl --task choice --split eval --project {p}",
        ("options",),
    ),
    Case(
        "labels counted from 0 or from 1",
        file("n.jsonl", '{"question": "Which?", "options": ["x", "y", "z"], "answer": 1}\n'),
        "import {t}/n.jsonl --task choice --split eval --project {p}",
        ("n.jsonl", "'answer'", "--labels-from 0"),
    ),
    Case(
        "unknown task",
        file("q.jsonl", NUMBERS),
        "import {t}/q.jsonl --task poetry --project {p}",
        ("poetry", "gsm8k"),
    ),
    Case(
        "a task that cannot be detected",
        file("q.txt", "Why is the sky blue?\n"),
        "import {t}/q.txt --project {p}",
        ("q.txt", "--task", "gsm8k"),
    ),
    Case("preview of a missing model", nothing, "init {t}/n --model {t}/none --preview", ("none",)),
    Case(
        "a configuration that is not JSON",
        broken_config,
        "init {t}/n --model {t}/m --preview",
        ("config.json",),
    ),
    Case(
        "field without a column",
        file("q.jsonl", NUMBERS),
        "import {t}/q.jsonl --task number --project {p} --field question",
        ("--field question", "MEANING=COLUMN"),
    ),
    Case(
        "missing column",
        file("q.jsonl", NUMBERS),
        "import {t}/q.jsonl --task number --project {p} --field question=prompt",
        ("prompt",),
    ),
    Case(
        "paths without questions",
        file("s.jsonl", '{"samples": ["1 + 1", "2"]}\n'),
        "import-paths {t}/s.jsonl --task number",
        ("s.jsonl", "question"),
    ),
    Case("empty pool", nothing, "sample {t}/empty", ("pool is empty", "lmsi-tui import")),
    Case("nothing to replay", nothing, "vote {p} --replay", ("lmsi-tui sample",)),
    Case(
        "counting by confidence with early stop",
        nothing,
        "curate {p} --set curate.counting=weighted",
        ("curate.counting", "sample.early_stop"),
    ),
    Case("replay options without --replay", nothing, "vote {p} --threshold 0.5", ("--replay",)),
    Case(
        "invalid replay threshold",
        sampled,
        "vote {p} --replay --threshold 1.5",
        ("threshold is 1.5",),
    ),
    Case("a replay of more paths", sampled, "vote {p} --replay --m 99", ("99 paths", "--m")),
    Case("nothing to train on", nothing, "curate {p}", ("sample first",)),
    Case("no training set", nothing, "finetune {p}", ("lmsi-tui curate",)),
    Case("no student", nothing, "distill {p}", ("student",)),
    Case(
        "nothing to measure",
        nothing,
        "evaluate {t}/empty",
        ("evaluation questions", "--split eval"),
    ),
    Case("unknown model name", nothing, "evaluate {p} --model llama", ("llama", "scripted/base")),
    Case("a model without weights", script_only, "finetune {p}", ("script.json", "Hugging Face")),
    Case("the model file is missing", no_model_file, "sample {p}", ("script.json",)),
    Case(
        "an engine that cannot read it",
        nothing,
        "sample {p} --set model.engine=llama.cpp",
        ("llama.cpp", "GGUF"),
    ),
    Case(
        "no exemplar file",
        nothing,
        "sample {p} --set sample.exemplars=mine.toml",
        ("mine.toml",),
    ),
    Case(
        "an exemplar without an answer",
        file("p/mine.toml", '[[exemplar]]\nquestion = "Why?"\n'),
        "sample {p} --set sample.exemplars=mine.toml",
        ("mine.toml", "answer"),
    ),
    Case("nothing to export", nothing, "export adapter {p}", ("lmsi-tui finetune",)),
    Case("no set to export", nothing, "export training-set {p}", ("lmsi-tui curate",)),
    Case("no such job", nothing, "jobs {p} --log 99", ("no job 99",)),
    Case("no such format", nothing, "prompt {p} --format poem", ("poem", "few-shot-cot")),
    Case("no such question", nothing, "prompt {p} --number 99", ("99",)),
    Case("pilot without known answers", nothing, "pilot {t}/empty", ("--split eval",)),
    Case("audit before sampling", nothing, "audit {p}", ("lmsi-tui sample",)),
    Case("precision of 1", nothing, "audit {p} --precision 1", ("--precision", "0.95")),
    Case(
        "confidence is not a share",
        nothing,
        "audit {p} --confidence much",
        ("--confidence", "much"),
    ),
    Case("calibration without judgments", nothing, "calibration {p}", ("lmsi-tui evaluate",)),
    Case("why of an unknown name", nothing, "why nobody {p}", ("nobody", "lmsi-tui status")),
    Case("not a database", no_database, "status {p}", ("lmsi.db",)),
    Case("database of a newer version", newer_database, "status {p}", ("lmsi.db", "newer")),
    Case("demo in a folder that is not empty", nothing, "demo {t} --headless", ("neither empty",)),
    Case("demo in another project", nothing, "demo {p} --headless", ("not a demo",)),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_mistake_ends_in_one_sentence_and_an_exit_code(
    case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scripted_project(tmp_path / "p", pool=4, evaluation=2)
    if "empty" in case.typed:
        scripted_project(tmp_path / "empty", pool=0, evaluation=0)
    case.lay(tmp_path)
    capfd.readouterr()

    code = run(case.typed.format(p=tmp_path / "p", t=tmp_path).split())

    stdout, stderr = capfd.readouterr()
    sentence = stderr.rstrip().splitlines()[-1]
    assert code == case.code, stderr
    assert sentence.startswith("lmsi-tui: ")
    assert sentence.endswith(".")
    for name in case.names:
        assert name in sentence
    assert "Traceback" not in stdout + stderr


def test_there_are_at_least_twenty_five_such_cases() -> None:
    assert len({case.name for case in CASES}) >= 25


def stored(folder: Path) -> tuple[int, int]:
    with connect(folder / "lmsi.db", read_only=True) as conn:
        count = sum(paths.counts(conn, run.id).paths for run in paths.runs(conn))
        return len(questions.by_split(conn, Split.POOL)), count


def test_a_full_disk_loses_no_stored_data(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "p")
    assert command("sample", project.folder).returncode == 0
    before = stored(project.folder)
    many = "".join(
        json.dumps({"question": f"What is {n} + {n}? " + "x" * 500}) + "\n" for n in range(20_000)
    )
    (tmp_path / "many.jsonl").write_text(many)
    largest = 2_000_000

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    done = subprocess.run(
        [
            *(sys.executable, "-m", "lmsi_tui", "import", str(tmp_path / "many.jsonl")),
            *("--task", "number", "--project", str(project.folder)),
        ],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=small_files,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("lmsi-tui: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert stored(project.folder) == before


def test_chat_style_needs_a_chat_template(tmp_path: Path) -> None:
    from tests.engine.tiny import tiny_model

    model = tiny_model(tmp_path / "plain")
    questions_file = tmp_path / "q.jsonl"
    questions_file.write_text(NUMBERS)
    folder = tmp_path / "p"
    assert command("init", folder, "--model", model).returncode == 0
    imported = command("import", questions_file, "--task", "number", "--project", folder)
    assert imported.returncode == 0, imported.stderr
    done = command("sample", folder, "--set", "sample.style=chat", "--set", "sample.m=2")
    assert done.returncode == 2
    assert "chat template" in done.stderr.splitlines()[-1]
