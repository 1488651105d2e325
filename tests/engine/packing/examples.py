"""Examples with many shared prefixes, and costs: what tests of packing share."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from engine.packing.encoding import EncodedExample
from engine.packing.prefix_tree import ForwardCost
from store.enums import PromptFormat

TOKENS_ONLY = ForwardCost(token=1.0, pair=0.0, call=0.0)
CALLS_ONLY = ForwardCost(token=0.0, pair=0.0, call=1.0)


def encoded(prompt: list[int], completion: list[int], weight: float = 1.0) -> EncodedExample:
    """An example of question 0."""
    return EncodedExample(0, PromptFormat.FEW_SHOT_COT, tuple(prompt), tuple(completion), weight)


# Few different tokens, so that prefixes are shared often and some examples are equal.
tokens = st.lists(st.integers(1, 3), min_size=1, max_size=8)
example_lists = st.lists(
    st.builds(encoded, tokens, tokens, st.sampled_from([0.5, 1.0, 8.0])), min_size=1, max_size=30
)
costs = st.builds(
    ForwardCost,
    token=st.floats(0.1, 10),
    pair=st.floats(0, 1),
    call=st.floats(0, 100),
)


def shared_prefix_examples() -> list[EncodedExample]:
    """Three questions each of two tasks: paths with common prefixes, and weighted direct rows."""
    rng = np.random.default_rng(0)

    def random_tokens(length: int) -> list[int]:
        return [int(token) for token in rng.integers(5, 500, length)]

    examples = []
    for prefix in (random_tokens(30), random_tokens(12)):
        for _ in range(3):
            prompt, opening = prefix + random_tokens(7), random_tokens(3)
            examples += [
                encoded(prompt, opening + random_tokens(int(rng.integers(1, 14)))) for _ in range(3)
            ]
            examples += [encoded(prompt[len(prefix) :], random_tokens(5), weight=3.0)]
    return examples
