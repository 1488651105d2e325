from __future__ import annotations

import io

from rich.console import Console

from engine.evaluation.accuracy import Comparison
from engine.reports.summary import Report
from engine.statistics.intervals import Paired
from lmsi_tui.formatting.report_tables import gain_lines, print_report
from store.enums import Method, Split, Stage
from store.records import Evaluation, Model


def a_model(number: int, name: str, stage: Stage, base: int | None = None) -> Model:
    return Model(
        id=number,
        name=name,
        stage=stage,
        location="m",
        gguf=None,
        adapter=None,
        adapter_gguf=None,
        sha256=name,
        tokenizer_sha256="t",
        base_id=base,
        training_set=None,
        parameters=1,
        created_at=0.0,
    )


def measured(number: int, model: int, method: Method, correct: int) -> Evaluation:
    return Evaluation(
        id=number,
        model_id=model,
        split=Split.EVAL,
        method=method,
        k=16 if method is Method.SC else 1,
        run_id=1,
        n=1000,
        correct=correct,
        low=correct / 1000 - 0.03,
        high=correct / 1000 + 0.03,
        abstained=0,
        created_at=0.0,
    )


def compared(gain: float, low: float, high: float) -> Comparison:
    return Comparison(
        before="m/base",
        after="m/lmsi",
        split=Split.EVAL,
        method=Method.COT,
        result=Paired(n=1000, gain=gain, low=low, high=high, p=0.0, won=1, lost=0),
        before_id=1,
        after_id=3,
    )


def a_report(*comparisons: Comparison, base: str = "m/base") -> Report:
    models = [a_model(1, base, Stage.BASE), a_model(2, "m/lmsi", Stage.LMSI, base=1)]
    evaluations = [
        measured(1, 1, Method.COT, 450),
        measured(2, 1, Method.SC, 610),
        measured(3, 2, Method.COT, 620),
    ]
    ended = {1: 1.0, 2: 0.973, 3: 1.0}
    temperatures = {1: 0.0, 2: 0.7, 3: 0.0}
    return Report(models, evaluations, comparisons, ended, temperatures, {})


def printed(report: Report, width: int = 140) -> str:
    out = io.StringIO()
    print_report(Console(file=out, width=width, color_system=None), report)
    return out.getvalue()


def test_every_accuracy_has_an_interval_and_the_table_has_n() -> None:
    text = printed(a_report(compared(0.17, 0.14, 0.2)))
    assert "1,000 evaluation questions" in text
    assert "45.0 (42.0–48.0)" in text
    assert "self-consistency @16" in text
    assert "97.3" in text
    assert "temperature 0.7" in text
    assert "+17.0 (+14.0 to +20.0)" in text


def test_missing_measurements_are_dashes() -> None:
    row = next(line for line in printed(a_report()).splitlines() if "m/lmsi" in line)
    assert row.count("–") >= 3


def test_a_gain_is_claimed_only_if_its_interval_excludes_zero() -> None:
    assert "is better than m/base by +17.0" in gain_lines(a_report(compared(0.17, 0.14, 0.2)))[0]
    assert "not shown to differ" in gain_lines(a_report(compared(0.01, -0.02, 0.04)))[0]
    assert "is worse than m/base" in gain_lines(a_report(compared(-0.1, -0.12, -0.05)))[0]


def test_an_empty_report_says_what_to_do() -> None:
    assert "lmsi-tui evaluate" in printed(Report([], [], [], {}, {}, {}))


def test_a_model_name_cannot_style_the_terminal() -> None:
    text = printed(a_report(base="[red]\x1b[31mm/base"))
    assert "\x1b" not in text
    assert "[red]" in text


def test_a_narrow_terminal_shows_the_same_numbers_in_lines() -> None:
    text = printed(a_report(compared(0.17, 0.14, 0.2)), width=40)
    assert max(len(line) for line in text.splitlines()) <= 40
    assert "greedy CoT: 45.0 (42.0–48.0)" in text
    assert "+17.0 (+14.0 to +20.0)" in " ".join(text.split())
    assert "…" not in text
