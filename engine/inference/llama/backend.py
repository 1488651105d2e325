"""Sample from a GGUF file with llama.cpp, many paths in one batch.

The sequences of the context have KV buffers of their own, or all share one buffer, whichever was
measured to be faster (`engine.inference.llama.autotune`). There are three kinds of sequences:

    prefix ──copy──> prompts ──copy──> slots
    few-shot prefix  one question      one path

The prefix is evaluated once per run, the rest of a question's prompt once per question, and each
path begins with a copy of its prompt. A free slot is filled at once by the next path (Yu et al.
2022, Orca), or else by the last running path: llama.cpp decodes only adjacent sequences together.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.inference.backend import Generation
from engine.inference.llama.autotune import autotune
from engine.inference.llama.context import ContextFull, LlamaContext
from engine.inference.path_confidence import path_confidence
from engine.inference.prompt_lengths import SequenceLengths
from engine.inference.stopping import StopChecker
from engine.inference.token_sampler import sample_tokens, uniforms
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from engine.inference.backend import PathRequest, PathSource, Sampling
    from engine.inference.llama.context_config import ContextConfig
    from engine.inference.stopping import Ending
    from engine.prompting.messages import ChatMessage


def open_llama_cpp(
    gguf: Path,
    *,
    adapter: Path | None = None,
    threads: int | None = None,
    batch_size: int | None = None,
    context: int | None = None,
    lengths: SequenceLengths | None = None,
    config: ContextConfig | None = None,
) -> LlamaCpp:
    """Load a model for sampling.

    Args:
        gguf: the model.
        adapter: a LoRA adapter of it, as GGUF.
        threads: None for a default.
        batch_size: most paths at a time; None for a default by model size and free memory.
        context: tokens of the longest prompt and its path together, at most the model's own limit;
            None for that limit.
        lengths: of prompts and paths, in place of `context`. The fastest context config is then
            measured (which takes about two seconds, less for tiny models).
        config: the context config to use, so that it is not measured.

    Raises:
        BadInput: a file is missing, damaged, or of the wrong kind.
        WorkFailed: the model cannot be loaded, or the memory is too small.
    """
    capacity = lengths
    if capacity is None and context:
        capacity = SequenceLengths(context // 2, context - context // 2)
    opened = LlamaContext(gguf, adapter, threads=threads, batch_size=batch_size, lengths=capacity)
    try:
        rates: dict[str, float] = {}
        if config is not None:
            if opened.fits(config):
                opened.open(config)
        elif lengths is not None:
            rates = autotune(opened, batch_size=batch_size, threads=threads)
        return LlamaCpp(opened, rates)
    except BaseException:
        opened.close()
        raise


class LlamaCpp:
    """A loaded model; implements `engine.inference.backend.Backend`."""

    name = "llama.cpp"

    def __init__(self, context: LlamaContext, rates: Mapping[str, float] | None = None) -> None:
        """Args:
        context: an empty context; closed with this backend.
        rates: tokens per second of the configs that were tried.
        """
        self.version = context.version
        self.context_length = context.max_length
        self.batch_size = context.batch_size
        self.details: dict[str, object] = context.config.as_json()
        """The context config, and what was measured to choose it."""
        if rates:
            self.details["measured"] = {config: round(rate, 1) for config, rate in rates.items()}
        self._context = context
        self.vocabulary = context.vocabulary
        self._prefix: tuple[int, ...] = ()
        self._prompt_slots: dict[tuple[int, ...], int] = {}
        """Slot of each prompt that has one, oldest first."""
        self._next_prompt_slot = 0
        self._logits = np.zeros((context.prompt_slots, self.vocabulary.size), dtype=np.float32)
        """[prompt slots, vocabulary]: logits after each prompt."""

    def tokenize(self, text: str) -> list[int]:
        """Token ids of plain text, with the model's start token if it has one."""
        return self.vocabulary.plain(text)

    def tokenize_chat(
        self, messages: Sequence[ChatMessage], *, thinking: bool = False
    ) -> list[int]:
        """Token ids of a chat, with the opening of the assistant's next or unfinished message.

        Raises:
            BadInput: the model has no chat template, or it cannot be rendered.
        """
        return self.vocabulary.chat(messages, thinking=thinking)

    def logits(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """[vocabulary] float32 after these tokens.

        Raises:
            BadInput: there are none, or more than the context holds.
        """
        if not 0 < len(token_ids) <= self.context_length:
            raise BadInput(
                f"{len(token_ids)} tokens were given, but the context holds 1 to "
                f"{self.context_length}."
            )
        self._evaluate([tuple(token_ids)], 0)
        row: NDArray[np.float32] = self._logits[self._prompt_slots[tuple(token_ids)]].copy()
        return row

    def sample(self, source: PathSource, sampling: Sampling) -> Iterator[Generation]:
        """Yield paths as they finish, until the source has none left and none is running.

        Raises:
            BadInput: a prompt and its path do not fit the context.
            WorkFailed: llama.cpp failed.
        """
        yield from _SamplingRun(self, source, sampling).run()

    def close(self) -> None:
        """Free the memory of the model; calling it again has no effect."""
        self._context.close()

    # Prompts.

    def _copy_prompt(self, request: PathRequest, slot: int) -> None:
        prompt_slot = self._prompt_slots[request.prompt]
        self._context.copy(self._context.prompt_sequence(prompt_slot), slot)

    def _first_logits(self, requests: Sequence[PathRequest]) -> NDArray[np.float32]:
        slots = [self._prompt_slots[request.prompt] for request in requests]
        rows: NDArray[np.float32] = self._logits[slots]
        return rows

    def _evaluate(self, prompts: Sequence[tuple[int, ...]], shared: int) -> None:
        """Evaluate prompts into slots: at most as many as there are slots, with a common prefix."""
        context = self._context
        # The last token is always evaluated: its logits are needed for a path's first token.
        prefix = prompts[0][: min(shared, *(len(prompt) - 1 for prompt in prompts))]
        if prefix and prefix != self._prefix:
            self._prefix = ()
            context.clear(context.prefix_sequence)
            context.evaluate([(context.prefix_sequence, 0, prefix)])
            self._prefix = prefix
        # Adjacent sequences of increasing length decode together longest; slots are used as a ring,
        # so that the new prompts are adjacent.
        if self._next_prompt_slot + len(prompts) > context.prompt_slots:
            self._next_prompt_slot = 0
        slots = range(self._next_prompt_slot, self._next_prompt_slot + len(prompts))
        self._next_prompt_slot = slots.stop
        for prompt in [old for old, slot in self._prompt_slots.items() if slot in slots]:
            del self._prompt_slots[prompt]
        work = []
        for slot, prompt in zip(slots, sorted(prompts, key=len), strict=True):
            sequence = context.prompt_sequence(slot)
            context.clear(sequence)
            if prefix:
                context.copy(context.prefix_sequence, sequence)
            work.append((sequence, len(prefix), prompt[len(prefix) :]))
        self._logits[slots.start : slots.stop] = context.evaluate(work)
        self._prompt_slots |= zip(sorted(prompts, key=len), slots, strict=True)


class _SamplingRun:
    """One call of `sample`: running path i of `count` is in slot i."""

    def __init__(self, model: LlamaCpp, source: PathSource, sampling: Sampling) -> None:
        vocabulary = model.vocabulary
        self.model = model
        self.source = source
        self.sampling = sampling
        self.stop_checker = StopChecker(vocabulary.token_bytes, vocabulary.end_tokens, sampling)
        self.capacity = model.batch_size
        self.restarts: deque[PathRequest] = deque()
        """Paths that lost their slot and start again; they sample the same tokens."""
        self.requests: list[PathRequest] = []
        self.holes: list[int] = []
        """Slots below `count` whose path has ended."""
        self.tokens = np.zeros((model.batch_size, sampling.max_tokens), dtype=np.int32)
        self.logprobs = np.zeros(self.tokens.shape, dtype=np.float32)
        self.entropies = np.zeros(self.tokens.shape, dtype=np.float32)
        self.lengths = np.zeros(model.batch_size, dtype=np.int64)
        self.prompt_lengths = np.zeros(model.batch_size, dtype=np.int64)
        self.seeds = np.zeros(model.batch_size, dtype=np.uint64)

    @property
    def count(self) -> int:
        return len(self.requests)

    def run(self) -> Iterator[Generation]:
        while True:
            requests = self._next_requests()
            for group in self._by_prompt(requests):
                yield from self._start(group)
            self._close_holes()
            if self.count:
                yield from self._advance()
            elif not requests:
                return

    def _next_requests(self) -> list[PathRequest]:
        """A path for each free slot, as far as there are any."""
        requests: list[PathRequest] = []
        free = self.capacity - self.count + len(self.holes)
        while len(requests) < free:
            request = self.restarts.popleft() if self.restarts else self.source.next_path()
            if request is None:
                break
            self._check(request)
            requests.append(request)
        return requests

    def _check(self, request: PathRequest) -> None:
        length, limit = len(request.prompt), self.sampling.max_tokens
        if not length:
            raise BadInput(f"The prompt of question {request.question} is empty.")
        if length + limit > self.model.context_length:
            raise BadInput(
                f"The prompt of question {request.question} has {length} tokens and its path may "
                f"have {limit}, more than the {self.model.context_length} of the model's context: "
                "shorten the prompt or lower max_tokens."
            )

    def _by_prompt(self, requests: Sequence[PathRequest]) -> Iterator[list[PathRequest]]:
        """Groups of requests whose prompts are in slots; the next group may replace them."""
        ready: list[PathRequest] = []
        new: dict[tuple[int, ...], dict[tuple[int, ...], list[PathRequest]]] = {}
        for request in requests:
            if request.prompt in self.model._prompt_slots:
                ready.append(request)
            else:
                prompts = new.setdefault(request.prompt[: request.shared], {})
                prompts.setdefault(request.prompt, []).append(request)
        if ready:
            yield ready
        size = self.model._context.prompt_slots
        for prefix, prompts in new.items():
            for start in range(0, len(prompts), size):
                some = list(prompts)[start : start + size]
                self.model._evaluate(some, len(prefix))
                yield [request for prompt in some for request in prompts[prompt]]

    def _start(self, requests: Sequence[PathRequest]) -> Iterator[Generation]:
        """Sample first tokens, and give a slot to each path that goes on."""
        seeds = np.array([request.seed for request in requests], dtype=np.uint64)
        logits = self.model._first_logits(requests)
        sampled = sample_tokens(logits, self.sampling, uniforms(seeds, np.zeros(len(seeds))))
        ended = []
        for number, (request, token) in enumerate(zip(requests, sampled.ids.tolist(), strict=True)):
            logprob, entropy = sampled.logprobs[number], sampled.entropies[number]
            ending = self.stop_checker.check([token])
            if ending:
                ended.append(_generation(request, ending, [logprob], [entropy]))
                continue
            slot = self.holes.pop() if self.holes else self.count
            self.requests[slot : slot + 1] = [request]
            self.tokens[slot, 0] = token
            self.logprobs[slot, 0] = logprob
            self.entropies[slot, 0] = entropy
            self.lengths[slot] = 1
            self.prompt_lengths[slot] = len(request.prompt)
            self.seeds[slot] = request.seed
            self.model._copy_prompt(request, slot)
        yield from self._needed(ended)

    def _columns(self) -> tuple[NDArray[Any], ...]:
        """Everything that is known of the running paths, by slot."""
        return (
            self.tokens,
            self.logprobs,
            self.entropies,
            self.lengths,
            self.prompt_lengths,
            self.seeds,
        )

    def _close_holes(self) -> None:
        """Move the last paths into slots that are still free."""
        for hole in sorted(self.holes, reverse=True):
            last = self.count - 1
            if hole != last:
                self.model._context.copy(last, hole)
                for column in self._columns():
                    column[hole] = column[last]
                self.requests[hole] = self.requests[last]
            self.requests.pop()
        self.holes.clear()

    def _advance(self) -> Iterator[Generation]:
        """Sample the next token of every path."""
        rows = np.arange(self.count)
        lengths = self.lengths[: self.count]
        newest = self.tokens[rows, lengths - 1]
        positions = self.prompt_lengths[: self.count] + lengths - 1
        try:
            logits = self.model._context.step(newest, positions)
        except ContextFull:
            self._halve_capacity()
            return
        sampled = sample_tokens(logits, self.sampling, uniforms(self.seeds[: self.count], lengths))
        self.tokens[rows, lengths] = sampled.ids
        self.logprobs[rows, lengths] = sampled.logprobs
        self.entropies[rows, lengths] = sampled.entropies
        lengths += 1
        ended = []
        for row in self.stop_checker.candidates(sampled.ids, lengths).tolist():
            ending = self.stop_checker.check(self.tokens[row, : lengths[row]].tolist())
            if ending:
                numbers = self.logprobs[row], self.entropies[row]
                ended.append(_generation(self.requests[row], ending, *numbers))
                self.holes.append(row)
        if ended:
            yield from self._needed(ended)
            self._drop_settled()
        else:  # raises to pause or cancel
            self.source.is_settled(self.requests[0].question)

    def _needed(self, ended: Sequence[Generation]) -> Iterator[Generation]:
        for generation in ended:
            if not self.source.is_settled(generation.question):
                yield generation

    def _drop_settled(self) -> None:
        running = set(range(self.count)).difference(self.holes)
        questions = {self.requests[row].question for row in running}
        settled = {question for question in questions if self.source.is_settled(question)}
        if settled:
            self.holes += [row for row in running if self.requests[row].question in settled]

    def _halve_capacity(self) -> None:
        """Go on with half of the paths; the others start again when slots are free."""
        if self.count == 1:
            raise WorkFailed(
                "The context is too small for even one path: lower max_tokens."
            ) from None
        self.capacity = self.count // 2
        self.restarts.extend(self.requests[self.capacity :])
        for slot in range(self.capacity, self.count):
            self.model._context.clear(slot)
        del self.requests[self.capacity :]


def _generation(
    request: PathRequest, ending: Ending, logprobs: ArrayLike, entropies: ArrayLike
) -> Generation:
    """A path that has ended, with the confidence of the tokens that are kept of it."""
    kept = len(ending.token_ids)
    return Generation(
        request.question,
        request.index,
        ending.text,
        ending.token_ids,
        ending.reason,
        path_confidence(np.asarray(logprobs)[:kept], np.asarray(entropies)[:kept]),
    )
