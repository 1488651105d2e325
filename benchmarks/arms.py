"""The arms of `benchmarks.sampling`, ours and the peers, each in its own process.

    python -m benchmarks.arms ARM LOAD.json

The process opens its model, replies with one line of JSON, and then samples what each line on its
standard input orders. So models are loaded before anything is timed, and peak memory is per arm.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers import (
    THREADS,
    Arm,
    SampledPath,
    SampleOrder,
    bare,
    batched,
    completions,
    generate,
)
from benchmarks.shapes import load_of
from engine.answers import extraction
from engine.inference.backend import PathRequest, Sampling, path_seed
from engine.inference.engine_selection import PastMeasurements, SelectedBackend, open_fastest
from engine.inference.prompt_lengths import SequenceLengths
from engine.inference.token_sampler import SampledTokens
from engine.models.identity import base_model
from engine.project.folder import create_project
from engine.project.settings import ModelSettings, Settings
from engine.sampling.scheduler import prefix_of
from engine.voting import majority
from store.enums import AnswerType, Decision, EarlyStop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from benchmarks.shapes import Load
    from engine.inference.backend import Backend, Generation

M, THRESHOLD, CAP = 32, "0.3", 8
"""The settings of the demo."""


class Paths:
    """A source of the paths of an order, question by question."""

    def __init__(self, load: Load, order: SampleOrder) -> None:
        self.waiting = deque(
            (question, index) for question in order.questions for index in range(order.paths)
        )
        self._load, self._seed = load, order.seed

    def next_path(self) -> PathRequest | None:
        """The next path; None after the last."""
        if not self.waiting:
            return None
        question, index = self.waiting.popleft()
        key, prompt = str(question), self._load.prompt(question)
        seed = path_seed(self._seed, key, index)
        return PathRequest(key, index, prompt, len(self._load.prefix), seed)

    def is_settled(self, question: str) -> bool:
        """Never: every path is sampled."""
        return False

    def take(self, path: Generation) -> None:
        """The paths have no influence."""


class Voted(Paths):
    """A source of the paths that votes need, as in the sampling stage."""

    def __init__(self, load: Load, order: SampleOrder) -> None:
        super().__init__(load, order._replace(paths=0))
        self._answers: dict[str, dict[int, str | None]] = {}
        self._requested: dict[str, int] = {}
        self._pending = deque(order.questions)

    def next_path(self) -> PathRequest | None:
        """The next path that a vote needs."""
        while self.waiting or self._pending:
            if not self.waiting:
                key = str(self._pending.popleft())
                self._answers[key] = {}
                self._request(key)
            elif self.is_settled(str(self.waiting[0][0])):
                self.waiting.popleft()
            else:
                return super().next_path()
        return None

    def is_settled(self, question: str) -> bool:
        """Whether the vote of this question is decided."""
        return question not in self._answers

    def take(self, path: Generation) -> None:
        """Count a path, which may decide the vote, and request the paths that it needs by now."""
        if not self.is_settled(path.question):
            read = extraction.extract(AnswerType.NUMBER, path.text, end=path.end)
            self._answers[path.question][path.index] = read.answer
            self._request(path.question)

    def _request(self, key: str) -> None:
        answers = self._answers[key]
        vote = majority.count_vote(
            prefix_of(answers, M),
            run_id=0,
            question_id=0,
            m=M,
            rule=EarlyStop.EXACT,
            threshold=THRESHOLD,
            cap=CAP,
            epsilon=0.0,
            reader="",
        )
        if vote.decision is not Decision.OPEN:
            del self._answers[key]
            return
        requested = self._requested.get(key, 0)
        self._requested[key] = majority.paths_needed(
            answers,
            requested,
            m=M,
            rule=EarlyStop.EXACT,
            threshold=THRESHOLD,
            cap=CAP,
        )
        wave = range(requested, self._requested[key])
        self.waiting.extendleft((int(key), index) for index in reversed(wave))


def ours(
    backend: Backend,
    load: Load,
    source: type[Paths] = Paths,
    *,
    answer_type: AnswerType | None = None,
) -> Arm:
    """One of lmsi-tui's engines; with an answer type, paths end after their answer."""
    sampling = Sampling(load.temperature, load.max_tokens, stop=load.stop, answer_type=answer_type)

    def sample(order: SampleOrder) -> Iterator[SampledPath]:
        paths = source(load, order)
        for path in backend.sample(paths, sampling):
            paths.take(path)
            yield SampledPath(int(path.question), len(path.token_ids), path.text)

    batch_size = getattr(backend, "batch_size", "?")
    details = getattr(backend, "details", {"batch size": batch_size})
    settings = ", ".join(f"{name} {value}" for name, value in details.items() if _is_short(value))
    return Arm(f"{backend.name}: {settings}", sample)


