"""The loss of a batch: cross entropy of the sampled paths, mixed with the teacher's divergence."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from engine.packing import tree_attention
from engine.training.kl_divergence import top_k_kl_divergence

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.packing.batches import Batch
    from engine.packing.prefix_tree import Floats
    from engine.training.model import TrainableModel

HEAD_LOGITS = 2**24
"""Logits held at once (64 MiB in float32); larger outputs of the head are computed in chunks."""


def loss_sum(model: TrainableModel, batch: Batch) -> torch.Tensor:
    """Sum of weight x loss over the scored tokens of a batch, a scalar in float32."""
    batch = batch.to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=model.is_bfloat16):
        outputs = scored_outputs(model, batch)
        path_loss = _path_loss(model, outputs, batch.targets, batch.weights)
        if not model.shares_prefixes:
            return path_loss + _distillation_term(nn.Identity(), outputs, batch)
        return path_loss + _distillation_term(
            partial(head_logits, model.causal),
            outputs,
            batch,
            vocabulary=len(model.causal.lm_head.weight),
        )


def likelihood_loss(
    model: TrainableModel, batch: Batch, gradient_of: Callable[[Floats], Floats]
) -> torch.Tensor:
    """A scalar with the gradient of any function of the log-probabilities of the scored tokens.

    The function's gradient has one number for each token, so it needs only a weight for each token,
    of either sign, in the sum of cross entropies. The value of that sum means nothing.

    Args:
        model: to be trained.
        batch: of its examples.
        gradient_of: maps the T log-probabilities, in nats, to the T derivatives of the function.
    """
    batch = batch.to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=model.is_bfloat16):
        outputs = scored_outputs(model, batch)
        weights = -gradient_of(_scored_logprobs(model, outputs.detach(), batch.targets))
        signed = torch.from_numpy(weights).to(torch.promote_types(outputs.dtype, torch.float32))
        return _path_loss(model, outputs, batch.targets, signed.to(model.device))


@torch.no_grad()
def scored_logprobs(model: TrainableModel, batch: Batch) -> Floats:
    """The log-probability of each scored token of a batch, in nats: [T], float64."""
    batch = batch.to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=model.is_bfloat16):
        return _scored_logprobs(model, scored_outputs(model, batch), batch.targets)


@torch.no_grad()
def _scored_logprobs(model: TrainableModel, outputs: torch.Tensor, targets: torch.Tensor) -> Floats:
    head = partial(head_logits, model.causal) if model.shares_prefixes else nn.Identity()
    size = max(1, HEAD_LOGITS // len(model.causal.get_output_embeddings().weight))
    logprobs = [
        -functional.cross_entropy(_at_least_float32(head(chunk)), target, reduction="none")
        for chunk, target in zip(outputs.split(size), targets.split(size), strict=True)
    ]
    return torch.cat(logprobs).double().cpu().numpy()


def _path_loss(
    model: TrainableModel, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Sum of weight x cross entropy of scored tokens [T], given what `scored_outputs` returns."""
    if not model.shares_prefixes:
        losses = functional.cross_entropy(_at_least_float32(outputs), targets, reduction="none")
        return _weighted_sum(losses, weights)
    summed: torch.Tensor = _HeadLoss.apply(
        outputs, model.causal.lm_head.weight, targets, weights, _logit_softcap(model.causal)
    )
    return summed


def head_logits(causal: Any, states: torch.Tensor) -> torch.Tensor:
    """The logits of hidden states [T, hidden size]."""
    logits: torch.Tensor = causal.get_output_embeddings()(states)
    softcap = _logit_softcap(causal)
    return logits if softcap is None else torch.tanh(logits / softcap) * softcap


def _logit_softcap(causal: Any) -> float | None:
    """The bound c of a model's logits, which are c tanh(x / c) (Gemma 2); None if it has none."""
    softcap: float | None = getattr(causal.config, "final_logit_softcapping", None)
    return softcap


def scored_outputs(model: TrainableModel, batch: Batch) -> torch.Tensor:
    """Run the model on a batch that is on its device.

    Returns:
        If examples share prefixes, the hidden states of the scored tokens, which are the input of
        the head: [T, hidden size]. Else their logits: [T, vocabulary].
    """
    if model.shares_prefixes:
        dtype = torch.bfloat16 if model.is_bfloat16 else model.causal.dtype
        states = model.causal.model(
            input_ids=batch.tokens,
            position_ids=batch.positions,
            use_cache=False,
            **_mask_arguments(model.causal, batch, dtype),
        ).last_hidden_state
        # Tokens that begin several branches are scored several times. The gradient of `states[…]`
        # adds such rows with atomic operations, in any order; that of `embedding` has one order.
        return functional.embedding(batch.scored, states.flatten(0, 1))
    # Logits of the columns in which any row is scored, not of the prompts before them.
    width = batch.tokens.shape[1]
    row, column = batch.scored // width, batch.scored % width
    columns, column_index = column.unique(return_inverse=True)
    logits = model.causal(
        input_ids=batch.tokens,
        attention_mask=batch.is_token.long(),
        use_cache=False,
        logits_to_keep=columns,
    ).logits
    return logits[row, column_index]


