"""A comparison of styles as text."""

from __future__ import annotations

from dataclasses import replace

from engine.evaluation.pilot_styles import STYLES, StylePilot, StyleResult
from lmsi_tui.formatting.style_text import style_lines
from store.enums import PromptFormat, PromptStyle

BEST = StyleResult(
    style=PromptStyle.CHAT,
    format=PromptFormat.ZERO_SHOT_COT,
    right=0.359,
    low=0.25,
    high=0.47,
    majority=10,
    majority_low=0.3,
    majority_high=0.7,
    ties=3,
    kept=5,
    kept_right=4,
    abstained=0.075,
    truncated=0.037,
    tokens_per_path=112.6,
    seconds=61.0,
    difference=0.0,
    difference_low=0.0,
    difference_high=0.0,
)


def compared(high: float) -> StylePilot:
    styles = [
        replace(
            BEST,
            style=style,
            format=prompt_format,
            difference=-0.1,
            difference_low=-0.2,
            difference_high=high,
        )
        for style, prompt_format in STYLES
    ]
    styles[1] = BEST
    return StylePilot("qwen/base", 20, 8, "0.6", tuple(styles), recommended=1)


def test_a_table_has_a_row_for_each_style_and_the_recommended_settings() -> None:
    lines = style_lines(compared(high=-0.05))
    rows = [line for line in lines if "10/20" in line]
    assert [row.split("  ")[1].strip() for row in rows] == [
        "base, few-shot",
        "chat, zero-shot",
        "chat, few-shot",
    ]
    assert all("35.9" in row and "5, 4" in row and "1:01" in row for row in rows)
    assert "sample.style = chat, sample.format = zero-shot-cot" in lines[-1]
    assert "beyond chance" in lines[-1]


def test_what_twenty_questions_do_not_tell_is_said() -> None:
    last = style_lines(compared(high=0.02))[-1]
    assert "20 questions do not tell it from base, few-shot or chat, few-shot" in last
    assert "--questions" in last


def test_without_a_right_path_no_style_is_recommended() -> None:
    result = compared(high=0.0)
    wrong = tuple(replace(style, right=0.0) for style in result.styles)
    assert not any("sample.style" in line for line in style_lines(replace(result, styles=wrong)))


def test_a_time_that_was_not_measured_is_not_shown_as_zero() -> None:
    for seconds in (None, 0.0, 0.3):
        result = replace(compared(high=-0.05), styles=(replace(BEST, seconds=seconds),) * 3)
        assert [line.split()[-1] for line in style_lines(result)[2:5]] == ["-"] * 3
