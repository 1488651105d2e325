"""The app in a real terminal: its start, the pager, and its exit."""

from __future__ import annotations

import base64
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest

from store import jobs
from store.connection import connect
from store.enums import JobKind
from tests.projects import signals_reach_children
from tests.seed import at_work, running, seeded_project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engine.project.folder import Project

PATIENCE = 60.0
ESCAPES = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_].*?\x1b\\|.)"
)
MAIN = (sys.executable, "-m", "lmsi_tui")


class Terminal:
    """A pseudo-terminal that runs one command and keeps its output."""

    def __init__(self, *command: str, cwd: Path, **environment: str) -> None:
        self._own, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
        with signals_reach_children():
            self._process = subprocess.Popen(
                command,
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                cwd=cwd,
                env=os.environ | {"TERM": "xterm-256color"} | environment,
                start_new_session=True,
            )
        os.close(theirs)
        self.wrote = b""

    @property
    def text(self) -> str:
        """The output without escape sequences."""
        return ESCAPES.sub(b"", self.wrote).replace(b"\a", b"").decode("utf-8", "replace")

    def press(self, keys: str) -> None:
        """Send keys, and forget earlier output."""
        self.wrote = b""
        os.write(self._own, keys.encode())

    def shows(self, *words: str) -> None:
        """Read until the output contains all of these."""
        self._until(lambda: all(word in self.text for word in words))

    def sends(self, raw: bytes) -> None:
        """Read until the output contains these bytes."""
        self._until(lambda: raw in self.wrote)

    def ends(self) -> int:
        """Read until the command exits, and return its exit code."""
        end = time.monotonic() + PATIENCE
        while self._read():
            assert time.monotonic() < end, self.text
        return self._process.wait(PATIENCE)

    def _until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end, self.text
            assert self._read(), f"the command exited:\n{self.text}"

    def _read(self) -> bool:
        if select.select([self._own], [], [], 0.2)[0]:
            try:
                self.wrote += os.read(self._own, 1 << 16)
            except OSError:  # the other end is closed: the command has exited
                return False
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the command, and forget earlier output."""
        self.wrote = b""
        self._process.send_signal(number)

    def hangs_up(self) -> int:
        """Close the terminal, and return the exit code of the command."""
        os.close(self._own)
        self._own = os.open(os.devnull, os.O_RDONLY)
        self._process.send_signal(signal.SIGHUP)  # the kernel does, for a controlling terminal
        return self._process.wait(PATIENCE)

    @property
    def is_cooked(self) -> bool:
        """Whether the terminal echoes keys and edits lines, as a shell expects."""
        flags = termios.tcgetattr(self._own)[3]
        return bool(flags & termios.ECHO and flags & termios.ICANON)

    def close(self) -> None:
        """Kill the command if it is still running."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._own)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = seeded_project(tmp_path / "story")
    with at_work(project):
        yield project


def test_without_arguments_and_project_the_welcome_screen_opens(
    terminals: list[Terminal], tmp_path: Path
) -> None:
    terminals.append(terminal := Terminal(*MAIN, cwd=tmp_path))
    terminal.shows("Try it", "New project")
    terminal.press("q")
    assert terminal.ends() == 0


def test_without_arguments_the_project_in_the_current_folder_opens(
    terminals: list[Terminal], project: Project
) -> None:
    terminals.append(terminal := Terminal(*MAIN, cwd=project.folder))
    terminal.shows("the loop")
    terminal.press("q")
    assert terminal.ends() == 0


def test_a_folder_opens_its_project_and_review_opens_the_queue(
    terminals: list[Terminal], project: Project, tmp_path: Path
) -> None:
    terminals.append(terminal := Terminal(*MAIN, "story", cwd=tmp_path))
    terminal.shows("the loop")
    terminal.press("q")
    assert terminal.ends() == 0
    terminals.append(terminal := Terminal(*MAIN, "review", "story", cwd=tmp_path))
    terminal.shows("triage")
    terminal.press("q")
    assert terminal.ends() == 0


def test_the_demo_says_what_it_does_and_opens_the_app(
    terminals: list[Terminal], tmp_path: Path
) -> None:
    terminals.append(terminal := Terminal(*MAIN, "demo", "mine", "--pool", "20", cwd=tmp_path))
    terminal.shows("three small models into mine")
    terminal.shows("the loop")
    terminal.press("q")
    assert terminal.ends() == 0
    assert "`lmsi-tui mine`" in terminal.text
    assert (tmp_path / "mine" / "lmsi.toml").exists()


