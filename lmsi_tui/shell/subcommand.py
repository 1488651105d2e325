"""Ask the program's own commands, each in a process of its own.

What they load (readers of Parquet, tables of token types, hashes of gigabytes) never gets into the
app's process, and a large file does not stop its keys.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from typing import Any

from store.errors import BadInput, WorkFailed

# -P: a folder of the person's that is called `store` or `engine` is not taken for ours.
PROGRAM = (sys.executable, "-P", "-m", "lmsi_tui")
"""How this program is started once more."""

Event = dict[str, Any]


async def ask(command: str, *arguments: str) -> list[Event]:
    """Run a command with `--json` and give its events; ended with whoever waits for it.

    Raises:
        BadInput, WorkFailed: as the command says it.
    """
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, command, "--json", *arguments, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    try:
        said, complained = await process.communicate()
    except asyncio.CancelledError:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    if process.returncode:
        lines = complained.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        sentence = lines[-1].removeprefix("lmsi-tui: ").removeprefix("error: ")
        failure = BadInput if process.returncode == BadInput.exit_code else WorkFailed
        raise failure(sentence)
    return [json.loads(line) for line in said.decode("utf-8", "replace").splitlines()]
