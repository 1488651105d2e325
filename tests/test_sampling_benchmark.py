"""The statistics of the sampling benchmark, not its measurements."""

from __future__ import annotations

import random
import subprocess
import sys

from benchmarks.agreement import agreement, chance


def answers(seed: int, shares: tuple[float, ...]) -> list[tuple[int, str | None]]:
    draw = random.Random(seed)
    words = ["1", "2", "3", None]
    return [
        (question, draw.choices(words, shares)[0]) for question in range(20) for _ in range(100)
    ]


def test_samples_of_one_distribution_agree_as_often_as_p_says() -> None:
    shares = (0.6, 0.3, 0.08, 0.02)
    found = [chance(answers(2 * n, shares), answers(2 * n + 1, shares)) for n in range(200)]
    assert 2 <= sum(p < 0.05 for p in found) <= 25


def test_a_few_points_of_share_are_noticed() -> None:
    peer = answers(0, (0.6, 0.3, 0.08, 0.02))
    told = agreement(
        "here",
        {
            "exact peer": peer,
            "ours": answers(1, (0.6, 0.3, 0.08, 0.02)),
            "min_p 0.05": answers(2, (0.68, 0.27, 0.05, 0)),
        },
    )
    assert [(one.control, one.verdict) for one in told] == [(False, "met"), (True, "met")]


def test_a_question_with_one_answer_says_nothing() -> None:
    assert chance([(0, "1")] * 50, [(0, "1")] * 40) == 1.0


def test_the_benchmark_explains_its_options() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.sampling", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "--only" in told
    assert "135m-q8_0" in told
