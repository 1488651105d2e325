"""Commands of lmsi-tui that the app runs in another process."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from engine.demo.project import MODELS
from lmsi_tui.shell import subcommand
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from pathlib import Path


def instead(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Run a script instead of lmsi-tui."""
    monkeypatch.setattr(subcommand, "COMMAND", (sys.executable, "-c", script))


async def test_a_command_returns_its_events(tmp_path: Path) -> None:
    model = f"--model={MODELS / 'pebble-s'}"
    (event,) = await subcommand.run_command("init", "--preview", model, "--", str(tmp_path / "p"))
    assert event["name"] == "pebble-s/base"


async def test_bad_input_is_raised_with_the_message_of_the_command(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as failure:
        await subcommand.run_command(
            *("init", "--preview", "--model=/nowhere", "--", str(tmp_path / "p"))
        )
    assert str(failure.value).startswith("There is no model at /nowhere")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("import sys; sys.exit('lmsi-tui: the disk is full.')", "the disk is full."),
        ("import sys; sys.exit(1)", "the command printed no message"),
        ("import os; os.kill(os.getpid(), 11)", "crashed (signal 11)"),
    ],
)
async def test_a_failed_command_raises_its_message(
    script: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead(monkeypatch, script)
    with pytest.raises(WorkFailed) as failure:
        await subcommand.run_command("init")
    assert says in str(failure.value)


async def test_cancelling_the_caller_kills_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "pid"
    instead(
        monkeypatch,
        f"import os, pathlib, signal; p = pathlib.Path({str(note)!r});"
        " p.with_suffix('.new').write_text(str(os.getpid()));"
        " p.with_suffix('.new').rename(p); signal.pause()",
    )
    waiting = asyncio.create_task(subcommand.run_command("import"))
    async with asyncio.timeout(30):
        while not note.exists():
            await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not psutil.pid_exists(int(note.read_text()))
