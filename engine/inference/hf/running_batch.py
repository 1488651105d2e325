"""The running batch: paths of many questions that are sampled together, one token per step.

Part of a step cannot be divided among cores: short operations, and the calls themselves. So on a
CPU several running batches step at the same time, each with its own tree and its own share of the
cores. The paths of a question are in one running batch while it has free slots for them.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np
import torch

from engine.inference.backend import Generation, PathRequest
from engine.inference.hf.token_sampler import sample_tokens
from engine.inference.path_confidence import path_confidence
from engine.inference.token_sampler import uniforms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from engine.inference.backend import PathSource, Sampling
    from engine.inference.hf.prefix_tree import PrefixTree
    from engine.inference.stopping import Ending, StopChecker

REFILL_SHARE = 16
"""Refill when one of this many slots is free: evaluating several prompts at once is cheaper."""


class RunningBatch:
    """A prefix tree and its running paths.

    One thread at a time calls `step`; all other methods are called between steps.
    """

    def __init__(self, tree: PrefixTree, batch_size: int, max_tokens: int) -> None:
        """Args:
        tree: with its prefix, without prompts.
        batch_size: most paths at a time.
        max_tokens: of a path.
        """
        self._tree = tree
        self._batch_size = batch_size
        self._running = RunningPaths(batch_size, max_tokens)
        self._lanes = PromptLanes(tree, batch_size)
        self._starting: list[PathRequest] = []

    @property
    def load(self) -> int:
        """Number of paths that are running or will start with the next step."""
        return self._running.count + len(self._starting)

    @property
    def is_full(self) -> bool:
        """Whether no slot is free."""
        return self.load == self._batch_size

    @property
    def wants_paths(self) -> bool:
        """Whether enough slots are free to refill them."""
        return self.load == 0 or (self._batch_size - self.load) * REFILL_SHARE >= self._batch_size

    def has_prompt(self, question: str) -> bool:
        """Whether the question's prompt is in the tree, or will be with the newest path."""
        return question in self._lanes or any(
            request.question == question for request in self._starting[-1:]
        )

    def start(self, request: PathRequest) -> None:
        """Start a path with the next step."""
        self._starting.append(request)

    def step(
        self, sampling: Sampling, stop_checker: StopChecker, threads: int
    ) -> dict[int, Ending]:
        """Sample the next token of every path.

        Args:
            sampling: the sampling parameters.
            stop_checker: finds the paths that have ended.
            threads: number of processor threads for this step.

        Returns:
            The rows whose paths have ended, and how.

        Raises:
            WorkFailed: the logits are not finite.
        """
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        running, starting = self._running, self._starting
        logits = [running.step(self._tree)] if running.count else []
        if starting:
            lanes = self._lanes.assign(starting, running.questions())
            logits.append(torch.stack([self._lanes.logits[lane] for lane in lanes]))
            running.add(starting, lanes)
            self._starting = []
        rows = logits[0] if len(logits) == 1 else torch.cat(logits)
        return running.sample(rows, sampling, stop_checker)

    def finish(self, ended: dict[int, Ending]) -> list[Generation]:
        """Remove the paths that have ended, and return them."""
        finished = [self._running.generation(row, ending) for row, ending in ended.items()]
        self._running.drop(set(ended), self._tree)
        return finished

    def drop_settled(self, source: PathSource) -> None:
        """Remove paths and prompts of questions that need no more paths."""
        settled = self._lanes.settled(source)
        if settled:
            self._running.drop(self._running.rows_of(settled), self._tree)
            self._lanes.release(settled)


