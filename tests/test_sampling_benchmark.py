"""The statistics of the sampling benchmark, and its options."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import real_models
from benchmarks.agreement import agreement, p_value
from engine.conversion.hf_to_gguf import convert_base
from engine.prompting import tasks
from tests.engine.tiny import tiny_model


def answers(seed: int, shares: tuple[float, ...]) -> list[tuple[int, str | None]]:
    rng = random.Random(seed)
    words = ["1", "2", "3", None]
    return [(question, rng.choices(words, shares)[0]) for question in range(20) for _ in range(100)]


def test_p_is_uniform_for_samples_of_one_distribution() -> None:
    shares = (0.6, 0.3, 0.08, 0.02)
    p_values = [p_value(answers(2 * n, shares), answers(2 * n + 1, shares)) for n in range(200)]
    assert 2 <= sum(p < 0.05 for p in p_values) <= 25


def test_a_difference_of_a_few_points_is_detected() -> None:
    peer = answers(0, (0.6, 0.3, 0.08, 0.02))
    comparisons = agreement(
        "here",
        {
            "exact peer": peer,
            "ours": answers(1, (0.6, 0.3, 0.08, 0.02)),
            "min_p 0.05": answers(2, (0.68, 0.27, 0.05, 0)),
        },
    )
    assert [(each.control, each.verdict) for each in comparisons] == [(False, "met"), (True, "met")]


def test_a_question_with_one_answer_has_no_influence() -> None:
    assert p_value([(0, "1")] * 50, [(0, "1")] * 40) == 1.0


def test_the_benchmark_explains_its_options() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "benchmarks.sampling", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "--only" in help_text
    assert "135m-q8_0" in help_text


@pytest.mark.slow
def test_the_part_for_real_models_measures_all_arms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "models" / "tiny.gguf"
    file.parent.mkdir()
    convert_base(tiny_model(tmp_path / "tiny", context=2048), file)
    questions = tmp_path / "questions.jsonl"
    texts = [f"Ann has {n} apples and buys {n + 2} more. How many?" for n in range(8)]
    questions.write_text("\n".join(json.dumps({"question": text}) for text in texts))
    monkeypatch.setattr(real_models, "package_model", lambda _: file)
    monkeypatch.setattr(real_models, "OTHERS", (file.name,))
    short = replace(tasks.preset(real_models.TASK), max_tokens=16)
    monkeypatch.setattr(tasks, "preset", lambda _: short)
    orders = dict.fromkeys(real_models.ARMS, (1, 32)) | {real_models.LOOP: (1, 2)}
    monkeypatch.setattr(real_models, "ORDERS", orders)
    root = Path(real_models.__file__).parents[1]
    stored = real_models.measure(tmp_path, file.parent, questions, base=root, rounds=1, quick=False)
    result = stored["models"][file.name]
    assert list(result["samples"]) == list(real_models.ARMS)
    assert "probe: llama.cpp" in result["settings"][real_models.OURS]
    assert all(samples[0]["tokens"] > 0 for samples in result["samples"].values())
    real_models.print_tables(stored)
    assert capsys.readouterr().out.count("\n| ") == 5
    titles = [title for title, _, minimum in real_models.targets(stored) if minimum]
    assert len(titles) == 4
