"""Examples as rows of tokens in which every common beginning stands once.

Paths of one question share its prompt, questions of one task share their worked examples, and a
prompt may be the beginning of another one. A row therefore holds a tree of tokens: two examples
share the tokens that they begin with and part where they differ. Each token sees its own ancestors
and nothing else, at the position that it would have in a row of its own, so that hidden states,
loss and gradients are those of training each example alone ("Tree Training", arXiv 2511.00413, does
the same for the turns of agents). Only tokens of completions are scored.

A tree lies in its row in depth-first order. Then the descendants of a token are the tokens from
itself up to an index `until`, and token i sees token j exactly when `j <= i < until[j]`: the mask
of a whole batch is two comparisons. Trees that share nothing may stand behind each other in a row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from engine.prompting.templates import Prompt
from store.enums import PromptFormat, PromptStyle
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from engine.training.kl_divergence import Likely
    from store.records import Example

    Integers = NDArray[np.int64]
    Floats = NDArray[np.float64]

ROW_TOKENS = 4096
"""Longest row. A dense mask costs the square of it; trees part earlier where that is cheaper."""

BATCH_TOKENS = 4096
"""Tokens evaluated at once, padding included: bounds the memory of activations."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as token ids."""

    question_id: int
    prompt_format: PromptFormat
    prompt: tuple[int, ...]
    """At least one token."""
    completion: tuple[int, ...]
    """At least one token, the end token included."""
    weight: float
    """≥ 0, of each of its scored tokens."""
    teacher: Likely | None = field(default=None, compare=False)
    """What its teacher thought likely at the first tokens of the completion."""
    mix: float = 0.0
    """Share of the loss at those tokens that is the divergence from the teacher, in [0, 1]."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """Prompt and completion."""
        return self.prompt + self.completion


def encode(
    examples: Sequence[Example], tokenizer: Any, style: PromptStyle, ends: Collection[int]
) -> list[Encoded]:
    """Turn examples into tokens, as the model met them when it was sampled.

    A completion is the sampled token ids. Where there are none (direct answers, imported paths,
    another tokenizer) its text is tokenised as it goes on from the end of the prompt. Every
    completion ends with an end token, so that the model learns to stop: the sampled one, or the
    tokenizer's own after a stop string and after tokenised text.

    Args:
        examples: of one training set.
        tokenizer: a Hugging Face tokenizer.
        style: how the set's prompts are rendered.
        ends: every token id that ends a generation of the model.

    Raises:
        BadInput: the tokenizer has no end token, or no chat template for a chat.
    """
    if tokenizer.eos_token_id is None:
        raise BadInput(
            f"The tokenizer of {tokenizer.name_or_path} names no end token: "
            'set "eos_token" in its tokenizer_config.json.'
        )
    prompts: dict[str, tuple[int, ...]] = {}
    continued: dict[tuple[str, str], tuple[int, ...]] = {}
    encoded = []
    for example in examples:
        if example.prompt not in prompts:
            prompts[example.prompt] = _prompt_ids(example.prompt, tokenizer, style)
        completion = example.token_ids
        if not completion:
            opening = "" if style is PromptStyle.CHAT else example.prompt.rpartition("\n")[2]
            text = (opening, example.completion)
            if text not in continued:
                continued[text] = _continuation(*text, tokenizer)
            completion = continued[text]
        if not completion or completion[-1] not in ends:
            completion = (*completion, tokenizer.eos_token_id)
        encoded.append(
            Encoded(
                example.question_id,
                example.prompt_format,
                prompts[example.prompt],
                completion,
                example.weight,
            )
        )
    return encoded


def _prompt_ids(text: str, tokenizer: Any, style: PromptStyle) -> tuple[int, ...]:
    if style is PromptStyle.BASE:
        # A question that spells a special token is plain text; only the model's own start token
        # stands before it, and nothing behind.
        bare, whole = tokenizer("a", add_special_tokens=False).input_ids, tokenizer("a").input_ids
        start = next(at for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
        return (*whole[:start], *_plain(text, tokenizer))
    turns = [
        {"role": turn.role, "content": turn.content} for turn in Prompt(text, style, 0).messages()
    ]
    opened = turns[-1]["role"] == "assistant"
    try:
        ids = tokenizer.apply_chat_template(
            turns,
            add_generation_prompt=not opened,
            continue_final_message=opened,
            sanitize_control_tokens=True,
            return_dict=False,
        )
    except ValueError as error:
        raise BadInput(
            f"The tokenizer of {tokenizer.name_or_path} has no chat template that fits: "
            "set sample.style to base."
        ) from error
    return tuple(ids)


def _continuation(opening: str, text: str, tokenizer: Any) -> tuple[int, ...]:
    """Tokens of `text` as they follow `opening`; of the text alone where a token spans both."""
    before, both = _plain(opening, tokenizer), _plain(opening + text, tokenizer)
    return both[len(before) :] if both[: len(before)] == before else _plain(text, tokenizer)


def _plain(text: str, tokenizer: Any) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)


@dataclass(frozen=True, slots=True)
class Row:
    """A tree of S tokens. Arrays have length S."""

    tokens: Integers
    positions: Integers
    """Depth in the tree: 0 at the root."""
    parents: Integers
    """Index of the token before it in its tree; -1 at the root."""
    until: Integers
    """Index after its last descendant: token i sees token j when `j <= i < until[j]`."""
    weights: NDArray[np.float32]
    """Weight of predicting this token from its parent: the sum over the examples in whose
    completion it is; 0 for tokens of prompts."""
    leaves: dict[int, int]
    """Index of the last token of each example, by the example's number."""
    taught: tuple[tuple[Integers, Encoded], ...] = ()
    """Examples with a teacher, each with the indices of the tokens that it tells about."""

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a forward pass costs, in operations."""

    token: float
    """Of a token, padding too: two for each weight that it meets."""
    pair: float
    """Of a pair of tokens in one row, seen or not; 0 where attention skips what is not seen, since
    a token sees as many others alone."""
    call: float
    """Of evaluating a batch at all, however small."""

    def tree(self, tokens: Floats) -> Floats:
        """Of rows of so many tokens."""
        return tokens * self.token + tokens**2 * self.pair


def trees(examples: Sequence[Encoded], cost: Cost) -> list[Row]:
    """Pack examples into rows of one tree each, sharing beginnings where that is cheaper.

    Every example is in exactly one row. No tree is longer than `ROW_TOKENS` unless it holds a
    single example. Sorted by their tokens, examples share the most with their neighbours; of all
    ways to cut that order into rows this is the cheapest.
    """
    coded = [np.asarray(one.tokens, np.int64) for one in examples]
    # Big-endian bytes sort as the token ids do.
    order = sorted(range(len(examples)), key=lambda number: coded[number].astype(">u4").tobytes())
    common = [_common(coded[first], coded[second]) for first, second in pairwise(order)]
    whole = np.array([len(coded[number]) for number in order], np.float64)
    added = np.cumsum(whole - np.array([0, *common][: len(order)]))

    def up_to(end: int) -> Floats:
        size = whole[:end] + added[end - 1] - added[:end]
        alone = np.arange(end) == end - 1
        return np.where((size <= ROW_TOKENS) | alone, cost.tree(size), np.inf)

    return [
        _tree(
            examples, coded, list(zip(order[first:end], [0, *common[first : end - 1]], strict=True))
        )
        for first, end in _cheapest_cuts(len(order), up_to)
    ]


def _cheapest_cuts(count: int, up_to: Callable[[int], Floats]) -> list[tuple[int, int]]:
    """Cut 0 … count into consecutive runs whose costs sum to the least (dynamic programming).

    Args:
        count: how many there are to cut.
        up_to: for an end, the cost of the run from each first < end to it; infinite where the
            run may not be.

    Returns:
        First and end of each run.
    """
    best = np.zeros(count + 1)
    begins = [0] * (count + 1)
    for end in range(1, count + 1):
        total = best[:end] + up_to(end)
        begins[end] = int(total.argmin())
        best[end] = total[begins[end]]
    cuts = []
    end = count
    while end > 0:
        cuts.append((begins[end], end))
        end = begins[end]
    return cuts[::-1]


def _common(first: Integers, second: Integers) -> int:
    shorter = min(len(first), len(second))
    differs = first[:shorter] != second[:shorter]
    return int(differs.argmax()) if differs.any() else shorter


def _tree(
    examples: Sequence[Encoded], coded: Sequence[Integers], group: Sequence[tuple[int, int]]
) -> Row:
    """One tree of (example number, tokens shared with the one before it), in sorted order."""
    size = sum(len(coded[number]) - common for number, common in group)
    tokens = np.empty(size, np.int64)
    positions = np.empty(size, np.int64)
    parents = np.empty(size, np.int64)
    until = np.full(size, size, np.int64)
    weights = np.zeros(size, np.float32)
    leaves: dict[int, int] = {}
    taught = []
    path = np.empty(0, np.int64)  # index of each token of the example that was placed last
    at = 0
    for number, common in group:
        sequence = coded[number]
        until[path[common:]] = at
        new = np.arange(at, at + len(sequence) - common)
        path = np.concatenate([path[:common], new])
        tokens[new] = sequence[common:]
        positions[new] = np.arange(common, len(sequence))
        parents[path[1:]] = path[:-1]
        parents[path[0]] = -1
        weights[path[len(examples[number].prompt) :]] += examples[number].weight
        leaves[number] = int(path[-1])
        if (one := examples[number]).teacher is not None:
            taught.append((path[len(one.prompt) :][: len(one.teacher.token_ids)], one))
        at += len(new)
    return Row(tokens, positions, parents, until, weights, leaves, tuple(taught))


def alone(examples: Sequence[Encoded]) -> list[Row]:
    """Each example in a row of its own: for models that cannot take the mask of a tree."""
    coded = [np.asarray(one.tokens, np.int64) for one in examples]
    return [_tree(examples, coded, [(number, 0)]) for number in range(len(examples))]


@dataclass(frozen=True, slots=True)
class Taught:
    """What teachers thought likely at N of a batch's scored tokens, k tokens at each.

    A token that several examples share is there once for each of them.
    """

    place: torch.Tensor
    """[N], int64: which of the scored tokens."""
    token_ids: torch.Tensor
    """[N, k], int64."""
    logprobs: torch.Tensor
    """[N, k + 1], float16: the last one of all other tokens together."""
    weights: torch.Tensor
    """[N], float32: how much of the loss at the token is the divergence instead."""

    def to(self, device: torch.device) -> Taught:
        """The same on a device."""
        return Taught(
            self.place.to(device),
            self.token_ids.to(device),
            self.logprobs.to(device),
            self.weights.to(device),
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as tensors: B rows padded to S tokens, T scored tokens in all."""

    tokens: torch.Tensor
    """[B, S], int64; 0 where padded."""
    positions: torch.Tensor
    """[B, S], int64."""
    until: torch.Tensor
    """[B, S], int64; padding sees itself only."""
    real: torch.Tensor
    """[B, S], bool: not padding."""
    scored: torch.Tensor
    """[T], int64: index into the B x S tokens of the one that predicts each target."""
    targets: torch.Tensor
    """[T], int64."""
    weights: torch.Tensor
    """[T], float32."""
    taught: Taught | None = None
    """None where no example has a teacher."""

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(
            self.tokens.to(device),
            self.positions.to(device),
            self.until.to(device),
            self.real.to(device),
            self.scored.to(device),
            self.targets.to(device),
            self.weights.to(device),
            self.taught.to(device) if self.taught is not None else None,
        )

    def mask(self, dtype: torch.dtype) -> torch.Tensor:
        """[B, 1, S, S], additive: 0 where a token sees another one, else the lowest number."""
        here = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        row, column = here[:, None], here[None, :]
        sees = (column <= row) & (row < self.until[:, None, :])
        hidden = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=sees.device)
        return torch.where(sees, torch.zeros_like(hidden), hidden)[:, None]


