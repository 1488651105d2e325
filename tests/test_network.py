"""The demo, from sampling to distilling, works without a network and does not try to use one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from engine.jobs.launch import OFFLINE

if TYPE_CHECKING:
    from pathlib import Path

GUARD = """
import os, socket

connect, look_up = socket.socket.connect, socket.getaddrinfo

def note(address):
    with open(os.environ["LMSI_TEST_ATTEMPTS"], "a") as file:
        file.write(f"{os.getpid()} {address}\\n")
    raise OSError("the network is cut off")

def guarded(self, address):
    if self.family != socket.AF_UNIX:
        note(address)
    return connect(self, address)

def guarded_look_up(host, *arguments, **options):
    note(host)

socket.socket.connect = socket.socket.connect_ex = guarded
socket.getaddrinfo = guarded_look_up
with open(os.environ["LMSI_TEST_ATTEMPTS"] + ".guarded", "a") as file:
    import sys
    file.write(" ".join(sys.orig_argv) + "\\n")
"""
"""A `sitecustomize.py` for every process of the demo."""

SMALL = [
    *("--pool", "24", "--eval", "8", "--set", "sample.m=4", "--set", "sample.threshold=0"),
    *("--set", "evaluate.k=2", "--set", "evaluate.ood=false"),
    *("--set", "finetune.epochs=0.1", "--set", "distill.epochs=0.1"),
]


def guarded(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], str, str]:
    """Run a command; what it printed, the attempts to connect, and the guarded processes."""
    (folder / "guard").mkdir()
    (folder / "guard" / "sitecustomize.py").write_text(GUARD)
    attempts = folder / "attempts"
    python_path = os.pathsep.join(
        filter(None, [str(folder / "guard"), os.environ.get("PYTHONPATH")])
    )
    online = dict.fromkeys(OFFLINE, "0")  # the worker must not depend on the user's environment
    done = subprocess.run(
        [sys.executable, "-m", "lmsi_tui", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | online | {"PYTHONPATH": python_path, "LMSI_TEST_ATTEMPTS": str(attempts)},
    )
    tried = attempts.read_text() if attempts.exists() else ""
    return done, tried, attempts.with_name("attempts.guarded").read_text()


@pytest.mark.slow
def test_the_demo_needs_no_network_and_tries_none(tmp_path: Path) -> None:
    done, attempts, processes = guarded(tmp_path, "demo", str(tmp_path / "demo"), "--json", *SMALL)
    assert done.returncode == 0, done.stderr
    assert attempts == ""
    assert "engine.jobs.worker" in processes
    kinds = {json.loads(line).get("kind") for line in done.stdout.splitlines()}
    assert "round" in kinds


def test_sampling_with_a_local_model_tries_no_network(tmp_path: Path) -> None:
    from tests.engine.tiny import tiny_model

    model, project = tiny_model(tmp_path / "tiny", layers=1, width=16, heads=2), tmp_path / "p"
    questions = tmp_path / "q.jsonl"
    questions.write_text("".join(f'{{"question": "What is {n} + 1?"}}\n' for n in range(4)))
    for number, arguments in enumerate(
        (
            ("init", str(project), "--model", str(model)),
            ("import", str(questions), "--task", "span", "--project", str(project)),
            (
                *("sample", str(project), "--set", "sample.m=2", "--set", "sample.max_tokens=8"),
                *("--set", "sample.threshold=0", "--set", "sample.format=zero-shot-direct"),
            ),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        done, attempts, processes = guarded(folder, *arguments)
        assert done.returncode == 0, done.stderr
        assert attempts == ""
    assert "engine.jobs.worker" in processes
