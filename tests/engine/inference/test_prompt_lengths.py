"""How long prompts are: enough for every one of them, whatever its task."""

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
def test_no_prompt_is_longer_and_none_has_more_of_its_own(
    groups: list[tuple[str, list[str]]],
) -> None:
    prompts = [
        [Prompt(begins + rest, PromptStyle.BASE, len(begins)) for rest in ends]
        for begins, ends in groups
    ]
    measured = measure_lengths(prompts, 7, lambda prompt: len(prompt.text))
    lengths = [len(prompt.text) for group in prompts for prompt in group]
    assert measured.prompt == max(lengths, default=0)
    assert measured.total == measured.prompt + 7
    for begins, ends in groups:
        if len(ends) > 1:
            assert measured.prompt - measured.shared >= max(map(len, ends)) - len(_common(ends))
        else:
            assert all(measured.prompt - measured.shared >= len(begins + rest) for rest in ends)


def _common(texts: list[str]) -> str:
    """What begins all of them."""
    begins = texts[0]
    while not all(text.startswith(begins) for text in texts):
        begins = begins[:-1]
    return begins
