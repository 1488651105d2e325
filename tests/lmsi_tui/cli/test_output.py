"""Commands in every encoding, and where their output cannot be written."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lmsi_tui.cli.main import run
from lmsi_tui.cli.output import accept_any_character
from store.connection import connect, transaction
from tests.seed import seeded_project

if TYPE_CHECKING:
    from engine.project.folder import Project

BASH = shutil.which("bash") or "bash"
ENCODINGS = ("ascii", "latin-1", "cp1252", "utf-8")
READING = (
    "status",
    "status --json",
    "settings",
    "settings --json",
    "report",
    "report --json",
    "report --format md",
    "report --format html",
    "report --format json",
    "jobs",
    "jobs --json",
    "jobs --log 1",
    "audit",
    "audit --json",
    "calibration",
    "calibration --json",
    "reader",
    "leaks",
    "leaks --json",
    "ledger",
    "ledger --json",
    "doctor",
    "prompt",
)
"""Command lines that print what is stored; the project is added."""
HELP = (
    "--help",
    "--version",
    *(f"{name} --help" for name in ("sample", "import", "reader", "audit", "init", "export")),
)
STRANGE = "naïve – ≤ 5 → “ß” 猫 😀 \ud83d"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The seeded project, with characters of many kinds in its texts."""
    project = seeded_project(tmp_path_factory.mktemp("encodings") / "Bücher → 猫")
    (project.folder / "logs").mkdir(exist_ok=True)
    (project.folder / "logs" / "job-1.log").write_text("50 % ▇▇ ✓ 猫\n", encoding="utf-8")
    with connect(project.database) as conn, transaction(conn):
        conn.execute("UPDATE job SET message = ?", [STRANGE.replace("\ud83d", "")])
    return project


def printed(monkeypatch: pytest.MonkeyPatch, encoding: str, *typed: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command on streams with an encoding."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", streams[0])
        patched.setattr(sys, "stderr", streams[1])
        try:
            code = run(typed)
        except SystemExit as ended:
            code = int(ended.code or 0)
    outputs = []
    for stream in streams:
        stream.flush()
        assert isinstance(stream.buffer, io.BytesIO)
        outputs.append(stream.buffer.getvalue().decode(encoding))
    return code, outputs[0], outputs[1]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_every_command_prints_in_every_encoding(
    encoding: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in (*READING, *HELP) if encoding == "ascii" else READING[:8]:
        words = [*line.split(), *([] if line in HELP else [str(project.folder)])]
        code, out, error = printed(monkeypatch, encoding, *words)
        # Some checks of the doctor fail: the models of the seeded project do not exist.
        assert code == (2 if line == "doctor" else 0), (line, error)
        assert out.strip(), line
        if "--json" in words:
            for event in out.splitlines():
                json.loads(event)


def test_json_carries_every_character_in_every_encoding(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = set()
    for encoding in ENCODINGS:
        _, out, _ = printed(monkeypatch, encoding, "jobs", "--json", str(project.folder))
        outputs.add(json.dumps([json.loads(line) for line in out.splitlines()]))
    assert len(outputs) == 1


@pytest.mark.parametrize(
    ("text", "degraded"),
    [
        ("≤ 0.6", "<= 0.6"),
        ("a → b", "a -> b"),
        ("naïve", "naive"),
        ("▇▇▇ ┌──┐", "### ----"),
        ("5² ½", "5? ?"),
        ("猫😀", "??"),
        ("\ud83d", "?"),
        ("done…", "done..."),
    ],
)
def test_characters_that_an_encoding_lacks_become_similar_ones(
    text: str, degraded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    accept_any_character()
    stream.write(text)
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    assert stream.buffer.getvalue().decode() == degraded


def shell(line: str, project: Project, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line of the shell; `lmsi-tui` in it is the command, `PROJECT` the folder."""
    line = line.replace("lmsi-tui", f"{sys.executable} -P -m lmsi_tui").replace(
        "PROJECT", f"'{project.folder}'"
    )
    return subprocess.run(
        [BASH, "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
        env=os.environ | environment,
    )


@pytest.mark.parametrize(
    "line",
    [
        "lmsi-tui report --format md PROJECT | true",
        "lmsi-tui settings PROJECT | head -1",
        "lmsi-tui status --json PROJECT | true",
        "lmsi-tui --help | true",
        "lmsi-tui status PROJECT >&-",
    ],
)
def test_a_closed_output_ends_a_command_quietly(line: str, project: Project) -> None:
    ran = shell(line, project)
    assert ran.stderr == ""
    assert ran.returncode == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
@pytest.mark.parametrize("typed", ["status PROJECT", "report --json PROJECT", "settings PROJECT"])
def test_a_full_output_is_one_sentence(typed: str, project: Project) -> None:
    ran = shell(f"lmsi-tui {typed} > /dev/full", project)
    assert ran.returncode == 1
    assert ran.stderr.startswith("lmsi-tui: the output cannot be written (No space left")
    assert ran.stderr.count("\n") == 1


def test_errors_that_cannot_be_printed_keep_their_exit_code(project: Project) -> None:
    assert shell("lmsi-tui status no-such-folder 2>/dev/full", project).returncode == 2
    assert shell("lmsi-tui status no-such-folder 2>&-", project).returncode == 2


@pytest.mark.parametrize(
    "environment",
    [
        {"COLUMNS": "20"},
        {"COLUMNS": "wide", "TERM": "dumb", "NO_COLOR": "1"},
        {"COLUMNS": "1", "TERM": "", "LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_commands_run_in_every_environment(environment: dict[str, str], project: Project) -> None:
    for typed in ("report PROJECT", "--help"):
        ran = shell(f"lmsi-tui {typed}", project, **environment)
        assert (ran.returncode, ran.stderr) == (0, ""), typed
        assert ran.stdout.strip(), typed


def test_a_report_that_does_not_fit_on_the_disk_leaves_the_one_before(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = tmp_path / "report.html"
    page.write_text("the one before")

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert run(["report", str(project.folder), "--format", "html", "--out", str(page)]) == 1
    assert "full" in capsys.readouterr().err
    assert page.read_text() == "the one before"
    assert list(tmp_path.iterdir()) == [page]


def test_a_report_can_be_written_to_a_device(project: Project) -> None:
    assert run(["report", str(project.folder), "--format", "md", "--out", os.devnull]) == 0
