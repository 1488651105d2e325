"""Passes of a model over examples: the gradient of a step, the loss of held-out rows.

All processes that train a model together must make the same calls here.
"""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import psutil
import torch

from engine.inference.hf.rope_factors import short_length
from engine.inference.hf.sliding_windows import short_windows
from engine.packing import prefix_tree
from engine.packing.batches import Batch, concatenated_batches, padded_batches
from engine.packing.encoding import EncodedExample
from engine.training.data_parallel import SINGLE_PROCESS
from engine.training.loss import loss_sum
from engine.training.model import (
    SPARSE_ATTENTION,
    TrainableModel,
    dense_attention,
    forward_cost,
)
from store.enums import PromptFormat
from store.errors import WorkFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engine.packing.prefix_tree import PackedRow

_log = logging.getLogger(__name__)

SHORT_WINDOW = 8
"""Length of sliding windows while packing is verified."""
KEPT_SHARE = 0.7
"""Largest share of the free memory for activations that are kept. They are counted once for each
use, which is about one and a half times what they take."""
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
"""What torch's errors say on CUDA, on Linux and on other systems when memory runs out."""


class PassInterrupted(Exception):
    """A pass was not finished, in this process or in another one."""

    def __init__(self, reason: BaseException | None) -> None:
        super().__init__(str(reason))
        self.reason = reason
        """The exception of this process; None if another process was interrupted."""


def pack_rows(model: TrainableModel, examples: Sequence[EncodedExample]) -> list[PackedRow]:
    """Pack examples into prefix trees if the model shares prefixes, else one into each row."""
    if model.shares_prefixes:
        return prefix_tree.pack(examples, model.cost, apart_from=short_length(model.causal.config))
    return prefix_tree.one_per_row(examples)


def make_batches(model: TrainableModel, rows: Sequence[PackedRow]) -> list[Batch]:
    """Batch rows: concatenated if attention skips masked pairs, else padded.

    Rows with positions that call for other rope factors are batched apart.
    """
    limit = short_length(model.causal.config)
    is_sparse = model.causal.config._attn_implementation in SPARSE_ATTENTION
    batches = []
    is_long = [limit is not None and row.positions.max() >= limit for row in rows]
    for wanted in (False, True):
        part = [row for row, long in zip(rows, is_long, strict=True) if long == wanted]
        if part and model.shares_prefixes and is_sparse:
            batches += concatenated_batches(part)
        elif part:
            batches += padded_batches(part, model.cost)
    return batches


def verify_packing(model: TrainableModel, examples: Sequence[EncodedExample]) -> TrainableModel:
    """Return the model, set to train rows alone if packing does not give the same loss.

    A few examples with common prefixes are enough: a mask that is ignored shows, and so does a
    window, which is shortened for this. A sparse attention that fails here is replaced by a dense
    mask first.
    """
    if not model.shares_prefixes:
        return model
    with short_windows(model.causal, SHORT_WINDOW):
        return _verified(model, examples)


def _verified(model: TrainableModel, examples: Sequence[EncodedExample]) -> TrainableModel:
    sample = sorted(examples, key=lambda example: example.tokens)[:4]
    local = replace(model, parallel=SINGLE_PROCESS)  # every process comes to the same result
    attention = model.causal.config._attn_implementation
    packed_loss, error = _packed_loss(local, sample)
    if attention in SPARSE_ATTENTION:
        model.causal.set_attn_implementation(dense_attention(model.causal))
    unpacked = replace(model, shares_prefixes=False)
    loss = mean_loss(replace(local, shares_prefixes=False), pack_rows(unpacked, sample))
    tolerance = 2e-2 if model.is_bfloat16 else 1e-4
    if math.isclose(packed_loss, loss, rel_tol=tolerance):
        model.causal.set_attn_implementation(attention)
        return model
    if attention in SPARSE_ATTENTION:
        _log.warning(
            "Packed rows are trained with a dense mask: %s does not work here%s.", attention, error
        )
        cost = forward_cost(model.causal, model.device)
        return _verified(replace(model, cost=cost), examples)
    _log.warning(
        "Every example is trained in a row of its own, which is slower: the model ignores the mask "
        "of a prefix tree (loss %.6g packed, %.6g alone)%s.",
        packed_loss,
        loss,
        error,
    )
    return unpacked


