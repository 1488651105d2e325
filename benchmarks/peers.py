"""The usual ways to sample, and the limit of llama.cpp itself.

Each arm is opened with a `Load` and has a function that samples paths of questions. Every peer
samples with temperature and nothing else.
"""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine.inference.llama import kernel_check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.shapes import Load

THREADS = 2


class SampledPath(NamedTuple):
    """A path: its question's number, its length in tokens, and its text."""

    question: int
    tokens: int
    text: str


class SampleOrder(NamedTuple):
    """What to sample."""

    questions: Sequence[int]
    paths: int
    """Of each question."""
    seed: int
    length: int
    """Tokens of a path, for the arm that only evaluates."""


@dataclass(frozen=True, slots=True)
class Arm:
    """An opened model."""

    settings: str
    """The settings as text."""
    sample: Callable[[SampleOrder], Iterator[SampledPath]]


# llama-cpp-python: one path after another.


def completions(load: Load, *, reset: bool = False, min_p: float = 0.0, exact: bool = False) -> Arm:
    """`Llama.create_completion` in a loop, with the fastest thread count and attention.

    Args:
        load: the model.
        reset: evaluate the prompt again for each path, as separate calls would.
        min_p: a different distribution, which the test of agreement must detect.
        exact: keys and values in 32 bits.
    """
    from llama_cpp import GGML_TYPE_F32, Llama
    from llama_cpp import llama_cpp as low_level

    # Avoid kernels that this processor cannot run.
    vars(low_level)["llama_model_default_params"] = kernel_check.model_params
    kind = GGML_TYPE_F32 if exact else None

    def opened(threads: int, flash: bool) -> Any:
        return Llama(
            load.gguf,
            n_ctx=load.context + 8,
            n_threads=threads,
            n_threads_batch=threads,
            flash_attn=flash,
            type_k=kind,
            type_v=kind,
            verbose=False,
        )

    def path(model: Any, prompt: Sequence[int], seed: int, tokens: int) -> Any:
        if reset:
            model.reset()
        return model.create_completion(
            list(prompt),
            max_tokens=tokens,
            temperature=load.temperature,
            top_k=0,
            top_p=1.0,
            min_p=min_p,
            repeat_penalty=1.0,
            stop=list(load.stop),
            seed=seed % 2**31,
        )

    def count(model: Any) -> int:
        tokens: int = path(model, load.prompt(0), 1, 48)["usage"]["completion_tokens"]
        return tokens

    speeds: dict[tuple[int, bool], float] = {}
    for threads in range(1, THREADS + 1):
        for flash in (False, True):
            model = opened(threads, flash)
            path(model, load.prompt(0), 0, 2)
            speeds[threads, flash] = _rate(partial(count, model))
            model.close()
    threads, flash = max(speeds, key=speeds.__getitem__)
    model = opened(threads, flash)

    def sample(order: SampleOrder) -> Iterator[SampledPath]:
        for question in order.questions:
            for index in range(order.paths):
                seed = order.seed + 1009 * question + index
                completion = path(model, load.prompt(question), seed, load.max_tokens)
                text = completion["choices"][0]["text"]
                yield SampledPath(question, completion["usage"]["completion_tokens"], text)

    return Arm(f"{threads} thread{'s' * (threads > 1)}, flash {'on' if flash else 'off'}", sample)


# transformers: the prompt once for each path, all padded to the longest.


def generate(load: Load, *, together: bool = True, dtype: str = "", shared: bool = False) -> Arm:
    """`generate(num_return_sequences=m)`.

    Args:
        load: the model.
        together: all paths of a question in one call; otherwise one call for each path.
        dtype: of torch; by default the faster of bfloat16 and float32.
        shared: evaluate the prompt once and give each path a copy of the cache.
    """
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
    tokenizer: Any = AutoTokenizer.from_pretrained(load.folder, local_files_only=True)
    end = tokenizer.eos_token_id

    def opened(kind: str) -> Any:
        return AutoModelForCausalLM.from_pretrained(
            load.folder, dtype=getattr(torch, kind), local_files_only=True
        ).eval()

    @torch.inference_mode()
    def paths(model: Any, prompt: Sequence[int], count: int, tokens: int) -> list[list[int]]:
        ids = torch.tensor([prompt])
        settings: dict[str, Any] = {"num_return_sequences": count}
        if shared:
            cache = DynamicCache(config=model.config)
            model(ids[:, :-1], past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache.batch_repeat_interleave(count)
            ids, settings = ids.repeat(count, 1), {"past_key_values": cache}
        rows = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=load.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=tokens,
            eos_token_id=end,
            pad_token_id=end,
            **settings,
        )
        sampled = rows[:, len(prompt) :].tolist()
        return [row[: row.index(end) + 1] if end in row else row for row in sampled]

    def count(model: Any) -> int:
        return sum(map(len, paths(model, load.prompt(0), 4, 16)))

    speeds = {}
    for kind in [dtype] if dtype else ["bfloat16", "float32"]:
        model = opened(kind)
        paths(model, load.prompt(0), 1, 2)
        speeds[kind] = _rate(partial(count, model))
    best = max(speeds, key=speeds.__getitem__)
    model = opened(best)

    def sample(order: SampleOrder) -> Iterator[SampledPath]:
        torch.manual_seed(order.seed)
        for question in order.questions:
            prompt = load.prompt(question)
            for count in [order.paths] if together else [1] * order.paths:
                for row in paths(model, prompt, count, load.max_tokens):
                    text = tokenizer.decode(row, skip_special_tokens=True)
                    for stop in load.stop:
                        text = text.partition(stop)[0]
                    yield SampledPath(question, len(row), text)

    return Arm(best, sample)


