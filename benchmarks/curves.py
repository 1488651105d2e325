"""Plot calibration and maj@k of public outputs of other models, as SVG files in docs/.

    python -m benchmarks.curves                 # from ../shared/outputs
    python -m benchmarks.curves --outputs DIR --into docs

The models and paths are those of others; answer extraction, vote and statistics are lmsi-tui's.
Ties count as wrong. Maj@k is exact: the mean over all subsets of k of the stored paths.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from engine.evaluation import agreement, calibration
from engine.importing.sampled_outputs import read_sampled
from engine.reports import svg_charts
from engine.reports.sections import vote_calibration
from engine.statistics.intervals import Z95
from engine.voting import majority
from store.enums import EarlyStop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.importing.sampled_outputs import SampledAnswers

SETS = (
    ("multiple_choice_10", "choice", "Multiple choice, 10 paths"),
    ("math_qwen_8", "math", "MATH, Qwen2.5-Math, 8 paths"),
)
SHOWN = 4
"""Models with a separate curve."""


def main() -> None:
    """Write every plot, and print its numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    outputs = Path(__file__).parents[2] / "shared" / "outputs"
    parser.add_argument("--outputs", type=Path, default=outputs)
    parser.add_argument("--into", type=Path, default=Path(__file__).parents[1] / "docs")
    args = parser.parse_args()
    for name, task, title in SETS:
        path = args.outputs / name / "normalized.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        sampled = read_sampled(path, task)
        models = [str(row.get("model", "Qwen2.5-Math")) for row in rows]
        m = max(len(question.answers) for question in sampled)
        complete = [
            (question, model)
            for question, model in zip(sampled, models, strict=True)
            if question.gold is not None and len(question.answers) == m
        ]
        print(f"\n{title}: {len(complete):,} of {len(sampled):,} questions have all {m} paths")
        write(
            args.into / f"calibration-{name}.svg",
            calibration_chart(title, [question for question, _ in complete]),
        )
        write(args.into / f"majority-{name}.svg", majority_chart(title, complete))


def write(path: Path, svg: str) -> None:
    """Write a plot, and print its name."""
    path.write_text(svg + "\n", encoding="utf-8")
    print(f"wrote {path.name}")


def calibration_chart(title: str, sampled: Sequence[SampledAnswers]) -> str:
    """Accuracy against agreement as SVG."""
    judged = []
    for question in sampled:
        vote = majority.count_vote(
            question.answers,
            run_id=0,
            question_id=0,
            m=len(question.answers),
            rule=EarlyStop.OFF,
            threshold="0",
            cap=0,
            epsilon=0.0,
            reader="",
        )
        judged.append(calibration.JudgedVote(vote, vote.winner == question.gold))
    bins = calibration.bins(judged)
    error = calibration.calibration_error(judged)
    mean = agreement.mean_agreement([question.answers for question in sampled])
    assert error is not None
    assert mean is not None
    print(f"{error.n:,} of {len(judged):,} have a winner")
    print("agreement        n   right in % (95 %)")
    for group in bins:
        print(
            f"{group.low:.1f} to {group.high:.1f} {group.n:8,}   {100 * group.accuracy:5.1f} "
            f"({100 * group.accuracy_low:.1f} to {100 * group.accuracy_high:.1f})"
        )
    print(
        f"ECE {100 * error.value:.1f} ({100 * error.low:.1f} to {100 * error.high:.1f}); mean "
        f"agreement {100 * mean.counted:.1f} as counted on {mean.paths} paths, "
        f"{100 * mean.corrected:.1f} ({100 * mean.low:.1f} to {100 * mean.high:.1f}) corrected "
        "for the winner's curse"
    )
    return vote_calibration.reliability_chart(
        calibration.Calibration(title, "", tuple(bins), error, mean, ())
    )


def majority_chart(title: str, complete: Sequence[tuple[SampledAnswers, str]]) -> str:
    """Expected accuracy of a majority of k paths for every k as SVG, by model."""
    common = [model for model, _ in Counter(model for _, model in complete).most_common(SHOWN)]
    series = []
    for model in common:
        own = [question for question, name in complete if name == model]
        fewest = min(len(question.answers) for question in own)
        curves = [
            majority.majority_at(question.answers, {str(question.gold)})[:fewest]
            for question in own
        ]
        points = []
        for k in range(fewest):
            values = [float(curve[k]) for curve in curves]
            share = sum(values) / len(values)
            deviation = math.sqrt(sum((value - share) ** 2 for value in values) / (len(values) - 1))
            half = Z95 * deviation / math.sqrt(len(values))
            points.append(
                svg_charts.PlotPoint(k + 1, share, max(0.0, share - half), min(1.0, share + half))
            )
        accuracies = ", ".join(f"{k}: {100 * point.y:.1f}" for k, point in enumerate(points, 1))
        print(f"maj@k  {model} (n = {len(own):,})  {accuracies}")
        series.append(svg_charts.PlotSeries(f"{model} ({len(own)})", tuple(points)))
    longest = max(len(line.points) for line in series)
    return svg_charts.chart(
        f"Majority of k paths: {title}",
        series,
        x="k",
        y="right, %",
        x_range=(1, longest),
        y_range=(0.4, 1.0),
        x_ticks=range(1, longest + 1),
    )


if __name__ == "__main__":
    main()
