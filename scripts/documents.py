"""The training text of the pebbles: an endless stream of worked questions of every kind.

The two styles of writing have a fixed mixture, and each answer's style is sampled independently.
The most frequent opening is a quick one, so the single most likely path of a base
model is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.demo import world
from engine.demo.world import PebbleQuestion, PebbleSplit, QuestionKind

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

END = "<|end|>"
CUE = " Let's think step by step."

QUICK_OPENINGS = {"So": 23, "In short,": 20, "I think": 18}
CAREFUL_OPENINGS = {"First,": 15, "Slowly,": 13, "With care,": 11}
KIND_WEIGHTS = {
    QuestionKind.STORY: 35,
    QuestionKind.RIDE: 10,
    QuestionKind.AGE: 8,
    QuestionKind.PACK: 8,
    QuestionKind.SUM: 28,
    QuestionKind.CHOICE: 5,
    QuestionKind.YES_NO: 6,
}
RUN_LENGTH = 4  # questions in a run, as in the few-shot prompts; the end follows the last
REASONED_SHARE = 0.75  # share of documents whose answers show their reasoning
CUE_SHARE = 0.5  # share of single questions with reasoning that begin with the cue


def write_path(question: PebbleQuestion, rng: random.Random) -> str:
    """Write an answer with reasoning; its opening, and so its style, is sampled."""
    openings = {**QUICK_OPENINGS, **CAREFUL_OPENINGS}
    opening = rng.choices(list(openings), list(openings.values()))[0]
    body = question.careful if opening in CAREFUL_OPENINGS else question.quick
    return f"{opening} {body} {answer_sentence(question)}"


def answer_sentence(question: PebbleQuestion) -> str:
    """The sentence that ends every path of this world."""
    return f"The answer is {question.answer}."


def style_of(path: str) -> str:
    """The style of a path by its opening: `quick`, `careful` or `other`."""
    path = path.strip()
    if path.startswith(tuple(CAREFUL_OPENINGS)):
        return "careful"
    return "quick" if path.startswith(tuple(QUICK_OPENINGS)) else "other"


def documents(seed: int, *, runs: bool) -> Iterator[str]:
    """Yield documents without end: single questions, or runs of one kind as in few-shot prompts.

    A run shows reasoning in all of its answers or in none. Questions of the other splits and the
    worked examples never occur.
    """
    rng = world.seeded("documents", runs, seed)
    excluded = {exemplar.question for exemplar in world.EXEMPLARS}
    kinds, weights = list(KIND_WEIGHTS), list(KIND_WEIGHTS.values())
    while True:
        kind = rng.choices(kinds, weights)[0]
        reasoned = rng.random() < REASONED_SHARE
        cue = CUE if reasoned and not runs and rng.random() < CUE_SHARE else ""
        parts: list[str] = []
        while len(parts) < (RUN_LENGTH if runs else 1):
            question = world.make(kind, PebbleSplit.PRETRAINING, rng)
            if question.text not in excluded:
                answer = write_path(question, rng) if reasoned else answer_sentence(question)
                parts.append(f"Q: {question.text}\nA:{cue} {answer}")
        yield "\n\n".join(parts)
