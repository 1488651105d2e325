"""Hostile text passes through every command and screen without controlling the terminal."""

from __future__ import annotations

import ast
import json
import re
import sqlite3
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Static

from benchmarks.terminal import Terminal
from lmsi_tui.cli.main import run
from store import examples, questions
from store.connection import connect
from store.enums import Split
from tests.hostile import ATTACK, ATTACKS, NAME, copy_of, hostile_project
from tests.lmsi_tui.driving import driven, settled
from tests.lmsi_tui.test_nasty_text import STEPS, shown
from tests.nasty import FORBIDDEN, MARKS
from tests.seed import at_work

if TYPE_CHECKING:
    from engine.project.folder import Project

MOST_MARKS = 8
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return hostile_project(tmp_path_factory.mktemp("hostile"))


def assert_harmless(text: str) -> None:
    """Nothing in the text controls a terminal; line ends and tabs are ours."""
    harmful = (FORBIDDEN - {"\n", "\t"}) & set(text)
    assert harmful == set(), sorted(map(ascii, harmful))
    storm = re.search(f"[{MARKS}]{{{MOST_MARKS + 1}}}", text)
    assert storm is None, ascii(storm)


def files(folder: Path) -> None:
    """Files with hostile content under hostile names."""
    rows = [
        {"question": f"{n} {text}", "answer": str(n)} for n, text in enumerate(ATTACKS.values())
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"{NAME}.jsonl").write_text(lines)
    samples = {"question": ATTACK, "samples": [ATTACK], "gold": ATTACK}
    (folder / f"{NAME} paths.jsonl").write_text(json.dumps(samples) + "\n")
    (folder / f"{NAME}.csv").write_text(f"{ATTACK},b\n1,2\n", encoding="utf-8")


