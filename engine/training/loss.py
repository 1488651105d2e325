"""The loss of a learner: of a batch, of a step with its gradient, of held-out rows.

All processes that train a model together go through the same calls here.
"""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as recomputed

from engine.packing import prefix_tree, tree_attention
from engine.packing.prefix_tree import Batch, Encoded, Row
from engine.training.data_parallel import ALONE
from engine.training.kl_divergence import divergence
from engine.training.model import SKIPS_UNSEEN, Learner, cost_of
from store.enums import PromptFormat
from store.errors import WorkFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_log = logging.getLogger(__name__)

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
"""What torch says on CUDA, on Linux and on other systems when memory runs out."""
HEAD_NUMBERS = 2**24
"""Logits held at once (64 MiB in float32); more are computed in parts."""


class Stopped(Exception):
    """A pass over batches was not finished, in this process or in another one."""

    def __init__(self, reason: BaseException | None) -> None:
        super().__init__(str(reason))
        self.reason = reason
        """What was raised here; None when another process stopped."""


def checked(learner: Learner, learnt: Sequence[Encoded]) -> Learner:
    """The learner, set to train rows alone when sharing does not give the loss of rows alone.

    A few rows with common beginnings are enough: a mask that is not honoured shows. An attention
    that skips what is not seen and fails here gives way to a dense mask first.
    """
    if not learner.shares:
        return learner
    some = sorted(learnt, key=lambda one: one.tokens)[:4]
    solo = replace(learner, ranks=ALONE)  # each process finds the same by itself
    kind = learner.causal.config._attn_implementation
    why = ""
    try:
        shared = gradients(solo, some)
    except Stopped as stopped:
        if stopped.reason is None or isinstance(stopped.reason, WorkFailed):
            raise (stopped.reason or stopped) from None
        if not isinstance(stopped.reason, Exception):
            raise stopped.reason from None
        said = str(stopped.reason).splitlines()
        shared, why = math.nan, f": {said[0]}" if said else ""
    for value in learner.weights.values():
        value.grad = None
    if kind in SKIPS_UNSEEN:
        learner.causal.set_attn_implementation("sdpa")
    alone = replace(learner, shares=False)
    single = mean_loss(replace(solo, shares=False), rows(alone, some))
    tolerance = 2e-2 if learner.half else 1e-4
    if math.isclose(shared, single, rel_tol=tolerance):
        learner.causal.set_attn_implementation(kind)
        return learner
    if kind in SKIPS_UNSEEN:
        _log.warning("Trees are trained with a dense mask: %s does not work here%s.", kind, why)
        return checked(replace(learner, cost=cost_of(learner.causal, learner.device)), learnt)
    _log.warning(
        "Every row is trained alone, which is slower: the model does not honour the mask of a "
        "tree (loss %.6g, alone %.6g)%s.",
        shared,
        single,
        why,
    )
    return alone


def rows(learner: Learner, some: Sequence[Encoded]) -> list[Row]:
    """Examples as rows: trees where the learner shares beginnings, else one row for each."""
    return prefix_tree.trees(some, learner.cost) if learner.shares else prefix_tree.alone(some)


def gradients(
    learner: Learner, some: Sequence[Encoded], look: Callable[[], None] = lambda: None
) -> float:
    """Add the gradient of a step's mean loss to the weights, batch by batch.

    Args:
        learner: what is trained; with others, each takes its share of the examples.
        some: all examples of the step: the loss is divided by their weighted tokens together.
        look: called before each batch; what it raises ends the step.

    Returns:
        The loss, in nats per weighted token.

    Raises:
        Stopped: before the end, here or in another process; the gradients are worth nothing.
            Its reason is `WorkFailed` when the device has not enough memory.
    """
    total = sum(one.weight * len(one.completion) for one in some)
    loss = 0.0

    def add(batch: Batch) -> None:
        nonlocal loss
        part = loss_sum(learner, batch) / total
        part.backward()
        loss += part.item()

    _for_each_batch(learner, rows(learner, learner.ranks.share(some)), add, look)
    learner.ranks.add_gradients(learner.weights.values())
    return learner.ranks.sums(loss)[0]


