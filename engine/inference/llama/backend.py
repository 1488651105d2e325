"""Sample from a GGUF file with llama.cpp, many paths in one batch.

Each sequence of llama.cpp has a stream of keys and values of its own here, or all share one buffer,
whichever a probe found faster (`engine.inference.llama.autotune`). Three kinds share the context:

    prefix ──copy──> trunks ──copy──> slots
    few-shot prompt  one question     one path

The prefix is evaluated once per run, the rest of a question's prompt once in a trunk, and each path
begins as a copy of its trunk. A freed slot is taken at once by the next path (Yu et al. 2022,
Orca), or else by the last one: llama.cpp decodes in one go only streams that are neighbours.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from engine.inference.backend import Generation
from engine.inference.llama.autotune import use_fastest
from engine.inference.llama.context import NoRoom, Streams, read_vocabulary
from engine.inference.prompt_lengths import Extent, extent_of
from engine.inference.stopping import Endings
from engine.inference.token_sampler import choose, uniforms
from store.enums import PromptStyle
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from engine.inference.backend import Message, PathRequest, PathSource, Sampling
    from engine.inference.llama.context import Way
    from engine.inference.stopping import Ending
    from engine.prompting.templates import Prompt


def open_llama_cpp(
    gguf: Path,
    *,
    adapter: Path | None = None,
    threads: int | None = None,
    batch: int | None = None,
    context: int | None = None,
    extent: Extent | None = None,
    way: Way | None = None,
) -> LlamaCpp:
    """Load a model for sampling.

    Args:
        gguf: the model.
        adapter: a LoRA adapter of it, as GGUF.
        threads: None chooses.
        batch: most paths at a time; None chooses by the model's size and the free memory.
        context: tokens that the longest prompt and its path need together; the model's own limit
            is not exceeded. None takes that limit.
        extent: how long prompts and paths are, in place of `context`. With it the way to compute
            is measured (a second or two, less for tiny models) and not taken from a table.
        way: the way that was measured before, so that it is not measured again.

    Raises:
        BadInput: a file is missing, damaged, or not what it should be.
        WorkFailed: the model cannot be loaded, or its memory does not fit.
    """
    given = extent or (Extent(context // 2, context - context // 2) if context else None)
    streams = Streams(gguf, adapter, threads=threads, slots=batch, extent=given)
    try:
        measured: dict[str, float] = {}
        if way is not None:
            if streams.fits(way):
                streams.open(way)
        elif extent is not None:
            measured = use_fastest(streams, batch=batch, threads=threads)
        return LlamaCpp(streams, measured)
    except BaseException:
        streams.close()
        raise


def measure_prompts(gguf: Path, prompts: Sequence[Sequence[Prompt]], path: int) -> Extent:
    """How long prompts are for a model; only its vocabulary is read, no weights.

    Args:
        gguf: the model.
        prompts: of each run and task.
        path: most tokens of a path.

    Raises:
        BadInput: the file is missing, damaged, or not what it should be.
    """
    with read_vocabulary(gguf) as words:

        def tokens(prompt: Prompt) -> int:
            if prompt.style is PromptStyle.CHAT:
                return len(words.chat(prompt.messages()))
            return len(words.plain(prompt.text))

        return extent_of(prompts, path, tokens)


class LlamaCpp:
    """A loaded model; implements `engine.inference.backend.Backend`."""

    name = "llama.cpp"

    def __init__(self, streams: Streams, measured: Mapping[str, float] | None = None) -> None:
        """Args:
        streams: an empty context; closed with this model.
        measured: tokens per second of the ways that were tried.
        """
        self.version = streams.version
        self.context_length = streams.length
        self.batch = streams.slots
        self.details: dict[str, object] = streams.way.as_json()
        """How it computes, and what was measured to choose that."""
        if measured:
            self.details["measured"] = {way: round(rate, 1) for way, rate in measured.items()}
        self._streams = streams
        self.vocabulary = streams.vocabulary
        self._prefix: tuple[int, ...] = ()
        self._trunks: dict[tuple[int, ...], int] = {}
        """Trunk of each prompt that has one, oldest first."""
        self._next_trunk = 0
        self._logits = np.zeros((streams.trunks, self.vocabulary.size), dtype=np.float32)
        """[trunks, vocabulary]: what follows each trunk's prompt."""

    def tokenize(self, text: str) -> list[int]:
        """Token ids of plain text, with the model's own start token if it has one."""
        return self.vocabulary.plain(text)

    def tokenize_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a chat up to where the assistant is to speak.

        Raises:
            BadInput: the model has no chat template, or it cannot be filled.
        """
        return self.vocabulary.chat(messages)

    def logits(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """[vocabulary] float32 after these tokens.

        Raises:
            BadInput: there are none, or more than the context holds.
        """
        if not 0 < len(token_ids) <= self.context_length:
            raise BadInput(
                f"{len(token_ids)} tokens were given where 1 to {self.context_length} fit."
            )
        self._evaluate([tuple(token_ids)], 0)
        row: NDArray[np.float32] = self._logits[self._trunks[tuple(token_ids)]].copy()
        return row

    def sample(self, source: PathSource, sampling: Sampling) -> Iterator[Generation]:
        """Yield paths as they finish, until the source has none left and none is running.

        Raises:
            BadInput: a prompt and its path do not fit the context.
            WorkFailed: llama.cpp failed.
        """
        yield from _Paths(self, source, sampling).run()

    def close(self) -> None:
        """Free the memory of the model; more than once does no harm."""
        self._streams.close()

    # Prompts.

    def _branch(self, request: PathRequest, slot: int) -> None:
        self._streams.copy(self._streams.trunk(self._trunks[request.prompt]), slot)

    def _first_logits(self, requests: Sequence[PathRequest]) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = self._logits[[self._trunks[one.prompt] for one in requests]]
        return rows

    def _evaluate(self, prompts: Sequence[tuple[int, ...]], shared: int) -> None:
        """Give trunks to prompts, at most as many as there are trunks, with one common prefix."""
        streams = self._streams
        # The last token is always evaluated: its logits are what a path begins with.
        prefix = prompts[0][: min(shared, *(len(prompt) - 1 for prompt in prompts))]
        if prefix and prefix != self._prefix:
            self._prefix = ()
            streams.clear(streams.prefix)
            streams.evaluate([(streams.prefix, 0, prefix)])
            self._prefix = prefix
        # Neighbours of rising length decode together longest; a ring keeps the new ones neighbours.
        if self._next_trunk + len(prompts) > streams.trunks:
            self._next_trunk = 0
        numbers = range(self._next_trunk, self._next_trunk + len(prompts))
        self._next_trunk = numbers.stop
        for prompt in [known for known, trunk in self._trunks.items() if trunk in numbers]:
            del self._trunks[prompt]
        work = []
        for number, prompt in zip(numbers, sorted(prompts, key=len), strict=True):
            stream = streams.trunk(number)
            streams.clear(stream)
            if prefix:
                streams.copy(streams.prefix, stream)
            work.append((stream, len(prefix), prompt[len(prefix) :]))
        self._logits[numbers.start : numbers.stop] = streams.evaluate(work)
        self._trunks |= zip(sorted(prompts, key=len), numbers, strict=True)


class _Paths:
    """The paths of one call of `sample`: path i of `count` is in slot i."""

    def __init__(self, model: LlamaCpp, source: PathSource, sampling: Sampling) -> None:
        words = model.vocabulary
        self.model = model
        self.source = source
        self.sampling = sampling
        self.endings = Endings(words.pieces, words.ends, sampling)
        self.room = model.batch
        self.again: deque[PathRequest] = deque()
        """Paths that lost their slot and begin anew; they draw the same tokens again."""
        self.requests: list[PathRequest] = []
        self.holes: list[int] = []
        """Slots below `count` whose path has ended."""
        self.tokens = np.zeros((model.batch, sampling.max_tokens), dtype=np.int32)
        self.lengths = np.zeros(model.batch, dtype=np.int64)
        self.prompts = np.zeros(model.batch, dtype=np.int64)
        self.seeds = np.zeros(model.batch, dtype=np.uint64)

    @property
    def count(self) -> int:
        return len(self.requests)

    def run(self) -> Iterator[Generation]:
        while True:
            asked = self._ask()
            for known in self._by_trunk(asked):
                yield from self._begin(known)
            self._close_holes()
            if self.count:
                yield from self._advance()
            elif not asked:
                return

    def _ask(self) -> list[PathRequest]:
        """As many paths as there are free slots."""
        asked: list[PathRequest] = []
        free = self.room - self.count + len(self.holes)
        while len(asked) < free:
            request = self.again.popleft() if self.again else self.source.next_path()
            if request is None:
                break
            self._check(request)
            asked.append(request)
        return asked

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

    def _by_trunk(self, asked: Sequence[PathRequest]) -> Iterator[list[PathRequest]]:
        """Groups of requests, each when its prompts are in trunks (the next may replace these)."""
        known: list[PathRequest] = []
        new: dict[tuple[int, ...], dict[tuple[int, ...], list[PathRequest]]] = {}
        for request in asked:
            if request.prompt in self.model._trunks:
                known.append(request)
            else:
                prompts = new.setdefault(request.prompt[: request.shared], {})
                prompts.setdefault(request.prompt, []).append(request)
        if known:
            yield known
        size = self.model._streams.trunks
        for prefix, prompts in new.items():
            for start in range(0, len(prompts), size):
                some = list(prompts)[start : start + size]
                self.model._evaluate(some, len(prefix))
                yield [request for prompt in some for request in prompts[prompt]]

    def _begin(self, requests: Sequence[PathRequest]) -> Iterator[Generation]:
        """Draw first tokens, and give a slot to each path that goes on."""
        seeds = np.array([request.seed for request in requests], dtype=np.uint64)
        logits = self.model._first_logits(requests)
        drawn = choose(logits, self.sampling, uniforms(seeds, np.zeros(len(seeds))))
        ended = []
        for request, token in zip(requests, drawn.tolist(), strict=True):
            ending = self.endings.ending([token])
            if ending:
                ended.append((request, ending))
                continue
            slot = self.holes.pop() if self.holes else self.count
            self.requests[slot : slot + 1] = [request]
            self.tokens[slot, 0] = token
            self.lengths[slot] = 1
            self.prompts[slot] = len(request.prompt)
            self.seeds[slot] = request.seed
            self.model._branch(request, slot)
        yield from self._give(ended)

    def _close_holes(self) -> None:
        """Move the last paths into the slots that nobody took, and drop what was settled."""
        for hole in sorted(self.holes, reverse=True):
            last = self.count - 1
            if hole != last:
                self.model._streams.copy(last, hole)
                for state in (self.tokens, self.lengths, self.prompts, self.seeds):
                    state[hole] = state[last]
                self.requests[hole] = self.requests[last]
            self.requests.pop()
        self.holes.clear()

    def _advance(self) -> Iterator[Generation]:
        """One more token for every path."""
        rows = np.arange(self.count)
        lengths = self.lengths[: self.count]
        newest = self.tokens[rows, lengths - 1]
        try:
            logits = self.model._streams.step(newest, self.prompts[: self.count] + lengths - 1)
        except NoRoom:
            self._make_room()
            return
        chosen = choose(logits, self.sampling, uniforms(self.seeds[: self.count], lengths))
        self.tokens[rows, lengths] = chosen
        lengths += 1
        ended = []
        for row in self.endings.suspects(chosen, lengths).tolist():
            ending = self.endings.ending(self.tokens[row, : lengths[row]].tolist())
            if ending:
                ended.append((self.requests[row], ending))
                self.holes.append(row)
        if ended:
            yield from self._give(ended)
            self._drop_settled()
        else:  # a wish to end is heard here
            self.source.is_settled(self.requests[0].question)

    def _give(self, ended: Sequence[tuple[PathRequest, Ending]]) -> Iterator[Generation]:
        for request, ending in ended:
            if not self.source.is_settled(request.question):
                yield Generation(
                    request.question, request.index, ending.text, ending.token_ids, ending.reason
                )

    def _drop_settled(self) -> None:
        running = set(range(self.count)).difference(self.holes)
        questions = {self.requests[row].question for row in running}
        settled = {question for question in questions if self.source.is_settled(question)}
        if settled:
            self.holes += [row for row in running if self.requests[row].question in settled]

    def _make_room(self) -> None:
        """Go on with half of the paths; the others begin again when there are slots."""
        if self.count == 1:
            raise WorkFailed(
                "There is no room for even one path in the context: lower max_tokens."
            ) from None
        self.room = self.count // 2
        self.again.extend(self.requests[self.room :])
        for slot in range(self.room, self.count):
            self.model._streams.clear(slot)
        del self.requests[self.room :]
