"""The arms of `benchmarks.sampling`: ours beside the peers', each in a process of its own.

    python -m benchmarks.arms ARM LOAD.json

The process opens its model, answers with one line of JSON, and then draws what each line on its
standard input orders. So models are loaded before anything is timed, and the peak of its memory is
the arm's own.
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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers import THREADS, Arm, Drawn, Order, bare, batched, completions, generate
from benchmarks.shapes import load_of
from engine.answers import extraction
from engine.inference.backend import PathRequest, Sampling, path_seed
from engine.inference.prompt_lengths import SequenceLengths
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
"""The demo's own settings."""


class Paths:
    """A source that gives out the paths of an order, question by question."""

    def __init__(self, load: Load, order: Order) -> None:
        self.waiting = deque(
            (question, index) for question in order.questions for index in range(order.paths)
        )
        self._load, self._seed = load, order.seed

    def next_path(self) -> PathRequest | None:
        """The next path, if there is one."""
        if not self.waiting:
            return None
        question, index = self.waiting.popleft()
        key, prompt = str(question), self._load.prompt(question)
        seed = path_seed(self._seed, key, index)
        return PathRequest(key, index, prompt, len(self._load.prefix), seed)

    def is_settled(self, question: str) -> bool:
        """Never: every path is wanted."""
        return False

    def take(self, path: Generation) -> None:
        """Nothing hangs on what was drawn."""


class Voted(Paths):
    """A source that gives out the paths that votes need, as the stage does."""

    def __init__(self, load: Load, order: Order) -> None:
        super().__init__(load, order._replace(paths=0))
        self._begun: dict[str, dict[int, str | None]] = {}
        self._asked: dict[str, int] = {}
        self._pending = deque(order.questions)

    def next_path(self) -> PathRequest | None:
        """The next path that some vote needs."""
        while not self.waiting and self._pending:
            key = str(self._pending.popleft())
            self._begun[key] = {}
            self._ask(key)
        return super().next_path()

    def is_settled(self, question: str) -> bool:
        """Whether the vote of this question stands."""
        return question not in self._begun

    def take(self, path: Generation) -> None:
        """Count a path; after the last one of a wave the vote stands or asks for another wave."""
        read = extraction.extract(AnswerType.NUMBER, path.text, end=path.end)
        self._begun[path.question][path.index] = read.answer
        self._asked[path.question] -= 1
        if not self._asked[path.question]:
            self._ask(path.question)

    def _ask(self, key: str) -> None:
        given = [self._begun[key][index] for index in range(len(self._begun[key]))]
        vote = majority.count_vote(
            given,
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
            del self._begun[key]
            return
        wanted = majority.paths_to_request(
            vote.top,
            vote.second,
            vote.drawn,
            m=M,
            rule=EarlyStop.EXACT,
            threshold=THRESHOLD,
            cap=CAP,
        )
        more = max(1, wanted)
        self._asked[key] = more
        wave = range(len(given), len(given) + more)
        self.waiting.extendleft((int(key), index) for index in reversed(wave))


def ours(backend: Backend, load: Load, source: type[Paths] = Paths) -> Arm:
    """One of this program's engines."""
    sampling = Sampling(load.temperature, load.max_tokens, stop=load.stop)

    def draw(order: Order) -> Iterator[Drawn]:
        work = source(load, order)
        for path in backend.sample(work, sampling):
            work.take(path)
            yield Drawn(int(path.question), len(path.token_ids), path.text)

    width = getattr(backend, "batch_size", "?")
    details = getattr(backend, "details", {"width": width})
    told = ", ".join(f"{name} {value}" for name, value in details.items() if _is_short(value))
    return Arm(f"{backend.name}: {told}", draw)


def _is_short(value: object) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) < 12)


def ours_llama(load: Load, batch_size: int | None = None, source: type[Paths] = Paths) -> Arm:
    """Ours over llama.cpp."""
    from engine.inference.llama.backend import open_llama_cpp

    backend = open_llama_cpp(Path(load.gguf), batch_size=batch_size, lengths=_lengths(load))
    return ours(backend, load, source)