def _is_short(value: object) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) < 12)


def ours_llama(load: Load, batch_size: int | None = None, source: type[Paths] = Paths) -> Arm:
    """lmsi-tui's llama.cpp engine."""
    from engine.inference.llama.backend import open_llama_cpp

    backend = open_llama_cpp(Path(load.gguf), batch_size=batch_size, lengths=_lengths(load))
    return ours(backend, load, source)


def ours_transformers(
    load: Load,
    batch_size: int | None = None,
    source: type[Paths] = Paths,
    *,
    torch_sampler: bool = False,
    running_batches: int | None = None,
) -> Arm:
    """lmsi-tui's transformers engine, with shared prompts.

    Args:
        load: the model.
        batch_size: paths at a time; by default the engine decides.
        source: of the paths.
        torch_sampler: sample by softmax and multinomial over the vocabulary instead of our sampler.
        running_batches: maximum number side by side; by default the engine decides.
    """
    from engine.inference.hf import backend, running_batch

    if torch_sampler:
        vars(running_batch)["sample_tokens"] = _multinomial
    if running_batches:
        vars(backend)["MAX_RUNNING_BATCHES"] = running_batches
    model = backend.open_transformers(Path(load.folder), threads=THREADS, batch_size=batch_size)
    return ours(model, load, source)


def _multinomial(
    logits: Tensor, sampling: Sampling, uniforms: NDArray[np.float64]
) -> SampledTokens:
    import numpy as np
    import torch

    del uniforms
    probabilities = torch.softmax(logits.float() / sampling.temperature, dim=-1)
    tokens = torch.multinomial(probabilities, 1)[:, 0].numpy()
    zeros = np.zeros(len(tokens), dtype=np.float32)
    return SampledTokens(tokens, zeros, zeros)


def chosen(load: Load) -> Arm:
    """The engine that lmsi-tui selects for a model that is available in both formats."""
    folder = Path(tempfile.mkdtemp(prefix="lmsi-chosen-"))
    settings = ModelSettings(teacher="it/base")
    project = create_project(folder / "p", replace(Settings(), model=settings))
    model = base_model(project, "it/base", Path(load.folder), Path(load.gguf))
    return ours(open_fastest(project, model, settings, _lengths(load)).backend, load)


@dataclass(frozen=True, slots=True)
class BenchmarkCopy:
    """The copy that `engine.inference.engine_selection` may sample; made whenever it is missing."""

    gguf: Path
    folder: Path

    def why_not(self, rate: float | None) -> str | None:
        """Nothing speaks against it."""

    def make(self) -> None:
        """Convert the file."""
        from engine.conversion.gguf_to_hf import convert_to_hf

        convert_to_hf(self.gguf, self.folder)