def batches(rows: Sequence[Row], cost: Cost) -> list[Batch]:
    """Rows of like length in batches of at most `BATCH_TOKENS` tokens (or one row), longest first.

    Padding is weighed against the cost of one more batch.
    """
    ordered = sorted(rows, key=len, reverse=True)
    widths = np.array([len(row) for row in ordered], np.float64)

    def up_to(end: int) -> Floats:
        width, count = widths[:end], end - np.arange(end)
        fits = (width * count <= BATCH_TOKENS) | (count == 1)
        return np.where(fits, count * cost.tree(width) + cost.call, np.inf)

    cuts = _cheapest_cuts(len(ordered), up_to)
    return [_batch([[row] for row in ordered[first:end]]) for first, end in cuts]


def forests(rows: Sequence[Row]) -> list[Batch]:
    """Rows laid end to end in as few batches of one row as `BATCH_TOKENS` allows: no padding."""
    sizes = np.array([len(row) for row in rows], np.float64)

    def up_to(end: int) -> Floats:
        size = sizes[:end][::-1].cumsum()[::-1]
        fits = (size <= BATCH_TOKENS) | (np.arange(end) == end - 1)
        return np.where(fits, 1.0, np.inf)

    return [_batch([rows[first:end]]) for first, end in _cheapest_cuts(len(rows), up_to)]