class RunningPaths:
    """The running paths as columns, in rows 0 to count - 1; each path keeps its slot."""

    def __init__(self, batch_size: int, max_tokens: int) -> None:
        self.count = 0
        self._requests: list[PathRequest] = []
        self._free_slots = list(range(batch_size))
        self._slots = np.zeros(batch_size, dtype=np.int64)
        self._lanes = np.zeros(batch_size, dtype=np.int64)
        self._seeds = np.zeros(batch_size, dtype=np.uint64)
        self._lengths = np.zeros(batch_size, dtype=np.int64)
        self._tokens = np.zeros((batch_size, max_tokens), dtype=np.int64)
        # By slot: unlike columns by row, they need not move when other paths end.
        self._logprobs, self._entropies = np.zeros((2, batch_size, max_tokens), dtype=np.float32)

    @property
    def lanes(self) -> NDArray[np.int64]:
        """[count] lane of each path's prompt."""
        return self._lanes[: self.count]

    def add(self, requests: Sequence[PathRequest], lanes: Sequence[int]) -> None:
        """Put paths without tokens into free slots."""
        rows = slice(self.count, self.count + len(requests))
        self._requests += requests
        self._slots[rows] = [self._free_slots.pop() for _ in requests]
        self._lanes[rows] = lanes
        self._seeds[rows] = [request.seed for request in requests]
        self._lengths[rows] = 0
        self.count = rows.stop

    def newest(self) -> NDArray[np.int64]:
        """[count] the last token of each path."""
        return self._tokens[np.arange(self.count), self._lengths[: self.count] - 1]

    def whole(self, prompts: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """[count, tokens] prompt and path of every row, of equal length; prompts by lane."""
        written = self._tokens[: self.count, : self._lengths[0]]
        return np.concatenate([np.array(prompts)[self.lanes], written], axis=1)

    def step(self, tree: PrefixTree) -> Tensor:
        """[count, vocabulary] the logits of each path's next token."""
        rows = slice(self.count)
        return tree.step(self.newest(), self._slots[rows], self._lanes[rows], self._lengths[rows])

    def sample(
        self, logits: Tensor, sampling: Sampling, stop_checker: StopChecker
    ) -> dict[int, Ending]:
        """Append a token to every path; the rows whose paths have ended, and how."""
        lengths, slots = self._lengths[: self.count], self._slots[: self.count]
        sampled = sample_tokens(logits, sampling, uniforms(self._seeds[: self.count], lengths))
        tokens = sampled.ids
        self._tokens[np.arange(self.count), lengths] = tokens
        self._logprobs[slots, lengths] = sampled.logprobs
        self._entropies[slots, lengths] = sampled.entropies
        lengths += 1
        ended = {}
        for row in stop_checker.candidates(tokens, lengths).tolist():
            ending = stop_checker.check(self._tokens[row, : lengths[row]].tolist())
            if ending is not None:
                ended[row] = ending
        return ended

    def generation(self, row: int, ending: Ending) -> Generation:
        """The finished path of a row."""
        request, kept = self._requests[row], slice(len(ending.token_ids))
        slot = self._slots[row]
        return Generation(
            request.question,
            request.index,
            ending.text,
            ending.token_ids,
            ending.reason,
            path_confidence(self._logprobs[slot, kept], self._entropies[slot, kept]),
        )

    def questions(self) -> set[str]:
        """The questions that have running paths."""
        return {request.question for request in self._requests}

    def rows_of(self, questions: set[str]) -> set[int]:
        """The rows of the paths of these questions."""
        return {i for i, request in enumerate(self._requests) if request.question in questions}

    def drop(self, rows: set[int], tree: PrefixTree) -> None:
        """Free the slots of some rows; the other rows close up."""
        freed = self._slots[sorted(rows)]
        tree.free(freed)
        self._free_slots += freed.tolist()
        kept = [row for row in range(self.count) if row not in rows]
        self.count = len(kept)
        for column in (self._slots, self._lanes, self._seeds, self._lengths, self._tokens):
            column[: self.count] = column[kept]
        self._requests = [self._requests[row] for row in kept]


class PromptLanes:
    """Which prompt is in which lane of the tree, with the logits of its next token."""

    def __init__(self, tree: PrefixTree, batch_size: int) -> None:
        self.logits: dict[int, Tensor] = {}
        self._tree = tree
        self._lane_of: dict[str, int] = {}
        self._free_lanes = list(range(batch_size))

    def __contains__(self, question: str) -> bool:
        return question in self._lane_of

    def assign(self, requests: Sequence[PathRequest], running: set[str]) -> list[int]:
        """The lane of each request's prompt; prompts that are not in the tree are evaluated.

        Args:
            requests: together with `running`, of no more questions than there are lanes.
            running: questions whose prompts must stay.
        """
        new = {r.question: r.prompt for r in requests if r.question not in self._lane_of}
        busy = running.union(request.question for request in requests)
        # Prompts of questions that wait for more paths stay while there are free lanes.
        idle = [question for question in self._lane_of if question not in busy]
        self.release(idle[: max(0, len(new) - len(self._free_lanes))])
        if new:
            lanes = [heapq.heappop(self._free_lanes) for _ in new]
            self._lane_of.update(zip(new, lanes, strict=True))
            rows = self._tree.add_prompts(list(new.values()), lanes)
            self.logits.update(zip(lanes, rows, strict=True))
        return [self._lane_of[request.question] for request in requests]

    def settled(self, source: PathSource) -> set[str]:
        """The questions in the tree that need no more paths."""
        return {question for question in self._lane_of if source.is_settled(question)}

    def release(self, questions: Iterable[str]) -> None:
        """Free the lanes of questions that have no running paths."""
        for question in questions:
            lane = self._lane_of.pop(question)
            del self.logits[lane]
            heapq.heappush(self._free_lanes, lane)