def ours_transformers(
    load: Load,
    batch_size: int | None = None,
    source: type[Paths] = Paths,
    *,
    torch_sampler: bool = False,
    streams: int | None = None,
) -> Arm:
    """Ours over transformers, with prompts kept once.

    Args:
        load: the model.
        batch_size: paths at a time, if not the engine's own choice.
        source: where the paths come from.
        torch_sampler: draw by softmax and multinomial over the vocabulary instead of our sampler.
        streams: most of them side by side, if not the engine's own choice.
    """
    from engine.inference.hf import backend, running_batch

    if torch_sampler:
        vars(running_batch)["sample_tokens"] = _multinomial
    if streams:
        vars(backend)["MAX_RUNNING_BATCHES"] = streams
    model = backend.open_transformers(Path(load.folder), threads=THREADS, batch_size=batch_size)
    return ours(model, load, source)


def _multinomial(
    logits: Tensor, sampling: Sampling, uniforms: NDArray[np.float64]
) -> NDArray[np.int64]:
    import torch

    del uniforms
    chances = torch.softmax(logits.float() / sampling.temperature, dim=-1)
    chosen: NDArray[np.int64] = torch.multinomial(chances, 1)[:, 0].numpy()
    return chosen


def chosen(load: Load) -> Arm:
    """The engine that the program takes for a model that is there in both forms."""
    from engine.inference.engine_selection import open_fastest
    from engine.models.identity import base_model
    from engine.project.folder import create_project
    from engine.project.settings import ModelSettings, Settings

    folder = Path(tempfile.mkdtemp(prefix="lmsi-chosen-"))
    settings = ModelSettings(teacher="it/base")
    project = create_project(folder / "p", replace(Settings(), model=settings))
    model = base_model(project, "it/base", Path(load.folder), Path(load.gguf))
    return ours(open_fastest(project, model, settings, _lengths(load)).backend, load)


def _lengths(load: Load) -> SequenceLengths:
    longest = max(map(len, load.questions))
    return SequenceLengths(len(load.prefix) + longest, load.max_tokens, len(load.prefix))


ARMS: dict[str, Callable[[Load], Arm]] = {
    "create_completion": completions,
    "generate": generate,
    "bare llama_decode": bare,
    "bare in float32": partial(bare, exact=True),
    "ours, llama.cpp": ours_llama,
    "ours, transformers": ours_transformers,
    "chosen": chosen,
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
    "ours t, one stream": partial(ours_transformers, streams=1),
    "ours t, exact": partial(ours_transformers, source=Voted),
    # Agreement of what is drawn.
    "exact peer": partial(completions, exact=True),
    "exact generate": partial(generate, dtype="float32"),
    "min_p 0.05": partial(completions, exact=True, min_p=0.05),
}


def peak() -> int:
    """Most memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def serve(name: str, load: Load, reply: Callable[[dict[str, Any]], None]) -> None:
    """Open an arm and draw what is ordered, line by line."""
    arm = ARMS[name](load)
    reply({"settings": arm.settings})
    for line in sys.stdin:
        told = json.loads(line)
        read = told.pop("read")
        order = Order(**told)
        start = time.perf_counter()
        drawn = list(arm.draw(order))
        seconds = time.perf_counter() - start
        reply(
            {
                "seconds": seconds,
                "paths": len(drawn),
                "tokens": sum(one.tokens for one in drawn),
                "peak": peak(),
                "answers": [[one.question, _answer(one.text)] for one in drawn] if read else [],
            }
        )


def _answer(text: str) -> str | None:
    from store.enums import EndReason

    return extraction.extract(AnswerType.NUMBER, text, end=EndReason.END).answer


def main() -> None:
    """Be one arm: what it prints but its replies goes to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if hasattr(os, "sched_setaffinity"):  # two cores for every arm, whatever it would take
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])

    def reply(told: dict[str, Any]) -> None:
        print(json.dumps(told), file=replies, flush=True)

    with contextlib.suppress(KeyboardInterrupt):
        serve(sys.argv[1], load_of(Path(sys.argv[2])), reply)


if __name__ == "__main__":
    main()