def _packed_loss(model: TrainableModel, examples: Sequence[EncodedExample]) -> tuple[float, str]:
    """The loss of a forward and backward pass; NaN and `: ` with the error if the pass fails."""
    error = ""
    try:
        loss = accumulate_gradients(model, examples)
    except PassInterrupted as interrupted:
        reason = interrupted.reason
        if reason is None or isinstance(reason, WorkFailed):
            raise (reason or interrupted) from None
        if not isinstance(reason, Exception):
            raise reason from None
        lines = str(reason).splitlines()
        loss, error = math.nan, f": {lines[0]}" if lines else ""
    for weight in model.weights.values():
        weight.grad = None
    return loss, error


def accumulate_gradients(
    model: TrainableModel,
    examples: Sequence[EncodedExample],
    check_stop: Callable[[], None] = lambda: None,
) -> float:
    """Add the gradient of a step's mean loss to the weights, batch by batch.

    Args:
        model: to be trained; each process takes its part of the examples.
        examples: all examples of the step; the loss is divided by their weighted tokens.
        check_stop: called before each batch; an exception that it raises ends the step.

    Returns:
        The loss, in nats per weighted token.

    Raises:
        PassInterrupted: before the end, here or in another process; the gradients are incomplete.
            Its reason is `WorkFailed` if the device has not enough memory.
    """
    total = sum(example.weight * len(example.completion) for example in examples)
    loss = 0.0

    def add(batch: Batch) -> None:
        nonlocal loss
        batch_loss = loss_sum(model, batch) / total
        batch_loss.backward()
        loss += batch_loss.item()

    rows = pack_rows(model, model.parallel.shard(examples))
    for_each_batch(model, make_batches(model, rows), add, check_stop)
    model.parallel.sum_gradients(model.weights.values())
    return model.parallel.sum_all(loss)[0]


@torch.no_grad()
def mean_loss(
    model: TrainableModel,
    rows: Sequence[PackedRow],
    check_stop: Callable[[], None] = lambda: None,
) -> float:
    """Mean loss in nats per weighted token; each process takes its part of the rows.

    Raises:
        PassInterrupted: `check_stop`, which is called before each batch, raised an exception,
            here or in another process.
    """
    total = weight = 0.0

    def add(batch: Batch) -> None:
        nonlocal total, weight
        total += loss_sum(model, batch).item()
        weight += float(batch.weights.sum())

    parallel = model.parallel
    own_rows = rows[parallel.rank :: parallel.processes]
    for_each_batch(model, make_batches(model, own_rows), add, check_stop)
    total, weight = parallel.sum_all(total, weight)
    return total / weight


def for_each_batch(
    model: TrainableModel,
    batches: Sequence[Batch],
    work: Callable[[Batch], None],
    check_stop: Callable[[], None],
) -> None:
    """Call `check_stop` and `work` for each batch of this process; all processes must call it.

    Raises:
        PassInterrupted: one of them raised an exception, here or in another process.
    """
    parallel = model.parallel
    batches = list(batches)
    if parallel.is_sharded:  # all processes meet in every layer
        batches += [_weightless_batch(model)] * (parallel.max_all(len(batches)) - len(batches))

    def work_on(batch: Batch) -> None:
        with _explain_out_of_memory(batch):
            work(batch)

    reason: BaseException | None = None
    for batch in batches:
        reason = _exception_of(check_stop)
        if parallel.is_sharded and parallel.max_all(int(reason is not None)):
            break
        if reason is None:
            reason = _exception_of(partial(work_on, batch))
        if reason is not None:
            if parallel.is_sharded:  # the others wait in a layer until this process ends
                raise PassInterrupted(reason) from reason
            break
    if parallel.max_all(int(reason is not None)):
        raise PassInterrupted(reason) from reason


def _weightless_batch(model: TrainableModel) -> Batch:
    """A batch of weight 0, for a process that has fewer batches than the others."""
    example = EncodedExample(0, PromptFormat.ZERO_SHOT_DIRECT, (0,), (0,), 0.0)
    return make_batches(model, pack_rows(model, [example]))[0]


