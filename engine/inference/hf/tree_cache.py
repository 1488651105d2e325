"""Keys and values of a tree of sequences: one shared prefix, prompts below it, paths below those.

The few-shot prefix and each prompt are stored once, however many paths continue them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from engine.inference.hf.kv_cache import BucketedKVCache, padded_capacity, whole_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(slots=True)
class LayerCache:
    """Keys and values of the prompts in one layer."""

    prefix_keys: Tensor
    """[key heads, prefix + 1, head size]; the last row is zero. See `StepAttention.attend`."""
    suffix_keys: Tensor
    """[lanes, key heads, longest suffix so far, head size]; zeros after shorter suffixes."""
    prefix_values: Tensor
    suffix_values: Tensor

    @classmethod
    def empty(cls, keys: Tensor, values: Tensor) -> LayerCache:
        """Without tokens; the arguments are [1, key heads, tokens, head size]."""
        prefix_keys, prefix_values = (
            new.new_zeros(new.shape[1], 1, new.shape[3]) for new in (keys, values)
        )
        suffix_keys, suffix_values = (
            new.new_zeros(0, new.shape[1], 0, new.shape[3]) for new in (keys, values)
        )
        return cls(prefix_keys, suffix_keys, prefix_values, suffix_values)

    def extend_prefix(self, keys: Tensor, values: Tensor) -> None:
        """Append [key heads, tokens, head size]."""
        self.prefix_keys = _inserted(self.prefix_keys, keys)
        self.prefix_values = _inserted(self.prefix_values, values)

    def put_suffixes(self, lanes: Tensor, lane_count: int, keys: Tensor, values: Tensor) -> None:
        """Store [prompts, key heads, longest, head size] in their lanes."""
        longest = keys.shape[2]
        self.suffix_keys = _enlarged(self.suffix_keys, lane_count, longest)
        self.suffix_values = _enlarged(self.suffix_values, lane_count, longest)
        self.suffix_keys[lanes, :, :longest] = keys
        self.suffix_values[lanes, :, :longest] = values


def _inserted(tensor: Tensor, new: Tensor) -> Tensor:
    """The tensor with new tokens before its last one."""
    return torch.cat([tensor[:, :-1], new, tensor[:, -1:]], dim=1)


def _enlarged(tensor: Tensor, lanes: int, tokens: int) -> Tensor:
    """The tensor, copied into a larger one if it has fewer lanes or tokens."""
    if lanes <= tensor.shape[0] and tokens <= tensor.shape[2]:
        return tensor
    lanes = max(tensor.shape[0], -(-lanes // 16) * 16)
    tokens = max(tensor.shape[2], padded_capacity(tokens))
    enlarged = tensor.new_zeros(lanes, tensor.shape[1], tokens, tensor.shape[3])
    enlarged[: tensor.shape[0], :, : tensor.shape[2]] = tensor
    return enlarged


class TreeCache:
    """The cache of one running batch. A prompt is stored in a lane, a path in a slot."""

    def __init__(self, model: Any, batch_size: int) -> None:
        """Args:
        model: a causal language model, for its device and precision.
        batch_size: number of slots and of lanes.
        """
        self._device, self._dtype = model.device, model.dtype
        self._batch_size = batch_size
        self.paths = BucketedKVCache(batch_size)
        self._layers: dict[int, LayerCache] = {}
        self.prefix_length = 0
        self.has_prefix = np.zeros(batch_size, dtype=bool)
        """Whether the prompt of each lane begins with the prefix."""
        self.suffix_lengths = np.zeros(batch_size, dtype=np.int64)
        """Tokens of the prompt in each lane after the prefix."""

    def clear(self) -> None:
        """Remove everything."""
        self._layers.clear()
        self.paths = BucketedKVCache(self._batch_size)
        self.prefix_length = 0

    def copy_prefix(self, other: TreeCache) -> None:
        """Share the prefix of another cache, which has no prompts yet."""
        for index, layer in other._layers.items():
            self._layers[index] = replace(layer)
            self.paths.add_layer(index, layer.prefix_keys)
        self.prefix_length = other.prefix_length

    def set_prompts(
        self, lanes: Sequence[int], suffix_lengths: Sequence[int], *, has_prefix: bool
    ) -> None:
        """Note which prompts are about to be evaluated into some lanes."""
        self.has_prefix[list(lanes)] = has_prefix
        self.suffix_lengths[list(lanes)] = suffix_lengths

    def tensor(self, values: Any) -> Tensor:
        """On the model's device."""
        return torch.as_tensor(np.asarray(values), device=self._device)

    def layer(self, index: int, keys: Tensor, values: Tensor) -> LayerCache:
        """The cache of a layer; created at the first call, in the shape of these keys and values.

        Both are [1, key heads, tokens, head size].
        """
        if index not in self._layers:
            self._layers[index] = LayerCache.empty(keys, values)
            self.paths.add_layer(index, keys[0])
        return self._layers[index]

    def prompt_lengths(self, lanes: NDArray[np.int64]) -> NDArray[np.int64]:
        """[n] tokens of the whole prompts in these lanes."""
        prefix = np.where(self.has_prefix[lanes], self.prefix_length, 0)
        lengths: NDArray[np.int64] = prefix + self.suffix_lengths[lanes]
        return lengths

    def visible_prompts(
        self, lanes: NDArray[np.int64], lengths: NDArray[np.int64], window: int | None
    ) -> tuple[slice, slice]:
        """The tokens of the prefix, and of every lane's suffix, that some path may attend to.

        Args:
            lanes: [n], lane of each path's prompt.
            lengths: [n], tokens of each path.
            window: number of tokens that each one attends to, itself included; None for all.
        """
        longest = int(self.suffix_lengths[lanes].max())
        capacity = padded_capacity(longest)
        if window is None:
            return slice(0, self.prefix_length), slice(0, capacity)
        # The first token that each path attends to, counted in its suffix; negative in the prefix.
        in_suffix = self.suffix_lengths[lanes] + lengths - window
        in_prefix = np.where(self.has_prefix[lanes], in_suffix, 0) + self.prefix_length
        first, end = int(in_prefix.min()), self.prefix_length
        prefix = slice(end if first >= end else whole_steps(max(0, first)), end)
        first = int(in_suffix.min())
        return prefix, slice(capacity if first >= longest else self._start(first), capacity)

    def visible_path(self, lengths: NDArray[np.int64], bucket: int, window: int | None) -> slice:
        """The tokens that some path of a bucket may attend to, of paths with these lengths [n]."""
        start = 0 if window is None else self._start(int(lengths.min()) - window)
        return slice(start, self.paths.capacity(bucket))

    def _start(self, first: int) -> int:
        """Where to begin reading keys and values that are stored sequence by sequence.

        oneDNN, which computes products in half precision, copies operands that are not dense, at
        several times the cost of the product: there everything is read.
        """
        is_copied = self._device.type == "cpu" and self._dtype != torch.float32
        return 0 if is_copied else whole_steps(max(0, first))

    def attention_bias(
        self,
        lanes: NDArray[np.int64],
        lengths: NDArray[np.int64],
        prefix: slice,
        suffix: slice,
        path: slice,
        window: int | None,
    ) -> tuple[Tensor, Tensor]:
        """What to add to the scores: -inf where a path must not attend.

        Args:
            lanes: [n], lane of each path's prompt.
            lengths: [n], tokens of each path.
            prefix: its tokens that have score columns.
            suffix: the same for the suffix of the prompt.
            path: the same for the path.
            window: see `visible_prompts`.

        Returns:
            [n, 1, 1, columns] for the prefix; the same for suffix and path.
        """
        prefix_index, suffix_index, path_index = (
            np.arange(part.start, part.stop) for part in (prefix, suffix, path)
        )
        suffix_lengths, lengths = self.suffix_lengths[lanes, None], lengths[:, None]
        in_prefix = ~self.has_prefix[lanes, None]
        in_suffix, in_path = suffix_index >= suffix_lengths, path_index >= lengths
        if window is not None:
            in_path |= path_index < lengths - window
            in_suffix |= suffix_index < suffix_lengths + lengths - window
            first = self.prefix_length + suffix_lengths + lengths - window
            in_prefix = in_prefix | (prefix_index < first)
        in_prefix = np.broadcast_to(in_prefix, (len(lanes), len(prefix_index)))
        return self._bias(in_prefix), self._bias(np.concatenate([in_suffix, in_path], axis=1))

    def _bias(self, is_masked: NDArray[np.bool_]) -> Tensor:
        """[n, 1, 1, columns] -inf where masked, else 0."""
        bias = np.where(is_masked, np.float32(-np.inf), np.float32(0))
        return self.tensor(bias).to(self._dtype)[:, None, None]
