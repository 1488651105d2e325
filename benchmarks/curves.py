"""Calibration and majority at k on public outputs of other people's models, as pictures in docs/.

    python -m benchmarks.curves                 # from ../shared/outputs
    python -m benchmarks.curves --outputs DIR --into docs

The paths are not ours and neither are the models; what is shown is what this program's reader, vote
and statistics make of them. Ties count as wrong. Majority at k is exact: the mean over all subsets
of k of the stored paths.
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

    from engine.importing.sampled_outputs import SampledQuestion

SETS = (
    ("multiple_choice_10", "choice", "Multiple choice, 10 paths"),
    ("math_qwen_8", "math", "MATH, Qwen2.5-Math, 8 paths"),
)
SHOWN = 4
"""Models with a curve of their own."""


def main() -> None:
    """Draw every picture, and print the numbers behind them."""
    parser = argparse.ArgumentParser(description=__doc__)
    beside = Path(__file__).parents[2] / "shared" / "outputs"
    parser.add_argument("--outputs", type=Path, default=beside)
    parser.add_argument("--into", type=Path, default=Path(__file__).parents[1] / "docs")
    asked = parser.parse_args()
    for name, task, title in SETS:
        path = asked.outputs / name / "normalized.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        sampled = read_sampled(path, task)
        models = [str(row.get("model", "Qwen2.5-Math")) for row in rows]
        full = max(len(one.answers) for one in sampled)
        known = [
            (one, model)
            for one, model in zip(sampled, models, strict=True)
            if one.gold is not None and len(one.answers) == full
        ]
        print(f"\n{title}: {len(known):,} of {len(sampled):,} questions have all {full} paths")
        write(asked.into / f"calibration-{name}.svg", calibrated(title, [one for one, _ in known]))
        write(asked.into / f"majority-{name}.svg", majorities(title, known))


def write(path: Path, svg: str) -> None:
    """Store a picture and say so."""
    path.write_text(svg + "\n", encoding="utf-8")
    print(f"wrote {path.name}")


def calibrated(title: str, sampled: Sequence[SampledQuestion]) -> str:
    """Agreement against accuracy."""
    judged = []
    for one in sampled:
        vote = majority.count_vote(
            one.answers,
            run_id=0,
            question_id=0,
            m=len(one.answers),
            rule=EarlyStop.OFF,
            threshold="0",
            cap=0,
            epsilon=0.0,
            reader="",
        )
        judged.append(calibration.JudgedVote(vote, vote.winner == one.gold))
    bins = calibration.bins(judged)
    error = calibration.calibration_error(judged)
    mean = agreement.mean_agreement([one.answers for one in sampled])
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
        f"{100 * mean.corrected:.1f} ({100 * mean.low:.1f} to {100 * mean.high:.1f}) without the "
        "winner's curse"
    )
    found = calibration.Calibration(title, "", tuple(bins), error, mean, ())
    return vote_calibration.reliability_chart(found)


def majorities(title: str, known: Sequence[tuple[SampledQuestion, str]]) -> str:
    """Expected accuracy of a majority of k paths, for every k; the commonest models apart."""
    common = [model for model, _ in Counter(model for _, model in known).most_common(SHOWN)]
    series = []
    for model in common:
        mine = [one for one, name in known if name == model]
        fewest = min(len(one.answers) for one in mine)
        curves = [majority.majority_at(one.answers, {str(one.gold)})[:fewest] for one in mine]
        points = []
        for k in range(fewest):
            values = [float(curve[k]) for curve in curves]
            share = sum(values) / len(values)
            spread = math.sqrt(sum((one - share) ** 2 for one in values) / (len(values) - 1))
            half = Z95 * spread / math.sqrt(len(values))
            points.append(
                svg_charts.PlotPoint(k + 1, share, max(0.0, share - half), min(1.0, share + half))
            )
        told = ", ".join(f"{k + 1}: {100 * one.y:.1f}" for k, one in enumerate(points))
        print(f"maj@k  {model} (n = {len(mine):,})  {told}")
        series.append(svg_charts.PlotSeries(f"{model} ({len(mine)})", tuple(points)))
    longest = max(len(one.points) for one in series)
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
