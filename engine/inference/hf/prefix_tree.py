"""Evaluate a tree of sequences: the prefix and each prompt once, and many paths step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from engine.inference.hf.prefix_attention import PromptAttention, StepAttention
from engine.inference.hf.tree_cache import TreeCache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

TOKENS_AT_ONCE = 1024
"""Prompt tokens in one call of the model."""


class PrefixTree:
    """A prefix, prompts that begin with it, and paths that continue the prompts.

    A prompt is in a lane, a path in a slot; the caller assigns both.
    """

    def __init__(self, model: Any, batch_size: int) -> None:
        """Args:
        model: a causal language model with shared-prefix attention (see `prefix_check`).
        batch_size: number of slots and of lanes.
        """
        self._model = model
        self._batch_size = batch_size
        self._cache = TreeCache(model, batch_size)
        self._prefix: tuple[int, ...] = ()

    @torch.inference_mode()
    def set_prefix(self, prefix: Sequence[int]) -> None:
        """Evaluate the tokens that the prompts have in common; everything before is removed."""
        self._cache.clear()
        self._prefix = ()
        for start in range(0, len(prefix), TOKENS_AT_ONCE):
            piece = tuple(prefix[start : start + TOKENS_AT_ONCE])
            attention = PromptAttention(self._cache, None, [len(piece)], has_prefix=True)
            self._evaluate([piece], start, attention)
            self._prefix += piece
            self._cache.prefix_length = len(self._prefix)

    def fork(self) -> PrefixTree:
        """Another tree with this one's prefix, which is stored once; neither may have prompts."""
        other = PrefixTree(self._model, self._batch_size)
        other._cache.copy_prefix(self._cache)
        other._prefix = self._prefix
        return other

    def begins(self, prompt: Sequence[int]) -> bool:
        """Whether the prompt begins with the prefix and has tokens of its own after it."""
        length = len(self._prefix)
        return len(prompt) > length and tuple(prompt[:length]) == self._prefix

    @torch.inference_mode()
    def add_prompts(self, prompts: Sequence[Sequence[int]], lanes: Sequence[int]) -> Tensor:
        """Evaluate prompts, each into its lane.

        Returns:
            [prompts, vocabulary], the logits of each one's next token, in the model's own
            precision.
        """
        logits: list[Tensor] = [torch.empty(0)] * len(prompts)
        # Prompts with the prefix apart from those without, and sorted by length for less padding.
        order = sorted(
            range(len(prompts)), key=lambda i: (self.begins(prompts[i]), len(prompts[i]))
        )
        group: list[int] = []
        for i in order:
            if group and (
                self.begins(prompts[i]) != self.begins(prompts[group[0]])
                or (len(group) + 1) * self._suffix_length(prompts[i]) > TOKENS_AT_ONCE
            ):
                self._add_group(group, prompts, lanes, logits)
                group = []
            group.append(i)
        self._add_group(group, prompts, lanes, logits)
        return torch.stack(logits)

    def _suffix_length(self, prompt: Sequence[int]) -> int:
        return len(prompt) - len(self._prefix) * self.begins(prompt)

    def _add_group(
        self,
        group: Sequence[int],
        prompts: Sequence[Sequence[int]],
        lanes: Sequence[int],
        logits: list[Tensor],
    ) -> None:
        has_prefix = self.begins(prompts[group[0]])
        start = len(self._prefix) if has_prefix else 0
        suffixes = [tuple(prompts[i][start:]) for i in group]
        group_lanes = [lanes[i] for i in group]
        lengths = [len(suffix) for suffix in suffixes]
        self._cache.set_prompts(group_lanes, lengths, has_prefix=has_prefix)
        attention = PromptAttention(self._cache, group_lanes, lengths, has_prefix=has_prefix)
        rows = self._evaluate(suffixes, start, attention)
        for i, row in zip(group, rows, strict=True):
            logits[i] = row

    def _evaluate(
        self, pieces: Sequence[Sequence[int]], start: int, attention: PromptAttention
    ) -> Tensor:
        """The logits after each piece; all begin at position `start`."""
        tokens = [token for piece in pieces for token in piece]
        positions = [start + i for piece in pieces for i in range(len(piece))]
        return self._forward(tokens, positions, attention, attention.last_tokens)

    @torch.inference_mode()
    def step(
        self,
        tokens: NDArray[np.int64],
        slots: NDArray[np.int64],
        lanes: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> Tensor:
        """Evaluate the newest token of each running path.

        Args:
            tokens: [n], the newest token of each path.
            slots: [n], slot of each path: all slots in use.
            lanes: [n], lane of each path's prompt.
            lengths: [n], tokens of each path, the newest included.

        Returns:
            [n, vocabulary], the logits of each path's next token, in the model's own precision.
        """
        before = self._cache.prompt_lengths(lanes)
        buckets = self._cache.paths.arrange(slots, lengths)
        order = np.concatenate([indices for _, indices in buckets])
        attention = StepAttention(self._cache, buckets, lanes[order], lengths[order])
        positions = (before + lengths - 1)[order]
        keep = self._cache.tensor(np.argsort(order))
        return self._forward(tokens[order], positions, attention, keep)

    def free(self, slots: NDArray[np.int64]) -> None:
        """Remove the paths of some slots."""
        self._cache.paths.free(slots)

    def _forward(
        self,
        tokens: Any,
        positions: Any,
        attention: PromptAttention | StepAttention,
        keep: Tensor,
    ) -> Tensor:
        logits: Tensor = self._model(
            input_ids=self._cache.tensor(tokens)[None],
            position_ids=self._cache.tensor(positions)[None],
            use_cache=False,
            logits_to_keep=keep,
            tree_attention=attention,
        ).logits[0]
        return logits