def _mask_arguments(causal: Any, batch: Batch, dtype: torch.dtype) -> dict[str, Any]:
    """The arguments that give a batch of trees to the model's attention implementation."""
    attention = causal.config._attn_implementation
    if attention == tree_attention.NAME:
        # Without a mask, the model would build a dense one.
        unused = torch.zeros(1, 1, 1, 1, dtype=dtype, device=batch.tokens.device)
        tree_mask = tree_attention.TreeMask(batch.subtree_end[0], batch.positions[0], dtype)
        return {"attention_mask": unused, "tree_mask": tree_mask}

    def mask(window: int | None) -> Any:
        if attention == "flex_attention":
            return tree_attention.flex_mask(batch.subtree_end, batch.positions, window)
        return batch.dense_mask(dtype, window)

    # Models with layers of several kinds take a mask for each kind.
    window = getattr(causal.config, "sliding_window", None)
    kinds = getattr(causal.config, "layer_types", None)
    if kinds is None:
        return {"attention_mask": mask(window)}
    windows = {"full_attention": None, "sliding_attention": window}
    return {"attention_mask": {kind: mask(windows[kind]) for kind in set(kinds)}}


class _HeadLoss(torch.autograd.Function):
    """Sum of weight x cross entropy of a head without bias.

    The logits need much memory, so they are computed for a chunk of the tokens at a time, and their
    gradient is computed with them: they are neither kept nor recomputed for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
        softcap: float | None,
    ) -> torch.Tensor:
        size = max(1, HEAD_LOGITS // len(head))
        needs_hidden, needs_head = ctx.needs_input_grad[:2]
        hidden_gradients, head_gradient = [], torch.zeros_like(head) if needs_head else None
        losses = []
        for chunk, target, chunk_weights in zip(
            hidden.split(size), targets.split(size), weights.split(size), strict=True
        ):
            logits = _at_least_float32(functional.linear(chunk, head))
            if softcap is not None:
                capped = torch.tanh(logits / softcap)
                logits = capped * softcap
            logprobs = logits.log_softmax(-1)
            losses.append(_weighted_sum(-logprobs.gather(1, target[:, None])[:, 0], chunk_weights))
            if not needs_hidden and head_gradient is None:
                continue
            gradient = logprobs.exp_()
            gradient[torch.arange(len(target), device=target.device), target] -= 1
            gradient *= chunk_weights.to(gradient.dtype)[:, None]
            if softcap is not None:
                gradient *= 1 - capped**2
            if needs_hidden:
                hidden_gradients.append((gradient.to(head.dtype) @ head).to(hidden.dtype))
            if head_gradient is not None:
                head_gradient += (gradient.T @ chunk.to(gradient.dtype)).to(head.dtype)
        ctx.save_for_backward(torch.cat(hidden_gradients) if needs_hidden else None, head_gradient)
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        gradients = [
            None if gradient is None else gradient * outer[0] for gradient in ctx.saved_tensors
        ]
        return (*gradients, None, None, None)


def _at_least_float32(numbers: torch.Tensor) -> torch.Tensor:
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def _distillation_term(
    head: Callable[[torch.Tensor], torch.Tensor],
    outputs: torch.Tensor,
    batch: Batch,
    vocabulary: int | None = None,
) -> torch.Tensor | float:
    """What a batch's distillation target adds to its path loss.

    With mix a and weight w it is a w (KL - CE) at each token that has a target: added to the path
    loss w CE, this makes w ((1 - a) CE + a KL).

    Args:
        head: maps outputs to logits.
        outputs: [T, …], of the scored tokens.
        batch: on the device.
        vocabulary: number of logits; None if the outputs are the logits.
    """
    if (target := batch.distillation) is None:
        return 0.0

    def excess(
        index: torch.Tensor, token_ids: torch.Tensor, logprobs: torch.Tensor
    ) -> torch.Tensor:
        logits = _at_least_float32(head(outputs[index]))
        path_loss = functional.cross_entropy(logits, batch.targets[index], reduction="none")
        return top_k_kl_divergence(logits, token_ids, logprobs) - path_loss

    size = max(1, HEAD_LOGITS // (vocabulary or outputs.shape[-1]))
    fields = (target.scored_index, target.token_ids, target.logprobs)
    chunks = zip(*(field.split(size) for field in fields), strict=True)
    excesses = torch.cat([checkpoint(excess, *chunk, use_reentrant=False) for chunk in chunks])
    return _weighted_sum(excesses, target.weights)


def _weighted_sum(losses: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The sum of weight x loss. Autocast would round a product of vectors to bfloat16."""
    return (losses * weights.to(losses.dtype)).sum()
