"""The interface of an inference backend: it turns prompts into reasoning paths.

The sampling stage decides what to sample and counts the votes; the backend decides how to batch.
It asks for the next path whenever a slot is free, so no slot waits for the slowest path of a
question, and it drops running paths of questions that have been settled in the meantime.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.prompting.messages import ChatMessage
    from store.confidence import PathConfidence
    from store.enums import AnswerType, EndReason


TINY_PARAMETERS = 20_000_000
"""Models with fewer parameters decode a step in milliseconds, so their runs are short and probes
must be short, too."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters. The defaults use temperature alone, as the paper does."""

    temperature: float
    """≥ 0; 0 is greedy."""
    max_tokens: int
    """Longest path, end token included."""
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    """Strings that end a path. Matched on bytes, since a token may hold half a character."""
    answer_type: AnswerType | None = None
    """A path ends after the sentence that states an answer of this type
    (`engine.inference.answer_sentence`); None lets it go on."""


@dataclass(frozen=True, slots=True)
class PathRequest:
    """One path to sample."""

    question: str
    """Key of the question; paths of a question share their prompt."""
    index: int
    prompt: tuple[int, ...]
    """Token ids of the whole prompt, from the `tokenize` of this backend."""
    shared: int
    """Number of leading tokens that all prompts of the run have in common (the few-shot prefix)."""
    seed: int
    """From `path_seed`, different for every path: the sampled tokens do not depend on the batch."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished path."""

    question: str
    index: int
    text: str
    """Without the end token, and cut before the stop string."""
    token_ids: tuple[int, ...]
    """As sampled: with the end token when `END`; with `STOP`, every token that begins before the
    stop string. Empty from a server that returns text only."""
    end: EndReason
    confidence: PathConfidence | None = field(default=None, compare=False)
    """Of the tokens that are kept, with the path id 0; None from a server that does not tell. Not
    compared, since its rounding depends on the batch."""


class PathSource(Protocol):
    """Gives a backend its work."""

    def next_path(self) -> PathRequest | None:
        """The next path to start, or None when none can be started now."""

    def is_settled(self, question: str) -> bool:
        """Whether the question needs no more paths; those still running are dropped.

        Raises an exception to end sampling when the job is paused or canceled.
        """


class Backend(Protocol):
    """A loaded model. Not thread-safe; the code that opens it closes it."""

    name: str
    """`llama.cpp`, `transformers`, `server`, `scripted`."""
    version: str
    context_length: int
    """Most tokens in prompt and path together."""
    details: dict[str, object]
    """How the engine is configured on this machine, stored with the run: JSON values by name, such
    as `width` (the batch size) and `threads`. May be empty."""

    def tokenize(self, text: str) -> list[int]:
        """Token ids of plain text, with the model's start token if it has one.

        The spelling of a special token is read as plain text.
        """

    def tokenize_chat(
        self, messages: Sequence[ChatMessage], *, thinking: bool = False
    ) -> list[int]:
        """Token ids of a chat, with the opening of the assistant's next message.

        If the last message is the assistant's, it is left open for the model to continue.
        `thinking` lets the model think first, if its template can switch that.

        Raises:
            BadInput: the model has no chat template.
        """

    def sample(self, source: PathSource, sampling: Sampling) -> Iterator[Generation]:
        """Yield paths as they finish, until the source has none left and none is running.

        The source is asked again after each yielded path, because that path may settle its
        question or make more paths necessary.
        """

    def close(self) -> None:
        """Free the memory of the model."""


def path_seed(run_seed: int, question: str, index: int) -> int:
    """A 63-bit seed for path `index` of a question, the same on every machine."""
    digest = hashlib.blake2b(f"{run_seed}\0{question}\0{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
