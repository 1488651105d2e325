"""How far a student's next token is from its teacher's, told from the teacher's likeliest tokens.

The forward Kullback-Leibler divergence, KL(teacher ‖ student), needs the teacher's probability of
every token of the vocabulary; kept are the k likeliest ones and one number for all others together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

REST_AT_LEAST = -1e4
"""Log-probability of all other tokens together, where it is lower: still a number as float16."""


@dataclass(frozen=True, slots=True)
class Likely:
    """What a teacher thought likely at the T places of a path."""

    token_ids: NDArray[np.uint32]
    """[T, k], the likeliest first."""
    logprobs: NDArray[np.float16]
    """[T, k + 1]: of these tokens, and at last of all others together, in nats."""


def likely(logits: torch.Tensor, k: int) -> Likely:
    """Keep the k likeliest tokens.

    Args:
        logits: [T, V].
        k: at least 1; at most V - 1 are kept, since then the others together are one token.
    """
    k = min(k, logits.shape[-1] - 1)
    logs = logits.float().log_softmax(-1)
    top, ids = logs.topk(k, dim=-1)
    rest = logs.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
    kept = torch.cat([top, rest.clamp(min=REST_AT_LEAST)], dim=-1)
    return Likely(
        ids.to(torch.int64).cpu().numpy().astype(np.uint32),
        kept.cpu().numpy().astype(np.float16),
    )


def write_likely(path: Path, likely: Mapping[int, Likely]) -> None:
    """Write what a teacher thought likely, by path id; the file has its name when it is whole."""
    known = list(likely.values())
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        np.savez(
            file,
            path_ids=np.array(list(likely), np.int64),
            lengths=np.array([len(one.token_ids) for one in known], np.int64),
            token_ids=np.concatenate(
                [one.token_ids for one in known] or [np.empty((0, 1), np.uint32)]
            ),
            logprobs=np.concatenate(
                [one.logprobs for one in known] or [np.empty((0, 2), np.float16)]
            ),
        )
    temporary.replace(path)


def read_likely(path: Path) -> dict[int, Likely]:
    """The inverse of `write_likely`."""
    with np.load(path) as found:
        ends = found["lengths"].cumsum()[:-1]
        return {
            int(path_id): Likely(*one)
            for path_id, *one in zip(
                found["path_ids"],
                np.split(found["token_ids"], ends),
                np.split(found["logprobs"], ends),
                strict=False,  # nothing, split, is one empty part
            )
        }


def divergence(
    logits: torch.Tensor, token_ids: torch.Tensor, logprobs: torch.Tensor
) -> torch.Tensor:
    """KL(p ‖ q) over k + 1 outcomes: each kept token, and "any other".

        sum over i ≤ k of p_i (log p_i - log q_i)  +  p_rest (log p_rest - log q_rest)

    q is the student's softmax over the whole vocabulary, q_rest its mass beside the kept tokens.
    p are the stored log-probabilities, scaled to sum to 1 (float16 rounds them). Both are whole
    distributions, so this is ≥ 0, 0 exactly when they agree on all k + 1 outcomes, and at most the
    divergence over the vocabulary, which it reaches at k = V - 1. Without the rest, a student would
    be free to put mass on tokens that the teacher thinks unlikely; with p scaled over the kept
    tokens alone it would be pushed to be surer than the teacher.

    Args:
        logits: [N, V], of the student.
        token_ids: [N, k], int64.
        logprobs: [N, k + 1], of the teacher, the rest at last.

    Returns:
        [N], in nats, in float32 or what the logits have above it.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    teacher = logprobs.to(logits.dtype).log_softmax(-1)
    others = logits.scatter(-1, token_ids, -torch.inf).logsumexp(-1, keepdim=True)
    # The softmax over the k + 1 outcomes is that over the vocabulary, with the others as one.
    student = torch.cat([logits.gather(-1, token_ids), others], dim=-1).log_softmax(-1)
    return (teacher.exp() * (teacher - student)).sum(-1)
