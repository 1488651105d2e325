"""Texts on which tokenizers are compared."""

from __future__ import annotations

import random

from engine.conversion.verification import _PROBES
from engine.models.pre_tokenizers import PROBES

PIECES = (
    *("don't", "'tis", "I'LL", "we'Re", "x", "Hello", "WORLD", "HeLLo", "ÜBER", "naïve", "a\u0301"),
    *("1", "12", "1234567", "3.14", "½", "²", "٣", "東京", "한국어", "हिन्दी", "привет", "ſ", "K"),
    *(" ", "  ", "   ", " " * 9, "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "\u0085", "\x1c"),
    *(
        "(a+b)^2",
        "==",
        "--",
        "//",
        "$",
        "`",
        "...",
        "。",
        "、",
        "“”",
        "👩‍🚀",
        "\U00010d40",
        "ꟊ",
        "\ua7cb",
    ),
    *(
        "<|fin|>",
        "<tool>",
        "<unk>",
        "</s>",
        "<0x0A>",
        "▁",
        "IMGIMGAZ",
        "<sentinel:1>",
        "\u200b",
        "_",
    ),
)


def texts(seed: int, count: int) -> list[str]:
    """Random texts in which many kinds of characters meet."""
    source = random.Random(seed)
    return ["".join(source.choices(PIECES, k=source.randint(1, 16))) for _ in range(count)]


SAMPLES = [*_PROBES, *PROBES, *texts(1, 25), "", " ", "\n"]
