"""Measured lengths are upper bounds for the prompts of every task."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.inference.prompt_lengths import measure_lengths
from engine.prompting.templates import Prompt
from store.enums import PromptStyle

GROUPS = st.lists(
    st.tuples(st.text("ab", max_size=8), st.lists(st.text("abc", min_size=1), max_size=5)),
    min_size=1,
    max_size=4,
)


@given(GROUPS)
def test_measured_lengths_are_upper_bounds(
    groups: list[tuple[str, list[str]]],
) -> None:
    prompts = [
        [Prompt(prefix + suffix, PromptStyle.BASE, len(prefix)) for suffix in suffixes]
        for prefix, suffixes in groups
    ]
    measured = measure_lengths(prompts, 7, lambda prompt: len(prompt.text))
    lengths = [len(prompt.text) for group in prompts for prompt in group]
    assert measured.prompt == max(lengths, default=0)
    assert measured.total == measured.prompt + 7
    for prefix, suffixes in groups:
        if len(suffixes) > 1:
            assert measured.prompt - measured.shared >= max(map(len, suffixes)) - len(
                _common_prefix(suffixes)
            )
        else:
            assert all(
                measured.prompt - measured.shared >= len(prefix + suffix) for suffix in suffixes
            )


def _common_prefix(texts: list[str]) -> str:
    """The longest common prefix."""
    prefix = texts[0]
    while not all(text.startswith(prefix) for text in texts):
        prefix = prefix[:-1]
    return prefix
