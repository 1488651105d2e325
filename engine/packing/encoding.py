"""Training examples as token ids: the prompt, the completion that is scored, and its weight."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.inference.hf.prompt_tokenizer import PromptTokenizer
from engine.prompting.templates import Prompt
from store.enums import PromptFormat, PromptStyle
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from store.records import Example


@dataclass(frozen=True, slots=True)
class TopKLogprobs:
    """A teacher's k most likely tokens at each of the T sampled tokens of a path."""

    token_ids: NDArray[np.uint32]
    """[T, k], most likely first."""
    logprobs: NDArray[np.float16]
    """[T, k + 1], in nats: of these tokens, then of all other tokens together."""


@dataclass(frozen=True, slots=True)
class ContrastTerm:
    """The part of an example in the contrast between winning and losing paths of its question."""

    wins: bool
    """Whether its answer won the vote; else its likelihood is lowered."""
    margin: float
    """Of the vote, in [0, 1]: weight of the question."""
    reference: float = math.nan
    """Log-likelihood of the completion before training, in nats; not a number until computed."""


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """An example as token ids."""

    question_id: int
    prompt_format: PromptFormat
    prompt: tuple[int, ...]
    """At least one token."""
    completion: tuple[int, ...]
    """At least one token; the last one is an end token, unless only a teacher or only the first
    tokens are learned from."""
    weight: float
    """≥ 0, of each token of the completion in the loss."""
    teacher: TopKLogprobs | None = field(default=None, compare=False)
    """Distillation target at the first T tokens of the completion; None without a teacher."""
    mix: float = 0.0
    """Share of the loss at those tokens that is the divergence from the teacher, in [0, 1]."""
    contrast: ContrastTerm | None = field(default=None, compare=False)
    """None in a training on majority paths."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """Prompt and completion."""
        return self.prompt + self.completion


def encode(
    examples: Sequence[Example],
    tokenizer: Any,
    style: PromptStyle,
    end_tokens: Collection[int],
) -> list[EncodedExample]:
    """Turn examples into token ids, the same ids that the model saw when it was sampled.

    Prompts are tokenized by the code that tokenizes them for sampling.

    A completion consists of the sampled token ids. If there are none (direct answers, imported
    paths, another tokenizer), its text is tokenized as the continuation of the prompt. Every
    completion ends with an end token of the model, so that it learns to stop: the sampled one, or
    else the tokenizer's own; in a chat, the one with which the template ends a message. It replaces
    the end token of a teacher with the same tokens that ends otherwise.

    Of an example whose first tokens are learned, the completion is cut after so many, and at the
    latest in its middle, so that it has neither an answer nor an end token.

    Args:
        examples: of one training set.
        tokenizer: a Hugging Face tokenizer.
        style: how the prompts of the set are rendered.
        end_tokens: every token id that ends a generation of the model.

    Raises:
        BadInput: the tokenizer has no end token, or no chat template that fits a chat.
    """
    if tokenizer.eos_token_id is None:
        raise BadInput(
            f"The tokenizer of {tokenizer.name_or_path} has no end token: "
            'set "eos_token" in its tokenizer_config.json.'
        )
    prompt_tokenizer = PromptTokenizer(tokenizer)
    end_token = prompt_tokenizer.turn_end(end_tokens) if style is PromptStyle.CHAT else None
    end_token = tokenizer.eos_token_id if end_token is None else end_token
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    prompts: dict[str, tuple[int, ...]] = {}
    continuations: dict[tuple[str, str], tuple[int, ...]] = {}
    encoded = []
    for example in examples:
        if example.prompt not in prompts:
            ids = prompt_tokenizer.prompt(Prompt(example.prompt, style, 0))
            prompts[example.prompt] = tuple(ids)
        completion = example.token_ids
        if not completion:
            last_line = "" if style is PromptStyle.CHAT else example.prompt.rpartition("\n")[2]
            key = (last_line, example.completion)
            if key not in continuations:
                continuations[key] = _continuation_ids(*key, prompt_tokenizer)
            completion = continuations[key]
        if not completion or completion[-1] not in end_tokens:
            foreign_end = completion[-1:] and completion[-1] in special
            completion = (*(completion[:-1] if foreign_end else completion), end_token)
        if example.first_tokens is not None:
            half = max(1, (len(completion) - 1) // 2)
            completion = completion[: min(example.first_tokens, half)]
        encoded.append(
            EncodedExample(
                example.question_id,
                example.prompt_format,
                prompts[example.prompt],
                completion,
                example.weight,
            )
        )
    return encoded


def _continuation_ids(before: str, text: str, tokenizer: PromptTokenizer) -> tuple[int, ...]:
    """Tokens of `text` after `before`; of `text` alone if a token would span both."""
    first, both = tokenizer.encode(before), tokenizer.encode(before + text)
    return tuple(both[len(first) :] if both[: len(first)] == first else tokenizer.encode(text))
