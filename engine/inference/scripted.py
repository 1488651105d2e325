"""A backend that plays a script, for tests of everything around sampling and for screenshots.

A script states what the paths of a question may look like, and how often. The text of a path is
sampled from its own seed, so a run that was interrupted continues as if it had not been. Tokens are
bytes. Paths run side by side in slots and take one step per token, so short ones finish first, as
with a real model; but no time passes.

A script is TOML or JSON:

    context = 4096              # tokens in prompt and path together
    slots = 8                   # paths at a time
    fail_after = 100            # fail after this many paths; omit for never

    [[rules]]                   # the rule whose `contains` occurs last in the prompt applies
    contains = "apples"         # omit for a rule that applies to all other prompts
    answers = { "18" = 3, "20" = 1 }    # with their weights
    texts = ["{steps} The answer is {answer}."]
    steps = ["Ann has 9.", "Bob has 9."]
    length = [1, 4]             # fewest and most steps of a path
    confidence = { "18" = -0.1 }    # mean log-probability of the tokens, by answer (else -0.5)
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import json
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.inference.backend import Generation, PathRequest, PathSource, Sampling
from engine.inference.path_confidence import path_confidence
from engine.inference.stopping import StopChecker
from engine.inference.token_sampler import uniforms
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from engine.prompting.messages import ChatMessage

END = 256
"""The end token; all others are bytes."""
_TOKEN_BYTES = [bytes([byte]) for byte in range(256)] + [b""]

DEFAULT_LOGPROB = -0.5
FIRST_LOGPROB = 2**32
"""Counter of the first random number for log-probabilities, beyond those for the text."""


@dataclass(frozen=True, slots=True)
class ScriptRule:
    """The distribution of paths for some prompts."""

    contains: str
    """Text that occurs in the prompt; empty to match every prompt that no other rule matches."""
    answers: tuple[tuple[str, float], ...]
    """With their weights, > 0."""
    texts: tuple[str, ...]
    """`{answer}` and `{steps}` are replaced; all texts are equally likely."""
    steps: tuple[str, ...] = ()
    length: tuple[int, int] = (1, 1)
    """Fewest and most steps of a path."""
    confidence: tuple[tuple[str, float], ...] = ()
    """Mean log-probability of the tokens of a path, by its answer, ≤ 0."""

    def write(self, seed: int) -> str:
        """The text of the path with this seed."""
        fewest, most = self.length
        for_answer, for_text, for_length, *for_steps = uniforms(
            [seed] * (3 + most), range(3 + most)
        )
        answer = self._answer(for_answer)
        count = fewest + int(for_length * (most - fewest + 1))
        steps = [self.steps[int(u * len(self.steps))] for u in for_steps[:count] if self.steps]
        text = self.texts[int(for_text * len(self.texts))]
        return text.replace("{steps}", " ".join(steps)).replace("{answer}", answer)

    def logprobs(self, seed: int, count: int) -> NDArray[np.float64]:
        """Log-probabilities of the tokens of the path with this seed, [count], between 0 and twice
        the mean that the script states for its answer."""
        mean = dict(self.confidence).get(self._answer(*uniforms([seed], [0])), DEFAULT_LOGPROB)
        return 2 * mean * uniforms([seed] * count, range(FIRST_LOGPROB, FIRST_LOGPROB + count))

    def _answer(self, number: float) -> str:
        """The answer at a number in [0, 1)."""
        weights = list(itertools.accumulate(weight for _, weight in self.answers))
        return self.answers[bisect.bisect(weights, number * weights[-1])][0]


def open_scripted(script: Path) -> Scripted:
    """Read a script.

    Raises:
        BadInput: the file is missing, is not TOML or JSON, or a field is invalid.
    """
    try:
        text = script.read_text(encoding="utf-8")
        values = json.loads(text) if script.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise BadInput(f"The script {script} cannot be read ({error}): correct it.") from error
    try:
        rules = tuple(_rule(rule) for rule in values["rules"])
        return Scripted(
            rules,
            context=int(values.get("context", 4096)),
            slots=int(values.get("slots", 8)),
            fail_after=values.get("fail_after"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(
            f"The script {script} has a missing or invalid field ({error!r}): "
            "see the example in engine/inference/scripted.py."
        ) from error


def _rule(values: dict[str, Any]) -> ScriptRule:
    fewest, most = values.get("length", (1, 1))
    answers = tuple((str(answer), float(weight)) for answer, weight in values["answers"].items())
    rule = ScriptRule(
        contains=str(values.get("contains", "")),
        answers=answers,
        texts=tuple(map(str, values["texts"])),
        steps=tuple(map(str, values.get("steps", ()))),
        length=(int(fewest), int(most)),
        confidence=tuple(
            (str(answer), float(mean)) for answer, mean in values.get("confidence", {}).items()
        ),
    )
    if not rule.texts or not answers or min(weight for _, weight in answers) <= 0:
        raise ValueError("a rule needs texts and answers, and weights above 0")
    if any(mean > 0 for _, mean in rule.confidence):
        raise ValueError("a log-probability is above 0")
    if not 0 <= fewest <= most:
        raise ValueError(f"length {fewest} to {most}")
    return rule


class Scripted:
    """A loaded script; implements `engine.inference.backend.Backend`."""

    name = "scripted"
    version = "1"

    def __init__(
        self,
        rules: tuple[ScriptRule, ...],
        *,
        context: int,
        slots: int,
        fail_after: int | None = None,
    ) -> None:
        """Args:
        rules: of the script.
        context: most tokens in prompt and path together.
        slots: paths at a time.
        fail_after: number of paths after which `sample` fails; None for never.
        """
        self._rules = rules
        self.context_length = context
        self.details: dict[str, object] = {}
        self._slots = slots
        self._fail_after = fail_after

    def tokenize(self, text: str) -> list[int]:
        """The bytes of the text."""
        return list(text.encode())

    def tokenize_chat(
        self, messages: Sequence[ChatMessage], *, thinking: bool = False
    ) -> list[int]:
        """One line for each message; the last one is the assistant's and left open."""
        lines = [f"{message.role}: {message.content}" for message in messages]
        if messages[-1].role != "assistant":
            lines.append("assistant:")
        return self.tokenize("\n".join(lines))

    def sample(self, source: PathSource, sampling: Sampling) -> Iterator[Generation]:
        """Yield paths in the order in which a batch of slots would finish them.

        Raises:
            BadInput: a prompt and its path do not fit the context, or no rule matches the prompt.
            WorkFailed: after `fail_after` paths.
        """
        stop_checker = StopChecker(_TOKEN_BYTES, {END}, sampling)
        running: list[tuple[int, int, Generation]] = []  # a heap by the step in which each ends
        started = now = finished = 0
        while True:
            while len(running) < self._slots and (request := source.next_path()):
                path = self._play(request, sampling, stop_checker)
                # On a tie, the path that was started first ends first.
                heapq.heappush(running, (now + len(path.token_ids), started, path))
                started += 1
            if not running:
                return
            now, _, path = heapq.heappop(running)
            if source.is_settled(path.question):
                continue
            if finished == self._fail_after:
                raise WorkFailed(f"The script makes the engine fail after {finished} paths.")
            finished += 1
            yield path

    def close(self) -> None:
        """Do nothing: there is no memory to free."""

    def _play(
        self, request: PathRequest, sampling: Sampling, stop_checker: StopChecker
    ) -> Generation:
        if len(request.prompt) + sampling.max_tokens > self.context_length:
            raise BadInput(
                f"The prompt of question {request.question} has {len(request.prompt)} tokens and a "
                f"path may take {sampling.max_tokens}, but the script's context holds "
                f"{self.context_length}: raise it, or lower max_tokens."
            )
        prompt = bytes(token for token in request.prompt if token < END).decode(errors="replace")
        rule = self._rule_for(prompt, request)
        tokens = [*rule.write(request.seed).encode(), END]
        ending = next(
            ending
            for length in range(1, len(tokens) + 1)
            if (ending := stop_checker.check(tokens[:length])) is not None
        )
        logprobs = rule.logprobs(request.seed, len(ending.token_ids))
        return Generation(
            request.question,
            request.index,
            ending.text,
            ending.token_ids,
            ending.reason,
            path_confidence(logprobs, -logprobs),
        )

    def _rule_for(self, prompt: str, request: PathRequest) -> ScriptRule:
        """The rule whose text occurs last: few-shot examples come before the question."""
        positions = {
            prompt.rfind(rule.contains) if rule.contains else -1: rule
            for rule in reversed(self._rules)
            if rule.contains in prompt
        }
        if not positions:
            raise BadInput(
                f"No rule of the script matches the prompt of question {request.question}: "
                "add a rule without `contains`."
            )
        return positions[max(positions)]
