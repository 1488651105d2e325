"""A worker that a native library kills ends in one sentence, and the job continues later."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.projects import command, scripted_project

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CRASH = """
import os, signal, sys

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "engine.inference.scripted":
            os.kill(os.getpid(), signal.SIGSEGV)

if "engine.jobs.worker" in sys.orig_argv:
    sys.meta_path.insert(0, Finder)
"""
"""A `sitecustomize.py` that crashes the worker while it opens its model."""


def test_a_worker_that_dies_of_a_signal_ends_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = scripted_project(tmp_path / "p", pool=4, evaluation=0)
    (tmp_path / "sitecustomize.py").write_text(CRASH)
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), before])))
    crashed = command("sample", project.folder)
    assert crashed.returncode == 1
    (sentence,) = [line for line in crashed.stderr.splitlines() if line.startswith("lmsi-tui: ")]
    assert "signal 11" in sentence
    assert sentence.endswith(".")
    assert "Traceback" not in crashed.stderr
    monkeypatch.setenv("PYTHONPATH", before)
    assert command("sample", project.folder).returncode == 0