def _for_each_batch(
    learner: Learner,
    some: Sequence[Row],
    work: Callable[[Batch], None],
    look: Callable[[], None],
) -> None:
    """Work on each batch of this process's rows, after a look; all processes must call it.

    Raises:
        Stopped: look or work raised something, here or in another process.
    """
    ranks = learner.ranks
    mine = batches(learner, some) if some else []
    if ranks.divided:  # all meet in every layer
        mine += [_nothing(learner)] * (ranks.most(len(mine)) - len(mine))

    def work_on(batch: Batch) -> None:
        with _enough_memory(batch):
            work(batch)

    reason: BaseException | None = None
    for batch in mine:
        reason = _raised(look)
        if ranks.divided and ranks.most(int(reason is not None)):
            break
        if reason is None:
            reason = _raised(partial(work_on, batch))
        if reason is not None:
            if ranks.divided:  # the others wait in a layer, until the end of this process ends them
                raise Stopped(reason) from reason
            break
    if ranks.most(int(reason is not None)):
        raise Stopped(reason) from reason


def _nothing(learner: Learner) -> Batch:
    """A batch that weighs nothing."""
    one = Encoded(0, PromptFormat.ZERO_SHOT_DIRECT, (0,), (0,), 0.0)
    return batches(learner, rows(learner, [one]))[0]


def _raised(do: Callable[[], None]) -> BaseException | None:
    try:
        do()
    except BaseException as raised:
        return raised
    return None


def try_longest(learner: Learner, steps: Sequence[Sequence[Encoded]]) -> int:
    """Compute the gradient of the largest batch once, and forget it, so that memory fails early.

    The step with the longest example and the one with the most tokens are looked at; all others
    have smaller batches, or about as large ones. The optimizer's two numbers for each weight are
    held meanwhile. Weights, gradients and random state are left as they are.

    Returns:
        Tokens of the batch that was tried.

    Raises:
        WorkFailed: the device has not enough memory.
    """
    looked_at = {
        max(range(len(steps)), key=lambda number: max(len(one.tokens) for one in steps[number])),
        max(range(len(steps)), key=lambda number: sum(len(one.tokens) for one in steps[number])),
    }
    found = [
        batch
        for number in sorted(looked_at)
        if (mine := learner.ranks.share(steps[number]))
        for batch in batches(learner, rows(learner, mine))
    ]
    if learner.ranks.divided and not found:  # all meet in every layer
        found = [_nothing(learner)]
    if not found:
        return 0
    largest = max(found, key=lambda batch: (batch.tokens.numel(), batch.tokens.shape[1]))
    random = torch.get_rng_state()
    with _enough_memory(largest):
        moments = [torch.empty_like(one) for one in learner.weights.values() for _ in range(2)]
        loss_sum(learner, largest).backward()
        del moments
    for weight in learner.weights.values():
        weight.grad = None
    torch.set_rng_state(random)
    return largest.tokens.numel()


@contextmanager
def _enough_memory(batch: Batch) -> Iterator[None]:
    """Turn what torch raises when memory runs out into a sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        said = str(error)
        if isinstance(error, RuntimeError) and not any(word in said for word in OUT_OF_MEMORY):
            raise
        rows, longest = batch.tokens.shape
        raise WorkFailed(
            f"The device ran out of memory on {rows * longest:,} tokens at once ({rows} rows of up "
            f"to {longest:,}): train with method lora or qlora, take a smaller model, or leave the "
            "longest examples out with a smaller sample.max_tokens."
        ) from error


def loss_sum(learner: Learner, batch: Batch) -> torch.Tensor:
    """Sum of weight x loss over the scored tokens of a batch, a scalar in float32."""
    batch = batch.to(learner.device)
    with torch.autocast(learner.device.type, torch.bfloat16, enabled=learner.half):
        found = at_scored(learner, batch)
        if not learner.shares:
            losses = functional.cross_entropy(
                _at_least_single(found), batch.targets, reduction="none"
            )
            alone = losses @ batch.weights.to(losses.dtype)
            return alone + _exchanged(nn.Identity(), found, batch)
        head = learner.causal.lm_head.weight
        summed: torch.Tensor = _HeadLoss.apply(found, head, batch.targets, batch.weights)
        return summed + _exchanged(learner.causal.lm_head, found, batch)


def at_scored(learner: Learner, batch: Batch) -> torch.Tensor:
    """What the model says at the scored tokens of a batch, which is on its device.

    Returns:
        [T, hidden size], what the head takes, where rows share their beginnings; else
        [T, vocabulary], the logits.
    """
    if learner.shares:
        kind = torch.bfloat16 if learner.half else learner.causal.dtype
        states = learner.causal.model(
            input_ids=batch.tokens,
            position_ids=batch.positions,
            use_cache=False,
            **_mask(learner.causal, batch, kind),
        ).last_hidden_state
        return states.flatten(0, 1)[batch.scored]
    # Logits of the columns in which any row is scored, not of the prompts before them.
    width = batch.tokens.shape[1]
    row, column = batch.scored // width, batch.scored % width
    columns, place = column.unique(return_inverse=True)
    logits = learner.causal(
        input_ids=batch.tokens,
        attention_mask=batch.real.long(),
        use_cache=False,
        logits_to_keep=columns,
    ).logits
    return logits[row, place]


def _mask(causal: Any, batch: Batch, dtype: torch.dtype) -> dict[str, Any]:
    """What the model's attention wants to know about a batch of trees."""
    match causal.config._attn_implementation:
        case tree_attention.NAME:
            # The model would make a dense mask if it were given none.
            none = torch.zeros(1, 1, 1, 1, dtype=dtype, device=batch.tokens.device)
            return {
                "attention_mask": none,
                "tree": tree_attention.blocks(batch.until[0], dtype),
            }
        case "flex_attention":
            return {"attention_mask": tree_attention.flex_mask(batch.until)}
        case _:
            return {"attention_mask": batch.mask(dtype)}


