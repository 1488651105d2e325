"""The statistics of the sampling benchmark, and its options."""

from __future__ import annotations

import random
import subprocess
import sys

from benchmarks.agreement import agreement, p_value


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
