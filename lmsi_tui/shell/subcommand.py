"""Run a command of lmsi-tui in a process of its own.

So the app's process never loads what the command needs (Parquet readers, tokenizers), and a large
file does not block the keyboard.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from typing import Any

from store.errors import BadInput, WorkFailed

# -P: do not import from a user's folder that happens to be named `store` or `engine`.
COMMAND = (sys.executable, "-P", "-m", "lmsi_tui")
"""The command that starts lmsi-tui in another process."""

Event = dict[str, Any]


async def run_command(command: str, *arguments: str) -> list[Event]:
    """Run a command with `--json` and return its events; cancelling the caller kills it.

    Raises:
        BadInput, WorkFailed: the command failed, with its message.
    """
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        command,
        "--json",
        *arguments,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )
    try:
        stdout, stderr = await process.communicate()
    except asyncio.CancelledError:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    if process.returncode and process.returncode < 0:
        raise WorkFailed(
            f"`lmsi-tui {command}` crashed (signal {-process.returncode}) and changed nothing: the "
            "file may be damaged, or memory ran out."
        )
    if process.returncode:
        lines = stderr.decode("utf-8", "replace").strip().splitlines() or [
            "the command printed no message"
        ]
        sentence = lines[-1].removeprefix("lmsi-tui: ").removeprefix("error: ")
        failure = BadInput if process.returncode == BadInput.exit_code else WorkFailed
        raise failure(sentence)
    return [json.loads(line) for line in stdout.decode("utf-8", "replace").splitlines()]
