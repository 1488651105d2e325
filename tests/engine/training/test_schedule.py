"""Schedule: steps hold whole groups of a given weight, in another order in each epoch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.packing.encoding import encode
from engine.training.contrast.losses import with_terms
from engine.training.schedule import schedule
from store.enums import PromptStyle
from tests.engine.tiny import tiny_tokenizer
from tests.engine.training.test_loop import SETTINGS, some_examples


def test_steps_hold_whole_groups_of_the_given_weight() -> None:
    examples = encode(some_examples(held=0), tiny_tokenizer(), PromptStyle.BASE, {0})
    steps = schedule(examples, replace(SETTINGS, epochs=2.5))
    assert sum(map(len, steps)) == pytest.approx(2.5 * len(examples), abs=2)
    for step in steps[:-1]:
        assert 6 <= sum(examples[number].weight for number in step) < 6 + 2
        for number in step:
            group = {
                other
                for other, example in enumerate(examples)
                if (example.question_id, example.prompt_format)
                == (examples[number].question_id, examples[number].prompt_format)
            }
            assert group <= set(step)
    assert schedule(examples, replace(SETTINGS, seed=1)) != schedule(examples, SETTINGS)


def test_losing_paths_are_in_the_steps_of_their_groups_and_do_not_count() -> None:
    kept = encode(some_examples(held=0), tiny_tokenizer(), PromptStyle.BASE, {0})
    losers = [example for example in kept if example.question_id % 2]
    steps = schedule(kept, SETTINGS)
    both = schedule(with_terms(kept, losers, {}), SETTINGS)
    assert [[number for number in step if number < len(kept)] for step in both] == steps
    assert sum(map(len, both)) == 3 * (len(kept) + len(losers))
