"""A running batch of paths over a tree of prompts: what changes from one step to the next.

A model's steps are partly work that cannot be divided among cores: short operations, and the calls
themselves. So the batch is cut in streams, each with its own tree and its own share of the cores,
that step at the same time. Questions belong to one stream while it has room for their paths.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np
import torch

from engine.inference.backend import Generation, PathRequest
from engine.inference.hf.token_sampler import choose
from engine.inference.token_sampler import uniforms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from engine.inference.backend import PathSource, Sampling
    from engine.inference.hf.prefix_tree import PrefixTree
    from engine.inference.stopping import Ending, Endings

PATIENCE = 16
"""A stream is refilled when one slot in so many is free: prompts are cheaper several at a time."""


class Stream:
    """A tree with its running paths. One thread steps it; between steps it is asked and filled."""

    def __init__(self, tree: PrefixTree, width: int, max_tokens: int) -> None:
        """Args:
        tree: planted, without prompts.
        width: most paths at a time.
        max_tokens: of a path.
        """
        self._tree = tree
        self._width = width
        self._running = Running(width, max_tokens)
        self._lanes = Lanes(tree, width)
        self._begun: list[PathRequest] = []

    @property
    def load(self) -> int:
        """Paths that run or are about to."""
        return self._running.count + len(self._begun)

    @property
    def is_full(self) -> bool:
        """Whether it has no room for another path."""
        return self.load == self._width

    @property
    def is_hungry(self) -> bool:
        """Whether so many slots are free that it is worth while to fill them."""
        return self.load == 0 or (self._width - self.load) * PATIENCE >= self._width

    def knows(self, question: str) -> bool:
        """Whether the question's prompt is here already, or will be with the newest path."""
        return question in self._lanes or any(one.question == question for one in self._begun[-1:])

    def begin(self, request: PathRequest) -> None:
        """Let a path begin with the next step."""
        self._begun.append(request)

    def step(self, sampling: Sampling, endings: Endings, threads: int) -> dict[int, Ending]:
        """Give every path its next token.

        Args:
            sampling: how to draw it.
            endings: what ends a path.
            threads: of the processor, for this step.

        Returns:
            The rows whose paths have ended, and how.

        Raises:
            WorkFailed: the model computes numbers that are none.
        """
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        running, begun = self._running, self._begun
        logits = [running.step(self._tree)] if running.count else []
        if begun:
            places = self._lanes.take(begun, running.questions())
            logits.append(torch.stack([self._lanes.logits[place] for place in places]))
            running.add(begun, places)
            self._begun = []
        rows = logits[0] if len(logits) == 1 else torch.cat(logits)
        return running.choose(rows, sampling, endings)

    def finish(self, ended: dict[int, Ending]) -> list[Generation]:
        """Take out the paths that have ended."""
        finished = [self._running.generation(row, ending) for row, ending in ended.items()]
        self._running.drop(set(ended), self._tree)
        return finished

    def forget_settled(self, source: PathSource) -> None:
        """Drop what belongs to questions that need no more paths."""
        settled = self._lanes.settled(source)
        if settled:
            self._running.drop(self._running.of(settled), self._tree)
            self._lanes.release(settled)