def test_a_demo_that_cannot_be_made_prints_one_error(
    terminals: list[Terminal], tmp_path: Path
) -> None:
    (tmp_path / "letter.txt").touch()
    terminals.append(terminal := Terminal(*MAIN, "demo", ".", cwd=tmp_path))
    assert terminal.ends() == 2
    assert terminal.text.count("neither empty") == 1
    assert "Traceback" not in terminal.text


def test_quitting_while_a_job_runs_says_that_the_job_continues(
    terminals: list[Terminal], project: Project, tmp_path: Path
) -> None:
    with connect(project.database) as conn:
        job = running(conn, JobKind.FINETUNE)
    terminals.append(terminal := Terminal(*MAIN, "story", cwd=tmp_path))
    terminal.shows("the loop")
    terminal.press("q")
    assert terminal.ends() == 0
    assert f"Job {job.id} (finetune) continues without the app" in terminal.text
    with connect(project.database, read_only=True) as conn:
        assert jobs.get(conn, job.id) == job


def test_copied_text_reaches_the_clipboard_of_the_terminal(
    terminals: list[Terminal], project: Project, tmp_path: Path
) -> None:
    terminals.append(terminal := Terminal(*MAIN, "story", cwd=tmp_path))
    terminal.shows("the loop")
    terminal.press("j")
    terminal.shows("16 measurements of 4 models.")
    terminal.press("y")
    copied = base64.b64encode(b"16 measurements of 4 models.")
    terminal.sends(b"\x1b]52;c;" + copied)
    terminal.press("q")
    assert terminal.ends() == 0


def test_the_pager_runs_in_the_terminal_and_the_app_returns(
    terminals: list[Terminal], project: Project, tmp_path: Path
) -> None:
    (project.folder / "logs" / "job-6.log").write_text("what was \x1b[2J printed\n")
    pager = tmp_path / "pager.sh"
    pager.write_text(f'cat "$1" > {tmp_path}/read; echo reading; read answer\n')
    terminals.append(
        terminal := Terminal(*MAIN, "story", cwd=tmp_path, PAGER=f"sh {pager}", EDITOR="false")
    )
    terminal.shows("the loop")
    terminal.press("j")
    terminal.shows("16 measurements of 4 models.")
    terminal.press("o")
    terminal.shows("reading")
    assert (tmp_path / "read").read_text() == "what was ␛[2J printed\n"
    terminal.press("\r")
    terminal.shows("16 measurements of 4 models.")
    terminal.press("q")
    assert terminal.ends() == 0


def test_a_missing_pager_is_reported(
    terminals: list[Terminal], project: Project, tmp_path: Path
) -> None:
    (project.folder / "logs" / "job-6.log").write_text("printed\n")
    terminals.append(terminal := Terminal(*MAIN, "story", cwd=tmp_path, PAGER="no-such-pager"))
    terminal.shows("the loop")
    terminal.press("j")
    terminal.shows("16 measurements of 4 models.")
    terminal.press("o")
    terminal.shows("'no-such-pager'")
    terminal.press("q")
    assert terminal.ends() == 0


FAULT = """
import sys
from lmsi_tui.cli.main import run
from lmsi_tui.screens import home
def compose(self):
    raise ZeroDivisionError("a planted \\x1b fault")
home.HomeScreen.compose = compose
sys.exit(run(sys.argv[1:]))
"""


def test_an_internal_error_of_the_app_is_one_sentence_and_a_log(
    terminals: list[Terminal], project: Project, tmp_path: Path
) -> None:
    terminals.append(terminal := Terminal(sys.executable, "-c", FAULT, "story", cwd=tmp_path))
    assert terminal.ends() == 1
    assert "Traceback" not in terminal.text
    last = terminal.text.strip().splitlines()[-1]
    assert last.startswith("lmsi-tui: Internal error: the app was closed (ZeroDivisionError")
    assert "story/logs/app.log" in last
    log = (project.folder / "logs" / "app.log").read_text()
    assert "Traceback" in log
    assert "a planted" in log


def test_lmsi_debug_shows_the_traceback_of_an_internal_error(
    terminals: list[Terminal], project: Project, tmp_path: Path
) -> None:
    terminals.append(
        terminal := Terminal(sys.executable, "-c", FAULT, "story", cwd=tmp_path, LMSI_DEBUG="1")
    )
    assert terminal.ends() == 1
    assert "Traceback (most recent call last)" in terminal.text
    assert "in compose" in terminal.text


def test_a_project_of_a_newer_version_is_refused_in_one_sentence(
    terminals: list[Terminal], project: Project, tmp_path: Path
) -> None:
    with connect(project.database) as conn:
        conn.execute("PRAGMA user_version = 99")
    terminals.append(terminal := Terminal(*MAIN, "story", cwd=tmp_path))
    assert terminal.ends() == 2
    assert "Traceback" not in terminal.text
    assert "newer" in terminal.text.strip().splitlines()[-1]