class _HeadLoss(torch.autograd.Function):
    """Sum of weight x cross entropy of a head without bias.

    Logits are many, so they are held for a part of the tokens at a time, and their gradient is
    taken at once: neither are they kept, nor computed again for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        size = max(1, HEAD_NUMBERS // len(head))
        learns_below, learns_head = ctx.needs_input_grad[:2]
        below, of_head = [], torch.zeros_like(head) if learns_head else None
        losses = []
        for part, target, share in zip(
            hidden.split(size), targets.split(size), weights.split(size), strict=True
        ):
            logits = _at_least_single(functional.linear(part, head))
            weight = share.to(logits.dtype)
            logs = logits.log_softmax(-1)
            losses.append(-(logs.gather(1, target[:, None])[:, 0] @ weight))
            if not learns_below and of_head is None:
                continue
            gradient = logs.exp_()
            gradient[torch.arange(len(target), device=target.device), target] -= 1
            gradient *= weight[:, None]
            if learns_below:
                below.append((gradient @ head.to(gradient.dtype)).to(hidden.dtype))
            if of_head is not None:
                of_head += (gradient.T @ part.to(gradient.dtype)).to(head.dtype)
        ctx.save_for_backward(torch.cat(below) if learns_below else None, of_head)
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        below, of_head = ctx.saved_tensors
        scaled = [None if one is None else one * outer[0] for one in (below, of_head)]
        return (*scaled, None, None)


def _at_least_single(numbers: torch.Tensor) -> torch.Tensor:
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def _exchanged(head: nn.Module, hidden: torch.Tensor, batch: Batch) -> torch.Tensor | float:
    """What a batch's teachers change in its loss: a share of the path loss for the divergence.

    With the share (the mix) a and weight w it is a w (KL - CE) at each token that a teacher tells
    about: added to the path loss w CE, this makes w ((1 - a) CE + a KL).

    Args:
        head: gives logits.
        hidden: [T, …], of the scored tokens: what the head takes.
        batch: on the device.
    """
    if (taught := batch.taught) is None:
        return 0.0

    def of(place: torch.Tensor, token_ids: torch.Tensor, logprobs: torch.Tensor) -> torch.Tensor:
        logits = _at_least_single(head(hidden[place]))
        paths = functional.cross_entropy(logits, batch.targets[place], reduction="none")
        return divergence(logits, token_ids, logprobs) - paths

    size = max(1, HEAD_NUMBERS // getattr(head, "out_features", hidden.shape[-1]))
    every = (taught.place, taught.token_ids, taught.logprobs)
    parts = zip(*(one.split(size) for one in every), strict=True)
    each = torch.cat([recomputed(of, *part, use_reentrant=False) for part in parts])
    return each @ taught.weights.to(each.dtype)


def batches(learner: Learner, some: Sequence[Row]) -> list[Batch]:
    """Rows in batches: end to end where attention skips what is not seen, else padded."""
    skips = learner.causal.config._attn_implementation in SKIPS_UNSEEN
    if learner.shares and skips:
        return prefix_tree.forests(some)
    return prefix_tree.batches(some, learner.cost)


@torch.no_grad()
def mean_loss(
    learner: Learner, some: Sequence[Row], look: Callable[[], None] = lambda: None
) -> float:
    """Mean loss in nats per weighted token; with others, each takes its share of the rows.

    Raises:
        Stopped: `look`, which is called before each batch, raised something, here or elsewhere.
    """
    total = weight = 0.0

    def add(batch: Batch) -> None:
        nonlocal total, weight
        total += loss_sum(learner, batch).item()
        weight += float(batch.weights.sum())

    _for_each_batch(learner, some[learner.ranks.rank :: learner.ranks.count], add, look)
    total, weight = learner.ranks.sums(total, weight)
    return total / weight
