"""Settings that can be chosen together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.project.settings import Changes

PRESETS: Mapping[str, Changes] = {
    "paper": {
        "sample": {
            "m": 32,
            "temperature": 0.7,
            "threshold": "0",
            "cap": 0,
            "early_stop": "off",
            "format": "few-shot-cot",
            "style": "base",
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
        },
        "curate": {
            "formats": ["few-shot-cot", "few-shot-direct", "zero-shot-cot", "zero-shot-direct"],
            "weighting": "per-path",
            "counting": "plain",
        },
    },
}
"""Settings that can be chosen together, by name.

`paper` samples and selects as the paper does: 32 paths of plain text at temperature 0.7, of which
every path with the plurality answer is kept, at any agreement, and trained in all four formats.
"""