def test_the_app_works_without_colors(
    terminals: list[Terminal], project: Project, tmp_path: Path
) -> None:
    terminals.append(terminal := Terminal(*MAIN, "story", cwd=tmp_path, NO_COLOR="1"))
    terminal.shows("the loop", "✓")
    terminal.press("q")
    assert terminal.ends() == 0


RESTORED = (b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1000l", b"\x1b[?1003l", b"\x1b[?2004l")
"""Main screen, visible cursor, no mouse reports, no bracketed paste."""


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT], ids=lambda n: n.name
)
def test_a_signal_restores_the_terminal_and_leaves_the_jobs_alone(
    number: signal.Signals, terminals: list[Terminal], project: Project, tmp_path: Path
) -> None:
    with connect(project.database) as conn:
        job = running(conn, JobKind.FINETUNE)
    terminals.append(terminal := Terminal(*MAIN, "story", cwd=tmp_path))
    terminal.shows("the loop")
    assert not terminal.is_cooked
    terminal.signal(number)
    assert terminal.ends() == 128 + number
    assert all(sequence in terminal.wrote for sequence in RESTORED)
    assert f"Job {job.id} (finetune) continues without the app" in terminal.text
    assert "Traceback" not in terminal.text
    with connect(project.database, read_only=True) as conn:
        assert jobs.get(conn, job.id) == job


STUCK = """
import sys, time
from lmsi_tui.cli.main import run
from lmsi_tui.screens.home import HomeScreen
from lmsi_tui.shell import termination
termination.GRACE_SECONDS = 0.2
HomeScreen.action_pause = lambda self: [print("stuck"), time.sleep(60)]
sys.exit(run(sys.argv[1:]))
"""


def test_a_signal_also_ends_an_app_that_does_not_respond(
    terminals: list[Terminal], project: Project, tmp_path: Path
) -> None:
    terminals.append(terminal := Terminal(sys.executable, "-c", STUCK, "story", cwd=tmp_path))
    terminal.shows("the loop", "quit")
    before = terminal.wrote
    terminal.press("p")
    terminal.signal(signal.SIGTERM)
    assert terminal.ends() == 128 + signal.SIGTERM
    assert b"\x1b[?1049h" in before
    assert all(sequence in terminal.wrote for sequence in RESTORED)


def test_a_closed_terminal_ends_the_app(
    terminals: list[Terminal], project: Project, tmp_path: Path
) -> None:
    terminals.append(terminal := Terminal(*MAIN, "story", cwd=tmp_path))
    terminal.shows("the loop")
    assert terminal.hangs_up() == 128 + signal.SIGHUP


def test_a_signal_ends_a_command_that_follows_a_job_and_shows_the_cursor(
    terminals: list[Terminal], project: Project, tmp_path: Path
) -> None:
    terminals.append(terminal := Terminal(*MAIN, "vote", "story", cwd=tmp_path))
    terminal.shows("0:00:01")  # the bar is being drawn again
    assert b"\x1b[?25l" in terminal.wrote
    terminal.signal(signal.SIGTERM)
    assert terminal.ends() == 128 + signal.SIGTERM
    assert b"\x1b[?25h" in terminal.wrote
    assert "Traceback" not in terminal.text
    with connect(project.database, read_only=True) as conn:
        assert jobs.unfinished(conn)


SHELL = """
import fcntl, os, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp("sh", ["sh", "-i"])
"""
"""A shell with job control, for which the terminal must be the controlling one."""


def test_ctrl_z_gives_the_terminal_back_and_fg_returns_to_the_app(
    terminals: list[Terminal], project: Project, tmp_path: Path
) -> None:
    terminals.append(terminal := Terminal(sys.executable, "-c", SHELL, cwd=tmp_path, PS1="ready$ "))
    terminal.shows("ready$")
    terminal.press(f"{' '.join(MAIN)} story\r")
    terminal.shows("the loop")
    terminal.press("\x1a")
    terminal.shows("ready$")
    assert all(sequence in terminal.wrote for sequence in RESTORED)
    assert terminal.is_cooked
    terminal.press("fg\r")
    terminal.shows("the loop")
    assert b"\x1b[?1049h" in terminal.wrote
    terminal.press("q")
    terminal.shows("ready$")


def test_ctrl_z_does_nothing_without_a_shell_to_return_to(
    terminals: list[Terminal], project: Project, tmp_path: Path
) -> None:
    terminals.append(terminal := Terminal(*MAIN, "story", cwd=tmp_path))
    terminal.shows("the loop")
    terminal.press("\x1a")
    terminal.shows("no shell")
    terminal.press("q")
    assert terminal.ends() == 0
