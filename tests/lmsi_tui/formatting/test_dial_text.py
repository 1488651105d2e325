"""The words of a dial: every strength, and which one is exported."""

from __future__ import annotations

import json
from dataclasses import asdict

from engine.evaluation import dial
from engine.evaluation.dial import Dial
from lmsi_tui.formatting.dial_text import dial_lines
from lmsi_tui.formatting.job_results import sentence
from store.enums import JobKind
from tests.engine.evaluation.test_dial import rights


def test_every_strength_is_a_line_with_its_intervals() -> None:
    rows = dial.rows({0.5: rights(130), 1.0: rights(100)})
    lines = dial_lines(Dial("a/lmsi", 8, 0.5, rows, rows))
    assert sum(line.startswith("0.5 ") for line in lines) == 2
    (half, full) = (line for line in lines[2:4])
    assert half.startswith("0.5 ")
    assert "65.0" in half
    assert "+15.0" in half
    assert full.startswith("1 ")
    assert ";" not in full
    assert any("exported at strength 0.5" in line for line in lines)
    assert any("did not choose" in line for line in lines)


def test_the_result_of_the_job_says_what_is_exported() -> None:
    rows = dial.rows({0.5: rights(100), 1.0: rights(100)})
    for strength in (1.0, 0.5):
        result = {dial.PARAM: asdict(Dial("a/lmsi", 8, strength, rows))}
        stored = json.loads(json.dumps(result))
        assert f"strength {strength:g}" in sentence(JobKind.EVALUATE, stored)


def test_an_export_says_its_strength_unless_it_is_1() -> None:
    result: dict[str, object] = {"written": "exports/a-lmsi", "model": "a/lmsi", "strength": 0.5}
    assert "strength 0.5" in sentence(JobKind.EXPORT, result)
    assert "strength" not in sentence(JobKind.EXPORT, {**result, "strength": 1.0})
    assert "strength" not in sentence(JobKind.EXPORT, {**result, "strength": None})
