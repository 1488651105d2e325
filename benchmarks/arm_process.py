"""Run an arm of the sampling benchmark in a process of its own."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers import THREADS
from engine.jobs.launch import ENVIRONMENT

if TYPE_CHECKING:
    from benchmarks.peers import SampleOrder

_START = """
from benchmarks import arms
arms.THRESHOLD = "{threshold}" or arms.THRESHOLD
arms.main()
"""
"""Starts an arm; an earlier commit has no option for the threshold."""


class ArmProcess:
    """An arm in its own process."""

    def __init__(
        self, arm: str, load: Path, *, tree: Path | None = None, threshold: str = ""
    ) -> None:
        """Args:
        arm: one of `benchmarks.arms`.
        load: the model and its prompts.
        tree: a checkout of another commit, whose code samples; None for this one.
        threshold: of the votes of an arm that stops early; "" for the demo's.
        """
        environment = os.environ | {"OMP_NUM_THREADS": str(THREADS), "TOKENIZERS_PARALLELISM": "0"}
        # Ours have the environment of lmsi-tui's worker; peers keep theirs.
        if arm.startswith(("ours", "chosen")):
            environment = ENVIRONMENT | environment
        if tree is not None:
            environment["PYTHONPATH"] = str(tree.resolve())
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START.format(threshold=threshold), arm, str(load.resolve())],
            cwd=tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )
        self._arm = arm
        self.settings: str = self._reply()["settings"]

    def sample(self, order: SampleOrder, *, read: bool = False) -> dict[str, Any]:
        """Sample; returns seconds, paths, tokens, peak memory in bytes, and answers if `read`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order._asdict() | {"read": read}) + "\n")
        self._process.stdin.flush()
        return self._reply()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._log.close()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            log = self._log.read().decode(errors="replace")[-2000:]
            raise SystemExit(f"the arm {self._arm!r} has ended:\n{log}")
        reply: dict[str, Any] = json.loads(line)
        return reply


def machine() -> str:
    """This machine and the versions of the packages, as text."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    features = [name for name in ("avx512_bf16", "amx_bf16", "avx512f", "avx2") if name in flags][
        :2
    ]
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "transformers", "llama-cpp-python")
    )
    return f"{THREADS} cores of {platform.machine()} ({', '.join(features) or 'plain'}); {packages}"


def log(line: str) -> None:
    """Print progress to standard error."""
    print(line, file=sys.stderr, flush=True)