def _batch(lines: Sequence[Sequence[Row]]) -> Batch:
    """Each line is laid end to end and padded to the longest."""
    width = max(sum(map(len, line)) for line in lines)
    shape = (len(lines), width)
    tokens, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    until = np.tile(np.arange(1, width + 1), (len(lines), 1))
    real = np.zeros(shape, np.bool_)
    scored, targets, weights = [], [], []
    places, before = [], 0
    for number, line in enumerate(lines):
        start = 0
        for row in line:
            here = (number, slice(start, start + len(row)))
            tokens[here], positions[here] = row.tokens, row.positions
            until[here], real[here] = row.until + start, True
            at = np.flatnonzero(row.weights)
            scored.append(row.parents[at] + number * width + start)
            targets.append(row.tokens[at])
            weights.append(row.weights[at])
            places += [np.searchsorted(at, where) + before for where, _ in row.taught]
            before += len(at)
            start += len(row)
    return Batch(
        torch.from_numpy(tokens),
        torch.from_numpy(positions),
        torch.from_numpy(until),
        torch.from_numpy(real),
        torch.from_numpy(np.concatenate(scored)),
        torch.from_numpy(np.concatenate(targets)),
        torch.from_numpy(np.concatenate(weights)),
        _taught(places, [one for line in lines for row in line for _, one in row.taught]),
    )


def _taught(places: Sequence[Integers], examples: Sequence[Encoded]) -> Taught | None:
    """Of examples with a teacher, and the places of their tokens among the scored ones."""
    if not examples:
        return None
    known = [one.teacher for one in examples if one.teacher is not None]
    weights = [
        np.full(len(place), one.weight * one.mix, np.float32)
        for place, one in zip(places, examples, strict=True)
    ]
    return Taught(
        torch.from_numpy(np.concatenate(places)),
        torch.from_numpy(np.concatenate([one.token_ids for one in known]).astype(np.int64)),
        torch.from_numpy(np.concatenate([one.logprobs for one in known])),
        torch.from_numpy(np.concatenate(weights)),
    )