# llama.cpp itself.


_callbacks: list[Any] = []
"""Kept alive as long as llama.cpp may call them."""


def _silence() -> None:
    import llama_cpp as native

    if not _callbacks:
        _callbacks.append(native.llama_log_callback(lambda *_: None))
    native.llama_log_set(_callbacks[0], ctypes.c_void_p(0))


class Bare:
    """A llama.cpp context for `batch_size` sequences, each a copy of its question's prompt."""

    def __init__(
        self,
        load: Load,
        batch_size: int,
        *,
        unified: bool,
        flash: bool,
        threads: int,
        exact: bool = False,
    ) -> None:
        import llama_cpp as native

        _silence()
        self._native, self._load, self.batch_size = native, load, batch_size
        self._model = native.llama_model_load_from_file(
            os.fsencode(load.gguf), kernel_check.model_params()
        )
        settings = native.llama_context_default_params()
        cells = -(-load.context // 256) * 256
        settings.n_seq_max = batch_size + 2
        settings.n_ctx = cells * (2 + batch_size)
        if unified:
            rest = load.context - len(load.prefix)  # of a question or a path, at most
            settings.n_ctx = len(load.prefix) + (batch_size + 2) * rest + 256
        settings.n_batch, settings.n_ubatch = 2048, 512
        settings.n_outputs_max = batch_size + 2
        settings.n_threads = settings.n_threads_batch = threads
        settings.kv_unified = unified
        if exact:
            settings.type_k = settings.type_v = native.GGML_TYPE_F32
        settings.flash_attn_type = (
            native.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else native.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        self.context = native.llama_init_from_model(self._model, settings)
        self._memory = native.llama_get_memory(self.context)
        self._batch = native.llama_batch_init(2048, 0, 1)
        self.prefix, self.shared_prompt = batch_size, batch_size + 1
        self._evaluate(self.prefix, 0, load.prefix)
        self.settings = (
            f"{'unified' if unified else 'streams'}, batch size {batch_size}, flash "
            f"{'on' if flash else 'off'}, {threads} thread{'s' * (threads > 1)}"
        )

    def branch(self, question: int, rows: range, *, shared: bool = True) -> None:
        """Set these sequences to a question's prompt: evaluated once and copied, or for each."""
        native, load = self._native, self._load
        prompt = load.prompt(question)
        start = len(load.prefix) if shared else 0
        for number in [self.shared_prompt] if shared else rows:
            native.llama_memory_seq_rm(self._memory, number, -1, -1)
            if shared:
                native.llama_memory_seq_cp(self._memory, self.prefix, number, -1, -1)
            self._evaluate(number, start, prompt[start:])
        if shared:
            for row in rows:
                native.llama_memory_seq_rm(self._memory, row, -1, -1)
                native.llama_memory_seq_cp(self._memory, self.shared_prompt, row, -1, -1)

    def grow(self, rows: range, start: int, stop: int) -> None:
        """Append tokens to these sequences, at the positions from `start` to `stop`."""
        for row in rows:
            self._evaluate(row, start, [5] * (stop - start))

    def fill(self, lengths: Sequence[int]) -> None:
        """Set up the batch of one step: a token for each sequence, with logits."""
        count = len(lengths)
        fields, shape = self._batch, (count,)
        self._batch.n_tokens = count
        self.tokens = np.ctypeslib.as_array(fields.token, shape=shape)
        self.positions = np.ctypeslib.as_array(fields.pos, shape=shape)
        np.ctypeslib.as_array(fields.logits, shape=shape)[:] = 1
        self.tokens[:] = np.arange(count) + 5
        self.positions[:] = lengths
        for row in range(count):
            fields.n_seq_id[row], fields.seq_id[row][0] = 1, row

    def step(self) -> None:
        """Evaluate the batch."""
        code = self._native.llama_decode(self.context, self._batch)
        if code:
            raise RuntimeError(f"llama_decode returned {code}")

    def close(self) -> None:
        """Free the model."""
        self._native.llama_batch_free(self._batch)
        self._native.llama_free(self.context)
        self._native.llama_model_free(self._model)

    def _evaluate(self, number: int, position: int, tokens: Sequence[int]) -> None:
        for start in range(0, len(tokens), 2048):
            part = tokens[start : start + 2048]
            self._batch.n_tokens = len(part)
            for at, token in enumerate(part):
                self._batch.token[at] = token
                self._batch.pos[at] = position + start + at
                self._batch.n_seq_id[at], self._batch.seq_id[at][0] = 1, number
                self._batch.logits[at] = start + at == len(tokens) - 1
            self.step()


def bare(load: Load, *, exact: bool = False, large: bool = False) -> Arm:
    """Only `llama_decode` of the same batches, at its best batch size and layout.

    The token ids are constant: nothing is sampled, and no logits are read.

    Args:
        load: the model.
        exact: keys and values in 32 bits, as our engine keeps them for a model in 32 bits. Flash
            attention is not tried, because it rounds to 16 bits.
        large: a model that is large enough to keep all threads busy; its slow search is shorter.
    """
    best, speed = None, 0.0
    tiny = load.ends and not large
    for batch_size in (32, 64, 128) if tiny else (32, 64):
        for unified in (False, True):
            for flash in (False,) if exact else (False, True):
                for threads in (1, THREADS) if tiny else (THREADS,):
                    candidate = Bare(
                        load, batch_size, unified=unified, flash=flash, threads=threads, exact=exact
                    )
                    candidate.branch(0, range(batch_size))
                    # Measure in the middle of the paths: a unified cache is fastest while they are
                    # short, and slows down with every token. The first step copies the prompts.
                    middle = len(load.prompt(0)) + load.max_tokens // 2
                    candidate.grow(range(batch_size), len(load.prompt(0)), middle)
                    candidate.fill([middle] * batch_size)
                    _steps(candidate, 2)
                    rate = max(
                        _rate(partial(_steps, candidate, 4)) for _ in range(1 if large else 3)
                    )
                    if rate > speed:
                        if best:
                            best.close()
                        best, speed = candidate, rate
                    else:
                        candidate.close()
    assert best is not None
    return Arm(best.settings, lambda order: _bare_paths(best, load, order))


def _steps(context: Bare, count: int) -> int:
    for _ in range(count):
        context.step()
        context.positions += 1
    return count * context.batch_size


def _bare_paths(context: Bare, load: Load, order: SampleOrder) -> Iterator[SampledPath]:
    pending = [question for question in order.questions for _ in range(order.paths)]
    for start in range(0, len(pending), context.batch_size):
        wave = pending[start : start + context.batch_size]
        for question in dict.fromkeys(wave):
            first = wave.index(question)
            context.branch(question, range(first, first + wave.count(question)))
        context.fill([len(load.prompt(question)) for question in wave])
        # The prompt's logits give the first token of a path, so its last token is not evaluated.
        for _ in range(order.length - 1):
            context.step()
            context.positions += 1
        for question in wave:
            yield SampledPath(question, order.length, "")


def batched(load: Load, *, shared: bool) -> Arm:
    """A batch of 32 with llama.cpp's own sampler: the straightforward implementation.

    Args:
        load: the model.
        shared: evaluate the prompt once; otherwise once for each path.
    """
    import llama_cpp as native

    context = Bare(load, 32, unified=False, flash=False, threads=1 if load.ends else THREADS)
    vocabulary = native.llama_model_get_vocab(context._model)

    def sample(order: SampleOrder) -> Iterator[SampledPath]:
        chain = native.llama_sampler_chain_init(native.llama_sampler_chain_default_params())
        native.llama_sampler_chain_add(chain, native.llama_sampler_init_temp(load.temperature))
        native.llama_sampler_chain_add(chain, native.llama_sampler_init_dist(order.seed % 2**31))
        for question in order.questions:
            rows = range(order.paths)
            context.branch(question, rows, shared=shared)
            newest = (
                [5] * order.paths
            )  # in place of the first token, which is sampled from the prompt's logits
            lengths = [1] * order.paths
            running = list(rows)
            context.fill([len(load.prompt(question))] * order.paths)
            while running:
                context.step()
                context.positions += 1
                for row in running:
                    newest[row] = native.llama_sampler_sample(chain, context.context, row)
                context.tokens[:] = newest
                for row in list(running):
                    lengths[row] += 1
                    ended = native.llama_vocab_is_eog(vocabulary, newest[row])
                    if ended or lengths[row] == load.max_tokens:
                        running.remove(row)
            for row in rows:
                yield SampledPath(question, lengths[row], "")
        native.llama_sampler_free(chain)

    return Arm("batch size 32, streams", sample)


def _rate(work: Callable[[], int]) -> float:
    """Tokens per second of one call."""
    start = time.perf_counter()
    return work() / (time.perf_counter() - start)
