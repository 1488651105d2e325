"""Data-parallel training: how processes share the examples of a step and sum their gradients.

Each process takes whole groups of the step's examples and divides its losses by the weighted tokens
of the whole step, so the sum of all gradients is the gradient of a single process on the same
examples; nothing is averaged. If each process holds the whole model, these sums are all that they
exchange. If the frozen weights are sharded, the processes exchange weights in every layer, so each
must run as many passes as the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed

from engine.inference.prompt_lengths import common_prefix_length

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.packing.encoding import EncodedExample


@dataclass(frozen=True, slots=True)
class DataParallel:
    """The place of this process among those that train one model together."""

    rank: int = 0
    """From 0 to `processes - 1`."""
    processes: int = 1
    is_sharded: bool = False
    """Whether each process holds only a part of the frozen weights (FSDP, Zhao et al. 2023)."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and rows for all."""
        return self.rank == 0

    def shard(self, examples: Sequence[EncodedExample]) -> list[EncodedExample]:
        """Select this process's part of a step: whole groups of one question in one format.

        Sorted by their prompts, groups share the most with their neighbors. That order is cut
        where it divides the tokens evenly, counting a prefix that neighbors share once. Together
        the parts of all processes are the step; a part may be empty.
        """
        if self.processes == 1:
            return list(examples)
        groups = [list(group) for _, group in groupby(sorted(examples, key=_group), key=_group)]
        sizes = []
        previous: tuple[int, ...] = ()
        for group in groups:
            prompt = group[0].prompt
            own = len(prompt) - common_prefix_length((previous, prompt))
            sizes.append(own + sum(len(example.completion) for example in group))
            previous = prompt
        total, at = sum(sizes), 0.0
        part: list[EncodedExample] = []
        for group, size in zip(groups, sizes, strict=True):
            # The middle of a group decides which process takes it.
            if int((at + size / 2) * self.processes / total) == self.rank:
                part += group
            at += size
        return part

    def sum_all(self, *numbers: float) -> list[float]:
        """Sum each number over all processes; all must call it, and all get the same sums."""
        if self.processes == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64, device=_device())
        torch.distributed.all_reduce(sums)
        return [float(value) for value in sums.tolist()]

    def max_all(self, number: int) -> int:
        """The largest number of any process; all must call it."""
        if self.processes == 1:
            return number
        largest = torch.tensor(number, device=_device())
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
        return int(largest)

    def sum_gradients(self, weights: Iterable[torch.nn.Parameter]) -> None:
        """Set each weight's gradient to the sum over all processes; all must call it."""
        if self.processes == 1:
            return
        pending = []
        for weight in weights:
            if weight.grad is None:  # this process had no part of the step
                weight.grad = torch.zeros_like(weight)
            pending.append(torch.distributed.all_reduce(weight.grad, async_op=True))
        for work in pending:
            work.wait()

    def shard_weights(self, causal: Any, device: torch.device) -> None:
        """Keep only this process's part of each layer's frozen weights; all must call it.

        Trained weights, embeddings and the head stay whole in each process. The weights of a layer
        are gathered when it computes, and released again.

        Args:
            causal: a causal language model of transformers, on the CPU.
            device: the device it is to compute on.
        """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(device.type, (self.processes,))
        layers = causal.model.layers
        sharded = {weight for weight in layers.parameters() if not weight.requires_grad}
        whole = set(causal.parameters()) - sharded
        for layer in layers:
            fully_shard(layer, mesh=mesh, ignored_params=whole)
        fully_shard(causal.model, mesh=mesh, ignored_params=whole)
        for tensor in (*whole, *causal.buffers()):
            tensor.data = tensor.data.to(device)


SINGLE_PROCESS = DataParallel()


def _group(example: EncodedExample) -> tuple[tuple[int, ...], int, str]:
    return example.prompt, example.question_id, example.prompt_format


def _device() -> torch.device:
    """The device of numbers that are to be summed: NCCL sums only those on a GPU."""
    return torch.device("cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
