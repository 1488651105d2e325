"""The processes that train one model together: how a step's rows are shared and its sums are made.

Every process takes whole groups of the step's examples. Each divides its losses by the weighted
tokens of the whole step, so that the sum of their gradients is the gradient of one process with the
same examples; nothing is averaged. Where each holds the whole model, the sums are the only things
that they tell each other. Where its frozen weights are divided among them, they meet in every
layer, so each must make as many passes as the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed

from engine.inference.prompt_lengths import in_common

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.packing.prefix_tree import Encoded


@dataclass(frozen=True, slots=True)
class Ranks:
    """One process among those that train together; by itself when `count` is 1."""

    rank: int = 0
    """From 0, which alone writes files and rows."""
    count: int = 1
    divided: bool = False
    """Whether each holds only its part of the frozen weights (FSDP, Zhao et al. 2023)."""

    @property
    def writes(self) -> bool:
        """Whether this process keeps what was learnt, for all."""
        return self.rank == 0

    def share(self, some: Sequence[Encoded]) -> list[Encoded]:
        """This process's part of a step: whole groups of one question in one format.

        Sorted by their prompts, groups share the most with their neighbours. That order is cut
        where it divides the tokens evenly, counting a beginning that neighbours share once. The
        parts of all processes together are the step; a part may be empty.
        """
        if self.count == 1:
            return list(some)
        ordered = sorted(some, key=_group)
        groups = [list(group) for _, group in groupby(ordered, key=_group)]
        sizes = []
        before: tuple[int, ...] = ()
        for group in groups:
            prompt = group[0].prompt
            fresh = len(prompt) - in_common((before, prompt))
            sizes.append(fresh + sum(len(one.completion) for one in group))
            before = prompt
        total, at = sum(sizes), 0.0
        mine: list[Encoded] = []
        for group, size in zip(groups, sizes, strict=True):
            # A group belongs where its middle lies.
            if int((at + size / 2) * self.count / total) == self.rank:
                mine += group
            at += size
        return mine

    def sums(self, *numbers: float) -> list[float]:
        """Each number summed over all processes, the same in each of them; all must call it."""
        if self.count == 1:
            return list(numbers)
        told = torch.tensor(numbers, dtype=torch.float64, device=_device())
        torch.distributed.all_reduce(told)
        return [float(one) for one in told.tolist()]

    def divide(self, causal: Any, device: torch.device) -> None:
        """Leave this process its part of each layer's frozen weights; all must call it.

        What is learnt stays whole in each process, as do embeddings and head. A layer's weights are
        brought together when it computes, and let go again.

        Args:
            causal: a causal language model of transformers, on the processor.
            device: where it is to compute.
        """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(device.type, (self.count,))
        layers = causal.model.layers
        divided = {weight for weight in layers.parameters() if not weight.requires_grad}
        whole = set(causal.parameters()) - divided
        for layer in layers:
            fully_shard(layer, mesh=mesh, ignored_params=whole)
        fully_shard(causal.model, mesh=mesh, ignored_params=whole)
        for tensor in (*whole, *causal.buffers()):
            tensor.data = tensor.data.to(device)

    def most(self, number: int) -> int:
        """The largest of the processes' numbers; all must call it."""
        if self.count == 1:
            return number
        told = torch.tensor(number, device=_device())
        torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
        return int(told)

    def add_gradients(self, weights: Iterable[torch.nn.Parameter]) -> None:
        """Give each weight the sum of its gradients over all processes; all must call it."""
        if self.count == 1:
            return
        under_way = []
        for weight in weights:
            if weight.grad is None:  # this process had no part in the step
                weight.grad = torch.zeros_like(weight)
            under_way.append(torch.distributed.all_reduce(weight.grad, async_op=True))
        for one in under_way:
            one.wait()


ALONE = Ranks()


def _group(one: Encoded) -> tuple[tuple[int, ...], int, str]:
    return one.prompt, one.question_id, one.prompt_format


def _device() -> torch.device:
    """Where numbers must lie to be summed: NCCL sums only what lies on a GPU."""
    return torch.device("cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
