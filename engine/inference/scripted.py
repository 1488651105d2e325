"""A backend that plays a script: for tests of everything around sampling, and for pictures.

A script says what the paths of a question may look like and how often. What a path says is drawn
from its own seed, so a run that was interrupted continues as if it had not been. Tokens are bytes.
Paths run side by side in slots and take as long as they have tokens, so short ones finish first,
as with a real model; but no time passes.

A script is TOML or JSON:

    context = 4096              # tokens in prompt and path together
    slots = 8                   # paths at a time
    fail_after = 100            # paths until the engine fails; leave it out for never

    [[rules]]                   # the rule counts whose `contains` stands last in the prompt
    contains = "apples"         # leave it out for a rule for all other prompts
    answers = { "18" = 3, "20" = 1 }    # with their weights
    texts = ["{steps} The answer is {answer}."]
    steps = ["Ann has 9.", "Bob has 9."]
    length = [1, 4]             # how many steps are drawn for one path
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import json
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.inference.backend import Generation, Message, PathRequest, PathSource, Sampling
from engine.inference.stopping import Endings
from engine.inference.token_sampler import uniforms
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

END = 256
"""The end token; the others are bytes."""
_PIECES = [bytes([byte]) for byte in range(256)] + [b""]


@dataclass(frozen=True, slots=True)
class Rule:
    """What paths of some prompts look like."""

    contains: str
    """Found in the prompt; empty for every prompt that has no other rule."""
    answers: tuple[tuple[str, float], ...]
    """With their weights, > 0."""
    texts: tuple[str, ...]
    """`{answer}` and `{steps}` are filled in; each text is as likely as the others."""
    steps: tuple[str, ...] = ()
    length: tuple[int, int] = (1, 1)
    """Fewest and most steps of a path."""

    def write(self, seed: int) -> str:
        """The text of the path that has this seed."""
        fewest, most = self.length
        for_answer, for_text, for_length, *for_steps = uniforms(
            [seed] * (3 + most), range(3 + most)
        )
        weights = list(itertools.accumulate(weight for _, weight in self.answers))
        answer, _ = self.answers[bisect.bisect(weights, for_answer * weights[-1])]
        count = fewest + int(for_length * (most - fewest + 1))
        steps = [self.steps[int(u * len(self.steps))] for u in for_steps[:count] if self.steps]
        text = self.texts[int(for_text * len(self.texts))]
        return text.replace("{steps}", " ".join(steps)).replace("{answer}", answer)


def open_scripted(script: Path) -> Scripted:
    """Read a script.

    Raises:
        BadInput: it is not there, not TOML or JSON, or a field is not what it should be.
    """
    try:
        text = script.read_text(encoding="utf-8")
        said = json.loads(text) if script.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as problem:
        raise BadInput(f"The script {script} cannot be read ({problem}): correct it.") from problem
    try:
        rules = tuple(_rule(rule) for rule in said["rules"])
        return Scripted(
            rules,
            context=int(said.get("context", 4096)),
            slots=int(said.get("slots", 8)),
            fail_after=said.get("fail_after"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise BadInput(
            f"The script {script} lacks something or has it in another form ({problem!r}): "
            "see the example in engine/inference/scripted.py."
        ) from problem


def _rule(said: dict[str, Any]) -> Rule:
    fewest, most = said.get("length", (1, 1))
    answers = tuple((str(answer), float(weight)) for answer, weight in said["answers"].items())
    rule = Rule(
        contains=str(said.get("contains", "")),
        answers=answers,
        texts=tuple(map(str, said["texts"])),
        steps=tuple(map(str, said.get("steps", ()))),
        length=(int(fewest), int(most)),
    )
    if not rule.texts or not answers or min(weight for _, weight in answers) <= 0:
        raise ValueError("a rule needs texts and answers, and weights above 0")
    if not 0 <= fewest <= most:
        raise ValueError(f"length {fewest} to {most}")
    return rule


class Scripted:
    """A script that is being played."""

    name = "scripted"
    version = "1"

    def __init__(
        self, rules: tuple[Rule, ...], *, context: int, slots: int, fail_after: int | None = None
    ) -> None:
        """Args:
        rules: of the script.
        context: most tokens in prompt and path together.
        slots: paths at a time.
        fail_after: paths of one sampling before the engine fails; None for never.
        """
        self._rules = rules
        self.context_length = context
        self.details: dict[str, object] = {}
        self._slots = slots
        self._fail_after = fail_after

    def tokenize(self, text: str) -> list[int]:
        """The bytes of the text."""
        return list(text.encode())

    def tokenize_chat(self, messages: Sequence[Message]) -> list[int]:
        """One line for each turn; the last one is the assistant's and open."""
        turns = [f"{message.role}: {message.content}" for message in messages]
        if messages[-1].role != "assistant":
            turns.append("assistant:")
        return self.tokenize("\n".join(turns))

    def sample(self, source: PathSource, sampling: Sampling) -> Iterator[Generation]:
        """Yield paths in the order in which a batch of slots would finish them.

        Raises:
            BadInput: a prompt and its path do not fit, or no rule of the script is for it.
            WorkFailed: the script says so.
        """
        endings = Endings(_PIECES, {END}, sampling)
        running: list[tuple[int, int, Generation]] = []  # by the step in which each ends
        begun = now = finished = 0
        while True:
            while len(running) < self._slots and (request := source.next_path()):
                path = self._play(request, sampling, endings)
                # Ties are for the path that began first.
                heapq.heappush(running, (now + len(path.token_ids), begun, path))
                begun += 1
            if not running:
                return
            now, _, path = heapq.heappop(running)
            if source.is_settled(path.question):
                continue
            if finished == self._fail_after:
                raise WorkFailed(f"The script lets the engine fail after {finished} paths.")
            finished += 1
            yield path

    def close(self) -> None:
        """Nothing is held."""

    def _play(self, request: PathRequest, sampling: Sampling, endings: Endings) -> Generation:
        if len(request.prompt) + sampling.max_tokens > self.context_length:
            raise BadInput(
                f"The prompt of question {request.question} has {len(request.prompt)} tokens and a "
                f"path may take {sampling.max_tokens}, but the script's context holds "
                f"{self.context_length}: raise it, or lower max_tokens."
            )
        prompt = bytes(token for token in request.prompt if token < END).decode(errors="replace")
        tokens = [*self._rule_for(prompt, request).write(request.seed).encode(), END]
        ending = next(
            ending
            for length in range(1, len(tokens) + 1)
            if (ending := endings.ending(tokens[:length])) is not None
        )
        return Generation(
            request.question, request.index, ending.text, ending.token_ids, ending.reason
        )

    def _rule_for(self, prompt: str, request: PathRequest) -> Rule:
        """The rule whose text stands last: the examples of a few-shot prompt come first."""
        places = {
            prompt.rfind(rule.contains) if rule.contains else -1: rule
            for rule in reversed(self._rules)
            if rule.contains in prompt
        }
        if not places:
            raise BadInput(
                f"No rule of the script is for the prompt of question {request.question}: "
                "add a rule without `contains`."
            )
        return places[max(places)]
