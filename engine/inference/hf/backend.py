"""Sample from a Hugging Face folder: many paths of many questions in one running batch.

Prompts are kept once (`engine.inference.hf.prefix_tree`), their paths grow together, and a slot
that becomes free takes the next path while the others go on. Models whose attention cannot be
shared so are sampled by the model's own cache instead, and the log says so.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
import transformers
from transformers import DynamicCache

from engine.inference import batch_size
from engine.inference.hf.loading import (
    Prompts,
    end_tokens,
    load_model,
    load_tokenizer,
    piece_bytes,
)
from engine.inference.hf.prefix_check import continues, own_step, why_not
from engine.inference.hf.prefix_tree import PrefixTree
from engine.inference.hf.running_batch import Running, Stream
from engine.inference.stopping import Endings
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from engine.inference.backend import Generation, Message, PathRequest, PathSource, Sampling
    from engine.inference.stopping import Ending

_log = logging.getLogger(__name__)

STREAMS, LEAST = 2, 64
"""Running batches side by side on a processor, and the paths that each must have room for: with
fewer, reading the weights twice costs more than the cores gain."""


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
        batch: most paths at a time; None for what suits the model's size. Fewer if the memory does
            not hold them.

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
    model = load_model(folder, adapter, device)
    width = batch or batch_size.usual(batch_size.TRANSFORMERS, model.num_parameters())
    return Transformers(model, tokenizer, width)


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
        self._threads = torch.get_num_threads()
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
            "threads": self._threads,
            "streams": self._stream_count(width) if self.shares_prefix else 1,
        }
        """`width` and `streams` are those of the width asked for until `sample` has found what the
        memory holds; `reason` is why prompts are not shared, or None."""
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
        """Prompts kept once, running batches side by side."""
        first = self._next(source, sampling)
        if first is None:
            return
        streams = self._streams(first, sampling)
        streams[0].begin(first)
        try:
            with ThreadPoolExecutor(len(streams), "stream") as pool:
                yield from self._take_turns(streams, pool, source, sampling, endings)
        finally:
            # Threads that are yet to come take over what any thread has set last.
            torch.set_num_threads(self._threads)

    def _take_turns(
        self,
        streams: Sequence[Stream],
        pool: ThreadPoolExecutor,
        source: PathSource,
        sampling: Sampling,
        endings: Endings,
    ) -> Iterator[Generation]:
        """Steps of all streams at the same time, looked after in a fixed order.

        So the same paths meet in the same batches in every run, however long a step takes; and the
        source is asked by one thread only.
        """
        steps: dict[Stream, Future[dict[int, Ending]]] = {}
        while True:
            self._fill([stream for stream in streams if stream not in steps], source, sampling)
            busy = [stream for stream in streams if stream.load]
            for stream in busy:
                if stream not in steps:
                    share = max(1, self._threads // len(busy))
                    steps[stream] = pool.submit(stream.step, sampling, endings, share)
            if not steps:
                return
            stream = next(iter(steps))  # whose step began first
            ended = steps.pop(stream).result()
            if ended:
                yield from stream.finish(ended)
            stream.forget_settled(source)  # a wish to end is heard here

    def _streams(self, first: PathRequest, sampling: Sampling) -> list[Stream]:
        """Trees with the prefix of the first prompt, as many as go side by side."""
        width = self._fitting_width(first, sampling)
        self.details["streams"] = count = self._stream_count(width)
        tree = PrefixTree(self._model, width // count)
        tree.plant(first.prompt[: min(first.shared, len(first.prompt) - 1)])
        trees = [tree, *(tree.sibling() for _ in range(count - 1))]
        return [Stream(one, width // count, sampling.max_tokens) for one in trees]

    def _stream_count(self, width: int) -> int:
        """How many running batches go side by side."""
        rope = (getattr(self._config, "rope_parameters", None) or {}).get("rope_type")
        if self._model.device.type != "cpu" or rope in ("dynamic", "longrope"):
            return 1  # such a rope is changed for all by whoever has the longest path
        return max(1, min(STREAMS, self._threads, width // LEAST))

    def _fill(self, idle: Sequence[Stream], source: PathSource, sampling: Sampling) -> None:
        """Let paths begin in streams that have room, evenly, those of a question together."""
        hungry = [stream for stream in idle if stream.is_hungry]
        while hungry and (request := self._next(source, sampling)):
            knowing = [stream for stream in hungry if stream.knows(request.question)]
            stream = min(knowing or hungry, key=lambda one: one.load)
            stream.begin(request)
            if stream.is_full:
                hungry.remove(stream)

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
        running = Running(len(requests), sampling.max_tokens)
        running.add(requests, [prompts.index(request.prompt) for request in requests])
        asked = running.questions()
        cache = DynamicCache(config=self._model.config)
        logits = own_step(self._model, np.array(prompts), cache)[running.lanes]
        with torch.inference_mode():
            cache.reorder_cache(torch.as_tensor(running.lanes, device=self._model.device))
        over: set[int] = set()
        while len(over) < len(requests):
            ended = running.choose(logits, sampling, endings)
            for row in ended.keys() - over:
                over.add(row)
                yield running.generation(row, ended[row])
            over |= running.of({one for one in asked if source.is_settled(one)})
            if len(over) < len(requests):
                logits = own_step(self._model, running.newest()[:, None], cache)
