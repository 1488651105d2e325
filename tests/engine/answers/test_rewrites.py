"""Public texts that begin with a label, or end in `ans = …`, are read like the texts themselves."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from benchmarks.reading_texts import Text, read_all
from engine.answers.extraction import canonical, equal, extract
from store.enums import EndReason
from tests.public import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_LOST = 0.005
"""Share of the texts of a set that a rewrite may lose."""


def is_right(text: Text, written: str) -> bool:
    kind, options = text.answer_type, text.options

    def read(path: str) -> str | None:
        return extract(kind, path, options=options, end=EndReason.END).answer

    answer = read(written)
    known = [
        (canonical(kind, gold, options) if "\n" not in gold else None) or read(gold)
        for gold in text.gold
    ]
    return answer is not None and any(gold and equal(kind, answer, gold) for gold in known)


def losses(texts: Sequence[Text]) -> dict[tuple[str, str], float]:
    """The share that each rewrite of each set loses."""
    lost: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for text in texts:
        published, *rewrites = text.variants().items()
        right = is_right(text, published[1])
        for name, written in rewrites:
            lost[text.source, name].append(right - is_right(text, written))
    return {key: sum(values) / len(values) for key, values in lost.items()}


def test_rewrites_of_public_texts_are_read_like_the_texts() -> None:
    texts = list(read_all(SAMPLES / "sampled_outputs", SAMPLES))
    assert len({text.source for text in texts}) == 8
    assert {key: lost for key, lost in losses(texts).items() if lost > MOST_LOST} == {}
