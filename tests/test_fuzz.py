"""Damaged files are accepted or refused with one sentence; `benchmarks.fuzz` tries many more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.fuzz import FAULT, KINDS, REFUSED, case, fuzz, prepare

if TYPE_CHECKING:
    from pathlib import Path

LOADS_A_MODEL = {"safetensors", "config", "tokenizer", "adapter"}


@pytest.mark.filterwarnings("ignore")  # of transformers and peft
@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_refused_with_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSI_DEBUG", "1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    files = prepare(name, tmp_path)
    count = 6 if name in LOADS_A_MODEL else 30
    outcomes = [case(name, tmp_path, files, number, seed=1) for number in range(count)]
    assert [outcome for outcome in outcomes if outcome.result == FAULT] == []
    assert any(outcome.result == REFUSED for outcome in outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_two_thousand_damaged_files_cause_no_fault(name: str) -> None:
    outcomes = fuzz(name, 2000)
    assert len(outcomes) == 2000
    assert [outcome for outcome in outcomes if outcome.result == FAULT] == []