class Running:
    """The paths of the running batch as columns, rows 0 to count - 1; each keeps its slot."""

    def __init__(self, width: int, max_tokens: int) -> None:
        self.count = 0
        self._requests: list[PathRequest] = []
        self._free = list(range(width))
        self._slots = np.zeros(width, dtype=np.int64)
        self._lanes = np.zeros(width, dtype=np.int64)
        self._seeds = np.zeros(width, dtype=np.uint64)
        self._lengths = np.zeros(width, dtype=np.int64)
        self._tokens = np.zeros((width, max_tokens), dtype=np.int64)

    @property
    def lanes(self) -> NDArray[np.int64]:
        """[count] where the prompt of each path is."""
        return self._lanes[: self.count]

    def add(self, requests: Sequence[PathRequest], lanes: Sequence[int]) -> None:
        """Put paths that have no token yet into free slots."""
        into = slice(self.count, self.count + len(requests))
        self._requests += requests
        self._slots[into] = [self._free.pop() for _ in requests]
        self._lanes[into] = lanes
        self._seeds[into] = [request.seed for request in requests]
        self._lengths[into] = 0
        self.count = into.stop

    def newest(self) -> NDArray[np.int64]:
        """[count] the last token of each path."""
        return self._tokens[np.arange(self.count), self._lengths[: self.count] - 1]

    def step(self, tree: PrefixTree) -> Tensor:
        """[count, vocabulary] the logits of each path's next token."""
        now = slice(self.count)
        return tree.step(self.newest(), self._slots[now], self._lanes[now], self._lengths[now])

    def choose(self, logits: Tensor, sampling: Sampling, endings: Endings) -> dict[int, Ending]:
        """Give every path its next token; the rows whose paths have ended, and how."""
        lengths = self._lengths[: self.count]
        tokens = choose(logits, sampling, uniforms(self._seeds[: self.count], lengths))
        self._tokens[np.arange(self.count), lengths] = tokens
        lengths += 1
        ended = {}
        for row in endings.suspects(tokens, lengths).tolist():
            ending = endings.ending(self._tokens[row, : lengths[row]].tolist())
            if ending is not None:
                ended[row] = ending
        return ended

    def generation(self, row: int, ending: Ending) -> Generation:
        """The finished path of a row."""
        request = self._requests[row]
        return Generation(
            request.question, request.index, ending.text, ending.token_ids, ending.reason
        )

    def questions(self) -> set[str]:
        """Those that have running paths."""
        return {request.question for request in self._requests}

    def of(self, questions: set[str]) -> set[int]:
        """The rows of the paths of these questions."""
        return {i for i, request in enumerate(self._requests) if request.question in questions}

    def drop(self, rows: set[int], tree: PrefixTree) -> None:
        """Free the slots of some rows; the others close up."""
        freed = self._slots[sorted(rows)]
        tree.shelves.free(freed)
        self._free += freed.tolist()
        stay = [row for row in range(self.count) if row not in rows]
        self.count = len(stay)
        for column in (self._slots, self._lanes, self._seeds, self._lengths, self._tokens):
            column[: self.count] = column[stay]
        self._requests = [self._requests[row] for row in stay]


class Lanes:
    """Which prompt is in which lane of the tree, with the logits of its first new token."""

    def __init__(self, tree: PrefixTree, width: int) -> None:
        self.logits: dict[int, Tensor] = {}
        self._tree = tree
        self._lane_of: dict[str, int] = {}
        self._free = list(range(width))

    def __contains__(self, question: str) -> bool:
        return question in self._lane_of

    def take(self, requests: Sequence[PathRequest], busy: set[str]) -> list[int]:
        """The lane of each request's prompt; prompts that are not there yet are evaluated.

        Args:
            requests: with those of `busy`, of no more questions than there are lanes.
            busy: questions whose prompts must stay.
        """
        new = {r.question: r.prompt for r in requests if r.question not in self._lane_of}
        busy = busy.union(request.question for request in requests)
        # Prompts of questions that wait for more paths stay while there is room.
        idle = [question for question in self._lane_of if question not in busy]
        self.release(idle[: max(0, len(new) - len(self._free))])
        if new:
            lanes = [heapq.heappop(self._free) for _ in new]
            self._lane_of.update(zip(new, lanes, strict=True))
            rows = self._tree.add(list(new.values()), lanes)
            self.logits.update(zip(lanes, rows, strict=True))
        return [self._lane_of[request.question] for request in requests]

    def settled(self, source: PathSource) -> set[str]:
        """The questions here that need no more paths."""
        return {question for question in self._lane_of if source.is_settled(question)}

    def release(self, questions: Iterable[str]) -> None:
        """Free the lanes of questions that have no running paths."""
        for question in questions:
            lane = self._lane_of.pop(question)
            del self.logits[lane]
            heapq.heappush(self._free, lane)
