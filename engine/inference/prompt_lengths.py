"""How long the prompts and paths of a load are, in tokens of its model."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.prompting.templates import Prompt


@dataclass(frozen=True, slots=True)
class Extent:
    """What a context has to hold, in tokens."""

    prompt: int
    """The longest prompt."""
    path: int
    """The longest path."""
    shared: int = 0
    """What begins the prompts of a task at least, its worked examples: no prompt has more of its
    own than the longest one beyond this."""
    prefixes: int = 1
    """Beginnings that differ: one for each task and way of asking."""

    @property
    def length(self) -> int:
        """Tokens of the longest prompt and its path together."""
        return self.prompt + self.path


def extent_of(
    prompts: Sequence[Sequence[Prompt]], path: int, tokens: Callable[[Prompt], int]
) -> Extent:
    """Measure prompts.

    Args:
        prompts: of each run and task, at least one prompt in all.
        path: most tokens of a path.
        tokens: counts those of a prompt.
    """
    longest = own = 0
    for group in filter(None, prompts):
        most = 0
        # Tokens are at least a byte each, so the rest of a sorted list cannot be longer.
        for prompt in sorted(group, key=_size, reverse=True):
            if _size(prompt) <= most:
                break
            most = max(most, tokens(prompt))
        # The beginnings have about as many bytes to a token as the whole.
        same = int(most * _same(group) / max(map(_size, group)))
        longest, own = max(longest, most), max(own, most - same)
    return Extent(longest, path, longest - own, sum(1 for group in prompts if group))


def _size(prompt: Prompt) -> int:
    return len(prompt.text.encode())


def _same(group: Sequence[Prompt]) -> int:
    """Characters that begin every prompt."""
    texts = [one.text for one in group]
    # The first and the last in order share no more than all of them do.
    return in_common((min(texts), max(texts))) if len(texts) > 1 else 0


def in_common(some: Sequence[Sequence[object]]) -> int:
    """How many items begin every one of these sequences, at least one."""
    together = takewhile(
        lambda items: items.count(items[0]) == len(items), zip(*some, strict=False)
    )
    return sum(1 for _ in together)
