"""What names a training: first tokens only where they are set, so older trainings are found."""

from __future__ import annotations

from dataclasses import replace

from engine.training.checkpoints import content_of
from tests.engine.packing.test_encoding import example


def test_only_examples_with_first_tokens_are_named_by_them() -> None:
    whole = example()
    (ordinary,), (cut,) = content_of([whole]), content_of([replace(whole, first_tokens=4)])
    assert cut == [*ordinary, 4]
