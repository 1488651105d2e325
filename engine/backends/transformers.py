"""Sample from a Hugging Face folder: many paths of many questions in one running batch.

Prompts are kept once (`engine.backends.shared_prefix`), their paths grow together, and a slot that
becomes free takes the next path while the others go on. Models whose attention cannot be shared so
are sampled by the model's own cache instead, and the log says so.
"""

from __future__ import annotations

import heapq
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
import transformers
from transformers import DynamicCache

from engine.backends.choosing import uniforms
from engine.backends.choosing_on_device import choose
from engine.backends.hugging_face import (
    Prompts,
    end_tokens,
    load_model,
    load_tokenizer,
    piece_bytes,
)
from engine.backends.protocol import Generation, Message, PathRequest, PathSource, Sampling
from engine.backends.shared_prefix import PrefixTree
from engine.backends.shared_trial import continues, own_step, why_not
from engine.backends.stops import Endings
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from engine.backends.stops import Ending

_log = logging.getLogger(__name__)

WIDTH = 256
"""Paths at a time when nothing else is asked: the fastest of 32 to 256 in every trial."""
PATIENCE = 16
"""A batch is refilled when one slot in so many is free: prompts are cheaper several at a time."""


def open_transformers(
    folder: Path,
    *,
    adapter: Path | None = None,
    threads: int | None = None,
    batch: int | None = None,
) -> Transformers:
    """Load a model for sampling, on the GPU if there is one.

    Args:
        folder: a Hugging Face folder with safetensors and a tokenizer; nothing is downloaded and no
            code in it is run.
        adapter: a PEFT folder, merged into the weights in memory.
        threads: of the processor; None leaves torch's choice.
        batch: most paths at a time; None for `WIDTH`. Fewer if the memory does not hold them.

    Raises:
        BadInput: the folder cannot be loaded as a causal language model with its tokenizer, or the
            adapter does not fit it.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if threads:
        torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = load_tokenizer(folder)
    return Transformers(load_model(folder, adapter, device), tokenizer, batch or WIDTH)


class Transformers:
    """A loaded Hugging Face model."""

    name = "transformers"
    version = transformers.__version__

    def __init__(self, model: Any, tokenizer: Any, width: int) -> None:
        """Args:
        model: a causal language model, on its device.
        tokenizer: its own.
        width: most paths at a time.

        Raises:
            BadInput: the model does not go on from a cache as others do.
        """
        self._model = model
        self.batch = width
        config = model.config.get_text_config()
        self._config = config
        self.context_length = int(
            getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
        )
        self._tokenizer = tokenizer
        self._prompts = Prompts(tokenizer)
        self._ends = end_tokens(model, tokenizer)
        self._pieces = piece_bytes(tokenizer, max(config.vocab_size, len(tokenizer)))
        reason = why_not(model)
        self.shares_prefix = reason is None
        self.details: dict[str, object] = {
            "width": width,
            "dtype": str(model.dtype).removeprefix("torch."),
            "shares_prefix": self.shares_prefix,
            "reason": reason,
            "threads": torch.get_num_threads(),
        }
        """`width` is the one asked for until `sample` has found what the memory holds; `reason` is
        why prompts are not shared, or None."""
        if reason:
            if not continues(model):
                raise BadInput(
                    f"{config.model_type} models cannot be sampled here: "
                    "give the model as GGUF and set the engine to llama.cpp."
                )
            _log.warning("Prompts are not shared between paths, so sampling is slow: %s.", reason)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of plain text, with the model's own start token if its tokenizer adds one."""
        return self._prompts.tokenize(text)

    def tokenize_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a chat up to where the assistant is to speak or to go on.

        Raises:
            BadInput: there is no chat template, or it refuses these messages.
        """
        return self._prompts.tokenize_chat(messages)

    def sample(self, source: PathSource, sampling: Sampling) -> Iterator[Generation]:
        """Yield paths as they finish.

        Raises:
            BadInput: a prompt and its path do not fit the model's context.
            WorkFailed: the model computes numbers that are none.
        """
        endings = Endings(self._pieces, self._ends, sampling)
        if self.shares_prefix:
            yield from self._grow(source, sampling, endings)
        else:
            yield from self._grow_apart(source, sampling, endings)

    def close(self) -> None:
        """Free the memory of the model."""
        self._model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _next(self, source: PathSource, sampling: Sampling) -> PathRequest | None:
        request = source.next_path()
        if request and len(request.prompt) + sampling.max_tokens > self.context_length:
            raise BadInput(
                f"The prompt of question {request.question} has {len(request.prompt)} tokens and a "
                f"path may take {sampling.max_tokens}, but the model's context holds "
                f"{self.context_length}: use fewer examples, or lower max_tokens."
            )
        return request

    def _grow(
        self, source: PathSource, sampling: Sampling, endings: Endings
    ) -> Iterator[Generation]:
        """Prompts kept once, one running batch."""
        first = self._next(source, sampling)
        if first is None:
            return
        width = self._fitting_width(first, sampling)
        tree = PrefixTree(self._model, width)
        tree.plant(first.prompt[: min(first.shared, len(first.prompt) - 1)])
        lanes = _Lanes(tree, width)
        running = _Running(width, sampling.max_tokens)
        begun: list[PathRequest] = [first]
        while True:
            free = width - running.count
            if running.count == 0 or free * PATIENCE >= width:
                while len(begun) < free and (request := self._next(source, sampling)):
                    begun.append(request)
            if not begun and not running.count:
                return
            logits = [running.step(tree)] if running.count else []
            if begun:
                places = lanes.take(begun, running.questions())
                logits.append(torch.stack([lanes.logits[place] for place in places]))
                running.add(begun, places)
                begun = []
            rows = logits[0] if len(logits) == 1 else torch.cat(logits)
            ended = running.choose(rows, sampling, endings)
            if not ended:
                continue
            finished = [running.generation(slot, ending) for slot, ending in ended.items()]
            running.drop(set(ended), tree)
            yield from finished
            running.drop(running.of_settled(source), tree)
            lanes.release(source, running.questions())

    def _fitting_width(self, first: PathRequest, sampling: Sampling) -> int:
        """The width asked for, or as many paths like the first as half of the free memory holds."""
        config, model = self._config, self._model
        size = torch.finfo(model.dtype).bits // 8
        heads = getattr(config, "num_attention_heads", None) or 1
        key_heads = getattr(config, "num_key_value_heads", None) or heads
        head = getattr(config, "head_dim", None) or config.hidden_size // heads
        own = sampling.max_tokens + len(first.prompt) - first.shared * self.shares_prefix
        kept = 2 * config.num_hidden_layers * key_heads * head * size * own
        scores = 3 * 4 * heads * (len(first.prompt) + sampling.max_tokens)
        logits = 3 * 4 * config.vocab_size
        cuda = model.device.type == "cuda"
        free = torch.cuda.mem_get_info()[0] if cuda else psutil.virtual_memory().available
        width = max(1, min(self.batch, int(free / 2 / (kept + scores + logits))))
        if width < self.batch:
            _log.info("The free memory holds %d paths at a time, not %d.", width, self.batch)
        self.details["width"] = width
        return width

    def _grow_apart(
        self, source: PathSource, sampling: Sampling, endings: Endings
    ) -> Iterator[Generation]:
        """The model's own cache, for any architecture: prompts of one length decode together.

        Nothing is padded, so there is nothing that a layer could read wrongly.
        """
        while True:
            first = self._next(source, sampling)
            if first is None:
                return
            requests = [first]
            width = self._fitting_width(first, sampling)
            while len(requests) < width and (request := self._next(source, sampling)):
                requests.append(request)
            for length in sorted({len(request.prompt) for request in requests}):
                group = [
                    request
                    for request in requests
                    if len(request.prompt) == length and not source.is_settled(request.question)
                ]
                if group:
                    yield from self._decode_together(group, source, sampling, endings)

    def _decode_together(
        self,
        requests: list[PathRequest],
        source: PathSource,
        sampling: Sampling,
        endings: Endings,
    ) -> Iterator[Generation]:
        prompts = list(dict.fromkeys(request.prompt for request in requests))
        running = _Running(len(requests), sampling.max_tokens)
        running.add(requests, [prompts.index(request.prompt) for request in requests])
        cache = DynamicCache(config=self._model.config)
        logits = own_step(self._model, np.array(prompts), cache)[running.lanes]
        with torch.inference_mode():
            cache.reorder_cache(torch.as_tensor(running.lanes, device=self._model.device))
        over: set[int] = set()
        while len(over) < len(requests):
            ended = running.choose(logits, sampling, endings)
            for slot in ended.keys() - over:
                over.add(slot)
                yield running.generation(slot, ended[slot])
            over |= running.of_settled(source)
            if len(over) < len(requests):
                logits = own_step(self._model, running.newest()[:, None], cache)


class _Running:
    """The paths of the running batch as columns; slots 0 to count - 1 are taken."""

    def __init__(self, width: int, max_tokens: int) -> None:
        self.count = 0
        self._requests: list[PathRequest] = []
        self._lanes = np.zeros(width, dtype=np.int64)
        self._seeds = np.zeros(width, dtype=np.uint64)
        self._lengths = np.zeros(width, dtype=np.int64)
        self._tokens = np.zeros((width, max_tokens), dtype=np.int64)

    @property
    def lanes(self) -> NDArray[np.int64]:
        return self._lanes[: self.count]

    def add(self, requests: Sequence[PathRequest], lanes: Sequence[int]) -> None:
        """Put paths that have no token yet into the next slots."""
        into = slice(self.count, self.count + len(requests))
        self._requests += requests
        self._lanes[into] = lanes
        self._seeds[into] = [request.seed for request in requests]
        self._lengths[into] = 0
        self.count = into.stop

    def newest(self) -> NDArray[np.int64]:
        """[count] the last token of each path."""
        return self._tokens[np.arange(self.count), self._lengths[: self.count] - 1]

    def step(self, tree: PrefixTree) -> Tensor:
        """[count, vocabulary] the logits of each path's next token."""
        return tree.step(self.newest(), self.lanes, self._lengths[: self.count])

    def choose(self, logits: Tensor, sampling: Sampling, endings: Endings) -> dict[int, Ending]:
        """Give every path its next token; the slots whose paths have ended, and how."""
        lengths = self._lengths[: self.count]
        tokens = choose(logits, sampling, uniforms(self._seeds[: self.count], lengths))
        self._tokens[np.arange(self.count), lengths] = tokens
        lengths += 1
        ended = {}
        for slot in endings.suspects(tokens, lengths).tolist():
            ending = endings.ending(self._tokens[slot, : lengths[slot]].tolist())
            if ending is not None:
                ended[slot] = ending
        return ended

    def generation(self, slot: int, ending: Ending) -> Generation:
        """The finished path of a slot."""
        request = self._requests[slot]
        return Generation(
            request.question, request.index, ending.text, ending.token_ids, ending.reason
        )

    def questions(self) -> set[str]:
        """Those that have running paths."""
        return {request.question for request in self._requests}

    def of_settled(self, source: PathSource) -> set[int]:
        """The slots whose paths are no longer wanted."""
        settled = {question for question in self.questions() if source.is_settled(question)}
        return {i for i, request in enumerate(self._requests) if request.question in settled}

    def drop(self, slots: set[int], tree: PrefixTree) -> None:
        """Free slots; the last paths move into the holes."""
        left = self.count - len(slots)
        holes = sorted(slot for slot in slots if slot < left)
        movers = [slot for slot in range(left, self.count) if slot not in slots]
        if holes:
            tree.move(holes, movers)
            for column in (self._lanes, self._seeds, self._lengths, self._tokens):
                column[holes] = column[movers]
            for hole, mover in zip(holes, movers, strict=True):
                self._requests[hole] = self._requests[mover]
        del self._requests[left:]
        self.count = left


class _Lanes:
    """Which prompt is in which lane of the tree, with the logits of its first new token."""

    def __init__(self, tree: PrefixTree, width: int) -> None:
        self.logits: dict[int, Tensor] = {}
        self._tree = tree
        self._lane_of: dict[str, int] = {}
        self._free = list(range(width))

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
        self._give_back(idle[: max(0, len(new) - len(self._free))])
        if new:
            lanes = [heapq.heappop(self._free) for _ in new]
            self._lane_of.update(zip(new, lanes, strict=True))
            rows = self._tree.add(list(new.values()), lanes)
            self.logits.update(zip(lanes, rows, strict=True))
        return [self._lane_of[request.question] for request in requests]

    def release(self, source: PathSource, busy: set[str]) -> None:
        """Free the lanes of settled questions."""
        idle = self._lane_of.keys() - busy
        self._give_back([question for question in idle if source.is_settled(question)])

    def _give_back(self, questions: Sequence[str]) -> None:
        for question in questions:
            lane = self._lane_of.pop(question)
            del self.logits[lane]
            heapq.heappush(self._free, lane)