COMMANDS = (
    "status {p}",
    "settings {p}",
    "report {p}",
    "report {p} --format md",
    "report {p} --format html",
    "report {p} --format json",
    "jobs {p}",
    "jobs {p} --log 1",
    "doctor {p}",
    "prompt {p} --number 3",
    "why {question} {p}",
    "why {set} {p}",
    "why {model} {p}",
    "why nothing {p}",
    "leaks {p}",
    "ledger {p}",
    "audit {p}",
    "calibration {p}",
    "reader {p}",
    "reader {p} --unit pieces",
    "vote {p} --replay",
    "finetune {p} --plan",
    "prompt {p} --set sample.exemplars={attack}",
    "prompt {p} --set {attack}",
    "import {t}/{name}.jsonl --preview",
    "import {t}/{name}.jsonl --preview --task number --split eval",
    "import {t}/{name}.csv --preview --task number",
    "import {t}/{name}.jsonl --preview --field question={attack}",
    "import {t}/{name}none.jsonl --preview",
    "import-paths {t}/{name}§paths.jsonl --task number",
    "init {t}/new --model {t}/{name} --preview",
    "init {t}/new --model http://{attack} --preview",
    "status {t}/{name}",
)
"""`§` is a space inside an argument."""


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("typed", COMMANDS)
def test_no_command_lets_hostile_text_control_the_terminal(
    typed: str,
    as_json: bool,
    project: Project,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LMSI_DEBUG", "1")
    files(tmp_path)
    with connect(project.database, read_only=True) as conn:
        values = {
            "p": str(project.folder),
            "t": str(tmp_path),
            "name": NAME,
            "attack": ATTACK,
            "question": questions.by_split(conn, Split.POOL)[0].key,
            "set": examples.sets(conn)[0].key,
            "model": project.settings.model.teacher,
        }
    words = [word.replace("§", " ").format(**values) for word in typed.split()]
    options = ["--json"] if as_json else []
    capfd.readouterr()
    try:
        with at_work(project):
            run([*words, *options])
    except SystemExit:
        assert as_json  # the command has no --json
    out, err = capfd.readouterr()
    assert_harmless(out + err)
    if as_json:
        for line in out.splitlines():
            json.loads(line)


def test_an_html_report_of_hostile_text_runs_nothing_and_loads_nothing(
    project: Project, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    assert run(["report", str(project.folder), "--format", "html", "--out", str(page)]) == 0

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in ("script", "iframe", "object", "embed", "link", "base", "form", "img")
            for name, value in attrs:
                assert not name.startswith("on"), name
                assert name not in ("src", "href"), value

    text = page.read_text(encoding="utf-8")
    Checker().feed(text)
    assert "HOSTILE" in text
    assert "Content-Security-Policy" in text


def test_a_markdown_report_of_hostile_text_has_no_markup_of_it(
    project: Project, tmp_path: Path
) -> None:
    page = tmp_path / "report.md"
    assert run(["report", str(project.folder), "--format", "md", "--out", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    outside_code = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    assert "HOSTILE" in outside_code
    assert re.search(r"(?<!\\)!?\[", outside_code) is None
    assert "<" not in outside_code.replace("&lt;", "")


@pytest.mark.parametrize("place", STEPS)
async def test_no_screen_lets_hostile_text_control_the_terminal(
    place: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGER", "true")
    with at_work(project):
        async with driven(project, place, size=(150, 50)) as pilot:
            for key in ["", *STEPS[place]]:
                if key:
                    await pilot.press(key)
                    await settled(pilot)
                assert_harmless(shown(pilot.app))
                assert "\n" not in shown(pilot.app)
            assert pilot.app.is_running


async def test_a_text_of_ten_megabytes_is_cut_when_shown_and_stored_whole(
    project: Project, tmp_path: Path
) -> None:
    length = 10_000_000
    copy = copy_of(project, tmp_path)
    with sqlite3.connect(copy.database) as conn:
        conn.execute("UPDATE question SET text = ? WHERE id <= 3", ("a" * length,))
        conn.execute("UPDATE path SET text = ? WHERE id = 1", ("b" * length,))
    with at_work(copy):
        for place in ("review", "results"):
            async with driven(copy, place) as pilot:
                for key in STEPS[place]:
                    await pilot.press(key)
                    await settled(pilot)
                longest = max(
                    (len(str(widget.content)) for widget in pilot.app.screen.query(Static)),
                    default=0,
                )
                assert longest < 100_000
    with connect(copy.database, read_only=True) as conn:
        assert len(questions.by_split(conn, Split.POOL)[0].text) == length


def test_the_terminal_of_the_app_gets_no_sequence_of_hostile_text(project: Project) -> None:
    command = [sys.executable, "-m", "lmsi_tui", str(project.folder)]
    with at_work(project):
        terminal = Terminal(command, 150, 50)
        try:
            terminal.until(lambda text: "Questions" in text)
            for key, word in ((b"r", "first difference"), (b"\x1b", "Questions"), (b"j", "sample")):
                terminal.press(key)
                terminal.until(lambda text, word=word: word in text)  # type: ignore[misc]
        finally:
            terminal.close()
    raw = terminal.output
    assert b"HOSTILE" in raw
    for sequence in (b"\x1b]52", b"\x1b]8;", b"\x1bP", b"\x1b_", b"\x1b^", b"\x1bX", b"\x1b[3J"):
        assert sequence + b"HOSTILE" not in raw
        assert sequence not in raw or sequence in (b"\x1bP", b"\x1b_"), sequence
    text = raw.decode("utf-8", "replace")
    assert not {*map(chr, range(0x80, 0xA0)), "\u202e", "\u2066"} & set(text)
    assert "\x1b]0;HOSTILE" not in text


def test_no_widget_or_notification_interprets_markup() -> None:
    interpreting = {"Static", "Label", "OptionList", "notify", "RichLog"}
    for file in sorted((ROOT / "lmsi_tui").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).rpartition(".")[2]
            texts = [arg for arg in node.args if not isinstance(arg, ast.Constant)]
            if name in interpreting and texts:
                keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert keywords.get("markup") == "False", f"{file}:{node.lineno}"
