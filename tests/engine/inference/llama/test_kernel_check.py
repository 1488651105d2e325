"""llama.cpp kernels that do not run on this machine are detected before they kill a process."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from engine.inference.backend import Sampling
from engine.inference.llama import kernel_check
from engine.models.gguf_quantize import quantize
from tests.engine.tiny import ListSource, requests

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _forget_trial() -> Iterator[None]:
    kernel_check.kernels_run.cache_clear()
    yield
    kernel_check.kernels_run.cache_clear()


def replace_trial(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Run this program instead of the trial."""
    run = subprocess.run
    monkeypatch.setattr(kernel_check, "_reports_amx", lambda: True)

    def instead(_command: list[str], **settings: Any) -> Any:
        return run([sys.executable, "-c", program], **settings)

    monkeypatch.setattr(subprocess, "run", instead)


def test_a_processor_without_amx_needs_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_trial(monkeypatch, "raise SystemExit(1)")
    monkeypatch.setattr(kernel_check, "_reports_amx", lambda: False)
    assert kernel_check.kernels_run()
    assert kernel_check.model_params().use_extra_bufts


def test_kernels_whose_trial_is_killed_are_not_used_and_the_reason_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replace_trial(monkeypatch, f"import os; os.kill(os.getpid(), {int(signal.SIGILL)})")
    with caplog.at_level(logging.WARNING):
        assert not kernel_check.model_params().use_extra_bufts
    assert "do not run on this machine (the trial ended with SIGILL)" in caplog.text
    assert not kernel_check.model_params().use_extra_bufts
    assert len(caplog.records) == 1  # tried once


def test_a_trial_that_hangs_or_cannot_start_has_failed_and_the_reason_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernel_check, "TIMEOUT", 0.0)
    replace_trial(monkeypatch, "input()")
    with caplog.at_level(logging.WARNING):
        assert not kernel_check.kernels_run()
        assert "the trial did not end within 0 seconds" in caplog.text
        kernel_check.kernels_run.cache_clear()
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        assert not kernel_check.kernels_run()
    assert "the trial could not be started" in caplog.text


def test_kernels_whose_trial_succeeds_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_trial(monkeypatch, "pass")
    assert kernel_check.model_params().use_extra_bufts


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_a_quantized_model_can_be_sampled_on_any_machine(tmp_path: Path, kind: str) -> None:
    from engine.inference.llama.backend import open_llama_cpp

    gguf = tmp_path / "model.gguf"
    quantize(kernel_check.MODEL, gguf, kind)
    with closing(open_llama_cpp(gguf, batch_size=8, context=128)) as opened:
        path_requests = requests(
            [opened.tokenize("Q: 1 + 1?"), opened.tokenize("Q: 2 + 3?")], paths=4
        )
        assert len(list(opened.sample(ListSource(path_requests), Sampling(1.0, 12)))) == 8
