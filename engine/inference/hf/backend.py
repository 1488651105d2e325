"""Sample from a Hugging Face folder: many paths of many questions in one running batch.

Shared prefixes are computed once (`engine.inference.hf.prefix_tree`), and a free slot takes the
next path while the others go on. Models whose attention does not allow this are sampled with their
own KV cache instead, and a warning is logged.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
import transformers
from transformers import DynamicCache

from engine.inference.batch_size import TRANSFORMERS, default_batch_size
from engine.inference.hf import products
from engine.inference.hf.loading import end_tokens, load_model, token_bytes
from engine.inference.hf.prefix_attention import NAME as SHARED_PREFIX
from engine.inference.hf.prefix_check import cached_step, enable_shared_prefix, supports_kv_cache
from engine.inference.hf.prefix_tree import PrefixTree
from engine.inference.hf.prompt_tokenizer import PromptTokenizer
from engine.inference.hf.rope_factors import ShortPaths, ropes, short_length
from engine.inference.hf.running_batch import RunningBatch, RunningPaths
from engine.inference.stopping import StopChecker
from engine.models.folder_tokenizer import load_tokenizer
from engine.models.identity import weights_of
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from pathlib import Path

    from engine.inference.backend import Generation, PathRequest, PathSource, Sampling
    from engine.inference.stopping import Ending
    from engine.prompting.messages import ChatMessage

_log = logging.getLogger(__name__)

MAX_RUNNING_BATCHES, MIN_PATHS = 2, 128
"""Running batches side by side on a CPU, and the paths that each must have slots for: with fewer,
reading the weights twice costs more than the cores gain."""
MIN_WIDTH = 64
"""Paths at a time that the limit on memory for keys and values always allows."""
FLOAT_PATHS, INT8_PATHS = 2**29, 3 * 2**27
"""Bytes of keys and values of paths on a processor by default, if half of the weights are not more.
Products in 8 bits are for quantized files, which are chosen for their size."""


def open_transformers(
    folder: Path,
    *,
    adapter: Path | None = None,
    threads: int | None = None,
    batch_size: int | None = None,
    int8: bool = False,
    longest_path: int | None = None,
) -> Transformers:
    """Load a model for sampling, on the GPU if there is one.

    Args:
        folder: a Hugging Face folder with safetensors and a tokenizer; nothing is downloaded and no
            code in it is run.
        adapter: a PEFT folder, merged into the weights in memory.
        threads: number of processor threads; None for torch's default.
        batch_size: most paths at a time; None for a default by model size. Reduced if the free
            memory requires it.
        int8: compute products in 8 bits on a processor, where it can.
        longest_path: in tokens; None if it is not known before `sample`.

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
    model = load_model(folder, adapter, device, int8=int8)
    weights = weights_of(folder)
    size = batch_size or default_batch_size(TRANSFORMERS, weights)
    memory = None
    if batch_size is None and device.type == "cpu":
        bytes_each = 1 if products.has_int8(model) else model.dtype.itemsize
        memory = max(weights * bytes_each // 2, INT8_PATHS if bytes_each == 1 else FLOAT_PATHS)
    return Transformers(model, tokenizer, size, memory, longest_path)


class Transformers:
    """A loaded Hugging Face model; implements `engine.inference.backend.Backend`."""

    name = "transformers"
    version = transformers.__version__

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        batch_size: int,
        path_memory: int | None = None,
        longest_path: int | None = None,
    ) -> None:
        """Args:
        model: a causal language model, on its device.
        tokenizer: of the model.
        batch_size: most paths at a time.
        path_memory: bytes that the keys and values of paths of half the longest length may take,
            if more than `MIN_WIDTH` are sampled at a time; None for no such limit.
        longest_path: see `open_transformers`.

        Raises:
            BadInput: the model does not support a KV cache.
        """
        self._model = model
        self.batch_size = batch_size
        self._path_memory = path_memory
        self._threads = torch.get_num_threads()
        config = model.config.get_text_config()
        self._config = config
        self.context_length = int(
            getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
        )
        self._tokenizer = PromptTokenizer(tokenizer)
        self._end_tokens = end_tokens(model, tokenizer)
        self._token_bytes = token_bytes(tokenizer, max(config.vocab_size, len(tokenizer)))
        self._own_attention = model.config._attn_implementation
        reason = enable_shared_prefix(model)
        self.shares_prefix = reason is None
        if reason:
            if not supports_kv_cache(model):
                raise BadInput(
                    f"{config.model_type} models cannot be sampled with transformers: "
                    "give the model as GGUF and set the engine to llama.cpp."
                )
            _log.warning(
                "Sampling is slow because paths cannot share the computation of their prompt: %s.",
                reason,
            )
        width = batch_size if longest_path is None else self._most_paths(longest_path)
        self.details: dict[str, object] = {
            "width": width,
            "dtype": str(model.dtype).removeprefix("torch."),
            "products": "int8" if products.has_int8(model) else "float",
            "shares_prefix": self.shares_prefix,
            "reason": reason,
            "threads": self._threads,
            "streams": self._batch_count(width) if self.shares_prefix else 1,
        }
        """`width` is the number of paths at a time, `streams` that of running batches; both are
        updated when `sample` has found what the free memory holds. `reason` is why prefixes are not
        shared, or None."""

    def tokenize(self, text: str) -> list[int]:
        """Token ids of plain text, with the model's own start token if its tokenizer adds one."""
        return self._tokenizer.tokenize(text)

    def tokenize_chat(
        self, messages: Sequence[ChatMessage], *, thinking: bool = False
    ) -> list[int]:
        """Token ids of a chat, with the opening of the assistant's next or unfinished message.

        Raises:
            BadInput: there is no chat template, or it rejects these messages.
        """
        return self._tokenizer.tokenize_chat(messages, thinking=thinking)

    def sample(self, source: PathSource, sampling: Sampling) -> Iterator[Generation]:
        """Yield paths as they finish.

        Raises:
            BadInput: a prompt and its path do not fit the model's context.
            WorkFailed: the logits are not finite.
        """
        stop_checker = StopChecker(self._token_bytes, self._end_tokens, sampling)
        limit = short_length(self._config)
        if not self.shares_prefix:
            yield from self._sample_unshared(source, sampling, stop_checker)
        elif limit is None:
            yield from self._sample_shared(source, sampling, stop_checker)
        else:
            short = ShortPaths(source, limit - sampling.max_tokens, self.batch_size)
            yield from self._sample_shared(short, sampling, stop_checker)
            while long := short.take_waiting():
                self._model.set_attn_implementation(self._own_attention)
                try:
                    yield from self._sample_unshared(long, sampling, stop_checker)
                finally:
                    self._model.set_attn_implementation(SHARED_PREFIX)
                yield from self._sample_shared(short, sampling, stop_checker)

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

    # With shared prefixes.

    def _sample_shared(
        self, source: PathSource, sampling: Sampling, stop_checker: StopChecker
    ) -> Iterator[Generation]:
        """Sample with prompts evaluated once, in running batches side by side."""
        first = self._next(source, sampling)
        if first is None:
            return
        batches = self._running_batches(first, sampling)
        batches[0].start(first)
        try:
            with ThreadPoolExecutor(len(batches), "running-batch") as pool:
                yield from self._run(batches, pool, source, sampling, stop_checker)
        finally:
            # New threads inherit what any thread has set last.
            torch.set_num_threads(self._threads)

    def _run(
        self,
        batches: Sequence[RunningBatch],
        pool: ThreadPoolExecutor,
        source: PathSource,
        sampling: Sampling,
        stop_checker: StopChecker,
    ) -> Iterator[Generation]:
        """Step all running batches at the same time, and serve them in a fixed order.

        With a fixed order the same paths meet in the same batches in every run, however long a step
        takes. Only this thread calls the source. It also steps a batch that is alone: OpenMP has
        threads for each thread that calls it, and wakes them slowly if they are more than the
        cores.
        """
        steps: dict[RunningBatch, Future[dict[int, Ending]]] = {}
        while True:
            self._fill(batches, steps, source, sampling)
            busy = [batch for batch in batches if batch.load]
            if not busy:
                return
            if len(busy) == 1 and not steps:
                batch = busy[0]
                ended = batch.step(sampling, stop_checker, self._threads)
            else:
                threads = max(1, self._threads // len(batches))
                for batch in busy:
                    if batch not in steps:
                        steps[batch] = pool.submit(batch.step, sampling, stop_checker, threads)
                batch = next(iter(steps))  # the one whose step was submitted first
                ended = steps.pop(batch).result()
            if ended:
                yield from batch.finish(ended)
            batch.drop_settled(source)  # raises to pause or cancel

    def _running_batches(self, first: PathRequest, sampling: Sampling) -> list[RunningBatch]:
        """Empty running batches whose trees have the prefix of the first prompt."""
        batch_size = self._fitting_batch_size(first, sampling)
        self.details["streams"] = count = self._batch_count(batch_size)
        tree = PrefixTree(self._model, batch_size // count)
        tree.set_prefix(first.prompt[: min(first.shared, len(first.prompt) - 1)])
        trees = [tree, *(tree.fork() for _ in range(count - 1))]
        return [RunningBatch(tree, batch_size // count, sampling.max_tokens) for tree in trees]

    def _batch_count(self, batch_size: int) -> int:
        """How many running batches step side by side."""
        is_dynamic = any(rope.get("rope_type") == "dynamic" for rope in ropes(self._config))
        if self._model.device.type != "cpu" or is_dynamic:
            return 1  # the longest path changes such a rope for all batches
        return max(1, min(MAX_RUNNING_BATCHES, self._threads, batch_size // MIN_PATHS))

    def _fill(
        self,
        batches: Sequence[RunningBatch],
        stepping: Container[RunningBatch],
        source: PathSource,
        sampling: Sampling,
    ) -> None:
        """Start paths in batches with free slots: evenly, those of a question together.

        A few paths, as at the end of a run, go to one batch: two would read the weights twice.
        """
        hungry = [batch for batch in batches if batch not in stepping and batch.wants_paths]
        while hungry:
            fullest = max(batches, key=lambda batch: batch.load)
            are_few = sum(batch.load for batch in batches) < MIN_PATHS
            if are_few and fullest not in hungry:
                return  # after its step
            request = self._next(source, sampling)
            if request is None:
                return
            batch = fullest
            if not are_few:
                with_prompt = [batch for batch in hungry if batch.has_prompt(request.question)]
                batch = min(with_prompt or hungry, key=lambda batch: batch.load)
            batch.start(request)
            if batch.is_full:
                hungry.remove(batch)

    def _fitting_batch_size(self, first: PathRequest, sampling: Sampling) -> int:
        """The batch size, reduced to the paths like the first that half of the memory holds."""
        config, model = self._config, self._model
        heads = getattr(config, "num_attention_heads", None) or 1
        own_tokens = sampling.max_tokens + len(first.prompt) - first.shared
        cached = self._cached_bytes() * own_tokens
        scores = 3 * 4 * heads * (len(first.prompt) + sampling.max_tokens)
        logits = 4 * 4 * config.vocab_size
        cuda = model.device.type == "cuda"
        free = torch.cuda.mem_get_info()[0] if cuda else psutil.virtual_memory().available
        allowed = self._most_paths(sampling.max_tokens)
        fitting = max(1, min(allowed, int(free / 2 / (cached + scores + logits))))
        if fitting < allowed:
            _log.info("The free memory holds %d paths at a time, not %d.", fitting, allowed)
        self.details["width"] = fitting
        return fitting

    def _most_paths(self, longest: int) -> int:
        """The batch size, reduced to the paths of `longest` tokens whose keys and values the limit
        allows."""
        if self._path_memory is None:
            return self.batch_size
        paths = self._path_memory // (self._cached_bytes() * max(1, longest // 2))
        return min(self.batch_size, max(MIN_WIDTH, paths))

    def _cached_bytes(self) -> int:
        """Bytes of the keys and values of a token."""
        config = self._config
        heads = getattr(config, "num_attention_heads", None) or 1
        key_heads = getattr(config, "num_key_value_heads", None) or heads
        head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
        size: int = 2 * config.num_hidden_layers * key_heads * head_size
        return size * self._model.dtype.itemsize

    # With the model's own KV cache.

    def _sample_unshared(
        self, source: PathSource, sampling: Sampling, stop_checker: StopChecker
    ) -> Iterator[Generation]:
        """Sample with the model's own cache, for any architecture.

        Only prompts of equal length are decoded together: without padding, no layer can misread it.
        """
        while True:
            first = self._next(source, sampling)
            if first is None:
                return
            requests = [first]
            batch_size = self._fitting_batch_size(replace(first, shared=0), sampling)
            while len(requests) < batch_size and (request := self._next(source, sampling)):
                requests.append(request)
            for length in sorted({len(request.prompt) for request in requests}):
                group = [
                    request
                    for request in requests
                    if len(request.prompt) == length and not source.is_settled(request.question)
                ]
                if group:
                    yield from self._decode_group(group, source, sampling, stop_checker)

    def _decode_group(
        self,
        requests: list[PathRequest],
        source: PathSource,
        sampling: Sampling,
        stop_checker: StopChecker,
    ) -> Iterator[Generation]:
        """Decode paths whose prompts have the same length.

        Paths that outgrow a model's short rope factors start again, all in the same step.
        """
        limit = short_length(self._config)
        prompts = list(dict.fromkeys(request.prompt for request in requests))
        running = RunningPaths(len(requests), sampling.max_tokens)
        running.add(requests, [prompts.index(request.prompt) for request in requests])
        questions = running.questions()
        cache = DynamicCache(config=self._model.config)
        logits = cached_step(self._model, np.array(prompts), cache)[running.lanes]
        with torch.inference_mode():
            cache.reorder_cache(torch.as_tensor(running.lanes, device=self._model.device))
        done: set[int] = set()
        while len(done) < len(requests):
            ended = running.sample(logits, sampling, stop_checker)
            for row in ended.keys() - done:
                done.add(row)
                yield running.generation(row, ended[row])
            settled = {question for question in questions if source.is_settled(question)}
            done |= running.rows_of(settled)
            if len(done) < len(requests):
                tokens = running.newest()[:, None]
                if limit is not None and cache.get_seq_length() == limit:
                    cache = DynamicCache(config=self._model.config)
                    tokens = running.whole(prompts)
                logits = cached_step(self._model, tokens, cache)