def chosen_from_gguf(load: Load, source: type[Paths] = Paths) -> Arm:
    """The engine that lmsi-tui selects for a GGUF file alone, with its converted copy. Paths end
    after their answer, as in jobs of instruct models.

    The copy is made and the probe is run in another process: from the second load on, a job knows
    the result.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as other:
        past = other.submit(_probe_file, load).result()
    backend = _open_file(load, past).backend
    arm = ours(backend, load, source, answer_type=AnswerType.NUMBER)
    rates = ", ".join(f"{engine} {rate:,.0f}" for engine, rate in past.rates.items())
    return replace(arm, settings=f"{arm.settings} (probe: {rates} tokens/s)")


def _probe_file(load: Load) -> PastMeasurements:
    selected = _open_file(load, None)
    selected.backend.close()
    config = selected.details if selected.backend.name == "llama.cpp" else None
    return PastMeasurements(selected.details.get("engines", {}), config)


def _open_file(load: Load, past: PastMeasurements | None) -> SelectedBackend:
    settings = ModelSettings(teacher="it/base", threads=THREADS)
    with tempfile.TemporaryDirectory(prefix="lmsi-chosen-") as scratch:
        project = create_project(Path(scratch) / "p", replace(Settings(), model=settings))
        model = base_model(project, "it/base", Path(load.gguf))
        copy = BenchmarkCopy(Path(load.gguf), Path(load.folder))
        return open_fastest(project, model, settings, _lengths(load), past, copy)


def _lengths(load: Load) -> SequenceLengths:
    longest = max(map(len, load.questions))
    return SequenceLengths(len(load.prefix) + longest, load.max_tokens, len(load.prefix))


ARMS: dict[str, Callable[[Load], Arm]] = {
    "create_completion": completions,
    "generate": generate,
    "bare llama_decode": bare,
    "bare in float32": partial(bare, exact=True),
    "bare, large": partial(bare, large=True),
    "ours, llama.cpp": ours_llama,
    "ours, transformers": ours_transformers,
    "chosen": chosen,
    "chosen from a GGUF, exact": partial(chosen_from_gguf, source=Voted),
    # Steps of the ladders.
    "each prompt anew": partial(completions, reset=True),
    "a batch of 32": partial(batched, shared=False),
    "prompt shared": partial(batched, shared=True),
    "ours, 32 wide": partial(ours_llama, batch_size=32),
    "ours, exact": partial(ours_llama, source=Voted),
    "one path a call": partial(generate, together=False, dtype="bfloat16"),
    "cache copied": partial(generate, shared=True, dtype="bfloat16"),
    "ours, torch sampler": partial(ours_transformers, batch_size=32, torch_sampler=True),
    "ours t, 32 wide": partial(ours_transformers, batch_size=32),
    "ours t, one stream": partial(ours_transformers, running_batches=1),
    "ours t, exact": partial(ours_transformers, source=Voted),
    # Tests of agreement.
    "exact peer": partial(completions, exact=True),
    "exact generate": partial(generate, dtype="float32"),
    "min_p 0.05": partial(completions, exact=True, min_p=0.05),
}


def peak() -> int:
    """Peak memory of this process, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        match = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if match:
            return int(match[1]) * 1024
    import resource

    peak_size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_size if sys.platform == "darwin" else peak_size * 1024


def serve(name: str, load: Load, reply: Callable[[dict[str, Any]], None]) -> None:
    """Open an arm and sample each order that arrives."""
    arm = ARMS[name](load)
    reply({"settings": arm.settings})
    for line in sys.stdin:
        fields = json.loads(line)
        read = fields.pop("read")
        order = SampleOrder(**fields)
        start = time.perf_counter()
        sampled = list(arm.sample(order))
        seconds = time.perf_counter() - start
        reply(
            {
                "seconds": seconds,
                "paths": len(sampled),
                "tokens": sum(path.tokens for path in sampled),
                "peak": peak(),
                "answers": [[path.question, _answer(path.text)] for path in sampled]
                if read
                else [],
            }
        )


def _answer(text: str) -> str | None:
    from store.enums import EndReason

    return extraction.extract(AnswerType.NUMBER, text, end=EndReason.END).answer


def main() -> None:
    """Run one arm. All output except replies goes to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if hasattr(os, "sched_setaffinity"):  # two cores for every arm
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])

    def reply(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=replies, flush=True)

    with contextlib.suppress(KeyboardInterrupt):
        serve(sys.argv[1], load_of(Path(sys.argv[2])), reply)


if __name__ == "__main__":
    main()
