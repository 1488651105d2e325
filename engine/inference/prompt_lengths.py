"""The lengths of prompts and paths that a model is loaded for, in its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.prompting.templates import Prompt


@dataclass(frozen=True, slots=True)
class SequenceLengths:
    """What a context must hold, in tokens."""

    prompt: int
    """The longest prompt."""
    path: int
    """The longest path."""
    shared: int = 0
    """Length of the shortest few-shot prefix: no prompt has more tokens of its own than `prompt`
    minus this."""
    prefixes: int = 1
    """Number of different few-shot prefixes: one for each task and prompt format."""

    @property
    def total(self) -> int:
        """Tokens of the longest prompt and its path together."""
        return self.prompt + self.path


def measure_lengths(
    prompts: Sequence[Sequence[Prompt]], path: int, count_tokens: Callable[[Prompt], int]
) -> SequenceLengths:
    """Measure prompts, tokenizing no more of them than necessary.

    Args:
        prompts: one group for each run and task; at least one prompt in all.
        path: tokens of the longest path.
        count_tokens: number of tokens of a prompt, at most one per byte.
    """
    longest = own = 0
    for group in filter(None, prompts):
        most = 0
        # A token is at least one byte, so the rest of the sorted list cannot be longer.
        for prompt in sorted(group, key=_byte_length, reverse=True):
            if _byte_length(prompt) <= most:
                break
            most = max(most, count_tokens(prompt))
        # Assumes as many bytes per token in the prefix as in the whole prompt.
        shared = int(most * _shared_characters(group) / max(map(_byte_length, group)))
        longest, own = max(longest, most), max(own, most - shared)
    prefixes = sum(1 for group in prompts if group)
    return SequenceLengths(longest, path, longest - own, prefixes)


def _byte_length(prompt: Prompt) -> int:
    return len(prompt.text.encode())


def _shared_characters(group: Sequence[Prompt]) -> int:
    """Length of the prefix that all prompts have in common, in characters."""
    texts = [prompt.text for prompt in group]
    # The first and the last in sorted order have no more in common than all of them.
    return common_prefix_length((min(texts), max(texts))) if len(texts) > 1 else 0


def common_prefix_length(sequences: Sequence[Sequence[object]]) -> int:
    """Length of the longest common prefix of one or more sequences."""
    equal = takewhile(
        lambda items: items.count(items[0]) == len(items), zip(*sequences, strict=False)
    )
    return sum(1 for _ in equal)
