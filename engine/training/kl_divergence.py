"""KL divergence between teacher and student, from the teacher's top-k log-probabilities.

The forward divergence, KL(teacher ‖ student), needs the teacher's probability of every token of the
vocabulary. Stored are those of the k most likely tokens and one for all other tokens together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from engine.packing.encoding import TopKLogprobs
from store.atomic_file import atomic_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MIN_REST_LOGPROB = -1e4
"""Lower bound of the log-probability of all other tokens: finite in float16."""


def top_k_logprobs(logits: torch.Tensor, k: int) -> TopKLogprobs:
    """Keep the k most likely tokens.

    Args:
        logits: [T, V].
        k: ≥ 1; at most V - 1 are kept, since then the rest is a single token.
    """
    k = min(k, logits.shape[-1] - 1)
    logprobs = logits.float().log_softmax(-1)
    top, token_ids = logprobs.topk(k, dim=-1)
    rest = logprobs.scatter(-1, token_ids, -torch.inf).logsumexp(-1, keepdim=True)
    kept = torch.cat([top, rest.clamp(min=MIN_REST_LOGPROB)], dim=-1)
    return TopKLogprobs(
        token_ids.to(torch.int64).cpu().numpy().astype(np.uint32),
        kept.cpu().numpy().astype(np.float16),
    )


def write_top_k(path: Path, top_k_of_path: Mapping[int, TopKLogprobs]) -> None:
    """Write the teacher's log-probabilities of each path, by path id; the file appears whole."""
    every = list(top_k_of_path.values())
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            path_ids=np.array(list(top_k_of_path), np.int64),
            lengths=np.array([len(top_k.token_ids) for top_k in every], np.int64),
            token_ids=np.concatenate(
                [top_k.token_ids for top_k in every] or [np.empty((0, 1), np.uint32)]
            ),
            logprobs=np.concatenate(
                [top_k.logprobs for top_k in every] or [np.empty((0, 2), np.float16)]
            ),
        )


def read_top_k(path: Path) -> dict[int, TopKLogprobs]:
    """Read what `write_top_k` wrote."""
    with np.load(path) as arrays:
        ends = arrays["lengths"].cumsum()[:-1]
        return {
            int(path_id): TopKLogprobs(token_ids, logprobs)
            for path_id, token_ids, logprobs in zip(
                arrays["path_ids"],
                np.split(arrays["token_ids"], ends),
                np.split(arrays["logprobs"], ends),
                strict=False,  # an empty array is split into one empty part
            )
        }


def top_k_kl_divergence(
    logits: torch.Tensor, token_ids: torch.Tensor, logprobs: torch.Tensor
) -> torch.Tensor:
    """KL(p ‖ q) over k + 1 outcomes: each of the k tokens, and "any other token".

        sum over i ≤ k of p_i (log p_i - log q_i)  +  p_rest (log p_rest - log q_rest)

    q is the student's softmax over the whole vocabulary, q_rest its mass outside the k tokens. p
    are the stored log-probabilities, normalized to sum to 1 (float16 rounds them). Both are
    complete distributions, so the result is ≥ 0, is 0 exactly when they agree on all k + 1
    outcomes, and is at most the divergence over the vocabulary, which it equals at k = V - 1.
    Without the rest, a student could put mass on tokens that the teacher thinks unlikely; with p
    normalized over the k tokens alone it would become more confident than the teacher.

    Args:
        logits: [N, V], of the student.
        token_ids: [N, k], int64.
        logprobs: [N, k + 1], of the teacher, the rest last.

    Returns:
        [N], in nats, in float32 or the type of the logits if that is wider.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    teacher = logprobs.to(logits.dtype).log_softmax(-1)
    rest = logits.scatter(-1, token_ids, -torch.inf).logsumexp(-1, keepdim=True)
    # The softmax over the k + 1 outcomes is that over the vocabulary, with the rest as one.
    student = torch.cat([logits.gather(-1, token_ids), rest], dim=-1).log_softmax(-1)
    return (teacher.exp() * (teacher - student)).sum(-1)
