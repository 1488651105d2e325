"""What a backend is: something that turns prompts into paths.

The stage that samples owns the order of the work and the votes; a backend owns the batch. It asks
for the next path whenever a slot is free, so that slots never wait for the slowest path of a
question, and it drops paths of questions that have been settled meanwhile.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from store.enums import EndReason


TINY = 20_000_000
"""Weights below which a step takes few milliseconds: a run is short, and so are its probes."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen: temperature alone unless asked otherwise, as in the paper."""

    temperature: float
    """≥ 0; 0 is greedy."""
    max_tokens: int
    """Longest path, end token included."""
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    """Strings that end a path; matched on bytes, since a token may hold half a character."""


@dataclass(frozen=True, slots=True)
class PathRequest:
    """One path to sample."""

    question: str
    """Key of the question; paths of one question share their prompt."""
    index: int
    prompt: tuple[int, ...]
    """Token ids of the whole prompt, as this backend's own `tokenize` gave them."""
    shared: int
    """How many leading tokens are common to all prompts of the run (the few-shot prefix)."""
    seed: int
    """Of this path alone, from `path_seed`: what is drawn does not depend on the batch."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One finished path."""

    question: str
    index: int
    text: str
    """Without the end token and without the stop string and what follows it."""
    token_ids: tuple[int, ...]
    """As sampled: with the end token when `END`; with `STOP`, every token that begins before the
    stop string. Empty from a server that gives text only."""
    end: EndReason


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str


class PathSource(Protocol):
    """Where a backend gets its work from."""

    def next_path(self) -> PathRequest | None:
        """The next path to start, or None when none can be started now."""

    def is_settled(self, question: str) -> bool:
        """Whether the question needs no more paths: those still running are dropped.

        Raises what ends the sampling when somebody wishes it to end.
        """


class Backend(Protocol):
    """A loaded model. Not thread-safe; closed by whoever opened it."""

    name: str
    """`llama.cpp`, `transformers`, `server`, `scripted`."""
    version: str
    context_length: int
    """Most tokens in prompt and path together."""
    details: dict[str, object]
    """How it samples on this machine, to be stored with the run: JSON values by name, such as
    `width` (paths at a time) and `threads`. Empty where there is nothing to tell."""

    def tokenize(self, text: str) -> list[int]:
        """Token ids of plain text, with the model's own start token if it has one.

        Text that spells a special token is read as plain text.
        """

    def tokenize_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a chat up to where the assistant is to speak.

        A last message of the assistant is left open, to be continued.

        Raises:
            BadInput: the model has no chat template.
        """

    def sample(self, source: PathSource, sampling: Sampling) -> Iterator[Generation]:
        """Yield paths as they finish, until the source has none left and none is running.

        The source is asked again after each yielded path, because the path may have settled its
        question or made more of them wanted.
        """

    def close(self) -> None:
        """Free the memory of the model."""


def path_seed(run_seed: int, question: str, index: int) -> int:
    """A 63-bit seed for path `index` of a question, the same on every machine."""
    digest = hashlib.blake2b(f"{run_seed}\0{question}\0{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