def _exception_of(call: Callable[[], None]) -> BaseException | None:
    try:
        call()
    except BaseException as raised:
        return raised
    return None


def keep_activations_if_they_fit(
    model: TrainableModel, steps: Sequence[Sequence[EncodedExample]]
) -> None:
    """Keep activations for the gradient, instead of recomputing them, if those of the largest batch
    fit into memory: a pass less of three, and the same gradients, bit for bit.

    On a CPU only; on other devices it was not measured.
    """
    parallel = model.parallel
    recomputing = [
        module
        for module in model.causal.modules()
        if getattr(module, "gradient_checkpointing", False)
    ]
    if not recomputing or model.device.type != "cpu" or parallel.is_sharded:
        return
    batch = _largest_batch(model, steps)
    if batch is None:
        return
    # Not by the model's methods: their names differ between versions of transformers.
    for module in recomputing:
        module.gradient_checkpointing = False
    room = KEPT_SHARE * psutil.virtual_memory().available / parallel.processes
    if _kept_bytes(model, batch) > room:
        for module in recomputing:
            module.gradient_checkpointing = True


def _kept_bytes(model: TrainableModel, batch: Batch) -> int:
    """Bytes of the tensors that a forward pass keeps for the gradient, once for each use."""
    weights = {weight.data_ptr() for weight in model.wrapped.parameters()}
    size = 0
    nothing = torch.empty(0)

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal size
        if tensor.data_ptr() not in weights:
            size += tensor.numel() * tensor.element_size()
        return nothing

    # Nothing is kept in the place of the tensors, so counting takes no memory.
    with torch.autograd.graph.saved_tensors_hooks(count, lambda _: nothing):
        loss_sum(model, batch)
    return size


def try_largest_batch(model: TrainableModel, steps: Sequence[Sequence[EncodedExample]]) -> int:
    """Compute the gradient of the largest batch once and discard it, so that memory fails early.

    The optimizer's two moments of each weight are allocated meanwhile. Weights, gradients and
    random state are left unchanged.

    Returns:
        Number of tokens of the batch.

    Raises:
        WorkFailed: the device has not enough memory.
    """
    largest = _largest_batch(model, steps)
    if largest is None:
        return 0
    random_state = torch.get_rng_state()
    with _explain_out_of_memory(largest):
        moments = [torch.empty_like(weight) for weight in model.weights.values() for _ in range(2)]
        loss_sum(model, largest).backward()
        del moments
    for weight in model.weights.values():
        weight.grad = None
    torch.set_rng_state(random_state)
    return largest.tokens.numel()


def _largest_batch(
    model: TrainableModel, steps: Sequence[Sequence[EncodedExample]]
) -> Batch | None:
    """The largest batch of two steps: that with the longest example and that with the most tokens.

    Other batches are smaller, or about as large. None if this process has no batch.
    """
    numbers = {
        max(
            range(len(steps)),
            key=lambda number: max(len(example.tokens) for example in steps[number]),
        ),
        max(
            range(len(steps)),
            key=lambda number: sum(len(example.tokens) for example in steps[number]),
        ),
    }
    batches = [
        batch
        for number in sorted(numbers)
        if (examples := model.parallel.shard(steps[number]))
        for batch in make_batches(model, pack_rows(model, examples))
    ]
    if model.parallel.is_sharded and not batches:  # all processes meet in every layer
        batches = [_weightless_batch(model)]
    return max(
        batches,
        key=lambda batch: (batch.tokens.numel(), batch.tokens.shape[1]),
        default=None,
    )


@contextmanager
def _explain_out_of_memory(batch: Batch) -> Iterator[None]:
    """Turn torch's out-of-memory errors into `WorkFailed`, with what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        message = str(error)
        if isinstance(error, RuntimeError) and not any(text in message for text in OUT_OF_MEMORY):
            raise
        rows, longest = batch.tokens.shape
        raise WorkFailed(
            f"The device ran out of memory on a batch of {rows * longest:,} tokens ({rows} rows of "
            f"up to {longest:,}): use method lora or qlora, a smaller model, or a smaller "
            "sample.max_tokens, which leaves the longest examples out."
        ) from error
