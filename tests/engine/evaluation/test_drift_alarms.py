from __future__ import annotations

from dataclasses import replace

from engine.evaluation.drift_alarms import DriftIndicators, alarms

CALM = DriftIndicators(
    questions=50,
    agreement=0.6,
    entropy=1.5,
    truncated=0.01,
    unread=0.02,
    length=200,
    distinct=0.9,
)


def test_every_indicator_has_its_alarm() -> None:
    collapsed = DriftIndicators(
        questions=50,
        agreement=0.9,
        entropy=0.3,
        truncated=0.2,
        unread=0.3,
        length=90,
        distinct=0.2,
    )
    raised = alarms(CALM, collapsed, precision_gain=-0.1)
    assert len(raised) == 6
    for alarm, numbers in zip(
        raised,
        (
            ("60%", "90%"),
            ("1.50", "0.30"),
            ("1.0%", "20.0%"),
            ("2.0%", "30.0%"),
            ("200", "90"),
            ("90%", "20%"),
        ),
        strict=True,
    ):
        assert all(number in alarm for number in numbers), alarm


def test_higher_agreement_with_higher_audited_precision_is_no_alarm() -> None:
    assert alarms(CALM, replace(CALM, agreement=0.7), precision_gain=0.05) == []
    assert len(alarms(CALM, replace(CALM, agreement=0.7))) == 1
    assert alarms(CALM, CALM) == []
