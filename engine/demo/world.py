"""Generate the questions that the embedded models (pebbles) are pretrained on and improve on.

The pretraining text has small word problems, sums, multiple choice and yes-no questions, answered
directly or with reasoning in one of two styles:

* *careful*: one operation at a time, tens before units, every result written;
* *quick*: each operation at once, and of three or more the last two in one jump.

Both styles are always correct in the pretraining text. A small model can follow the careful style,
but usually gets the jump wrong, each time with a different result. So a majority vote selects
careful paths, which is what the demo shows.

Generation is pure and deterministic: the same seed gives the same questions on every machine. A
stable hash of a question's text decides its split, so the texts for pretraining, self-improvement
and evaluation are disjoint.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class QuestionKind(StrEnum):
    """The kind of a question; `STORY` is the kind that the demo improves on."""

    STORY = "story"
    RIDE = "ride"
    AGE = "age"
    PACK = "pack"
    SUM = "sum"
    CHOICE = "choice"
    YES_NO = "yes-no"


class PebbleSplit(StrEnum):
    """Where a question may be used; the base models were trained on `PRETRAINING`."""

    POOL = "pool"
    EVAL = "eval"
    OOD = "ood"
    PRETRAINING = "pretraining"


@dataclass(frozen=True, slots=True)
class Operation:
    """A change of the running total: `symbol` is `+`, `-` or `*`, `amount` is positive."""

    symbol: str
    amount: int

    def __str__(self) -> str:
        return f" {self.symbol} {self.amount}"

    def apply(self, total: int) -> int:
        """The total after this operation."""
        match self.symbol:
            case "+":
                return total + self.amount
            case "-":
                return total - self.amount
            case _:
                return total * self.amount


@dataclass(frozen=True, slots=True)
class PebbleQuestion:
    """A question, its correct answer, and its reasoning in both styles.

    `start` and `operations` are the arithmetic of the question (0 and empty if it has none).
    `quick` and `careful` are the reasoning without an opening word and without the answer.
    """

    text: str
    answer: str
    kind: QuestionKind
    start: int
    operations: tuple[Operation, ...]
    quick: str
    careful: str


PEOPLE = {
    "Tom": ("He", "him"),
    "Ben": ("He", "him"),
    "Max": ("He", "him"),
    "Sam": ("He", "him"),
    "Leo": ("He", "him"),
    "Ann": ("She", "her"),
    "Eva": ("She", "her"),
    "Mia": ("She", "her"),
    "Ida": ("She", "her"),
    "Zoe": ("She", "her"),
}
THINGS = ("pens", "cards", "shells", "coins", "books", "cups", "eggs", "balls", "keys", "stones")
GAINS = (
    "{he} finds {k} more.",
    "{he} buys {k} more.",
    "{friend} gives {him} {k} more.",
)
LOSSES = (
    "{he} loses {k} of them.",
    "{he} sells {k} of them.",
    "{he} gives {k} to {friend}.",
)
VEHICLES = ("bus", "train", "boat")
GROUPS = {
    "an animal": ("dog", "cat", "cow", "fish", "bird"),
    "a fruit": ("apple", "pear", "plum", "lemon", "fig"),
    "a color": ("red", "blue", "green", "black", "white"),
    "a tool": ("saw", "drill", "nail", "rake", "axe"),
}

LEAST, MOST = 2, 99  # running totals stay in two digits


def _amount(rng: random.Random) -> int:
    """A number with one or two digits, with equal probability."""
    return rng.randint(2, 9) if rng.random() < 0.5 else rng.randint(11, 39)


def _chain(rng: random.Random, start: int, length: int) -> tuple[Operation, ...]:
    """Additions and subtractions that keep the running total in two digits."""
    operations: list[Operation] = []
    total = start
    while len(operations) < length:
        step = Operation(rng.choice("+-"), _amount(rng))
        if LEAST <= step.apply(total) <= MOST:
            total = step.apply(total)
            operations.append(step)
    return tuple(operations)


def _result(start: int, operations: Sequence[Operation]) -> int:
    for operation in operations:
        start = operation.apply(start)
    return start


def _quick(start: int, operations: Sequence[Operation]) -> str:
    """Each operation at once, and of three or more the last two in one jump.

    `38 + 25 = 63. Then 63 - 17 + 4 = 50.`
    """
    alone = len(operations) if len(operations) < 3 else len(operations) - 2
    jumps = [operations[at : at + 1] for at in range(alone)]
    if alone < len(operations):
        jumps.append(operations[alone:])
    sentences = []
    for jump in jumps:
        end = _result(start, jump)
        sentences.append(f"{start}{''.join(map(str, jump))} = {end}.")
        start = end
    return " Then ".join(sentences)


def _careful(start: int, operations: Sequence[Operation]) -> str:
    """One operation per sentence, tens before units: `38 + 25 = 58 + 5 = 63.`"""
    sentences = []
    for operation in operations:
        middle = ""
        tens, units = operation.amount // 10 * 10, operation.amount % 10
        if operation.symbol != "*" and tens and units:
            middle = f" = {Operation(operation.symbol, tens).apply(start)}" + str(
                Operation(operation.symbol, units)
            )
        end = operation.apply(start)
        sentences.append(f"{start}{operation}{middle} = {end}.")
        start = end
    return " Then ".join(sentences)


def _arithmetic(
    text: str, kind: QuestionKind, start: int, operations: tuple[Operation, ...]
) -> PebbleQuestion:
    return PebbleQuestion(
        text=text,
        answer=str(_result(start, operations)),
        kind=kind,
        start=start,
        operations=operations,
        quick=_quick(start, operations),
        careful=_careful(start, operations),
    )


def _story(rng: random.Random) -> PebbleQuestion:
    name, friend = rng.sample(list(PEOPLE), 2)
    he, him = PEOPLE[name]
    thing = rng.choice(THINGS)
    start = rng.randint(12, 60)
    operations = _chain(rng, start, rng.choices((2, 3, 4), (45, 33, 22))[0])
    events = [
        rng.choice(GAINS if step.symbol == "+" else LOSSES).format(
            he=he, him=him, friend=friend, k=step.amount
        )
        for step in operations
    ]
    text = f"{name} has {start} {thing}. {' '.join(events)} How many {thing} does {name} have now?"
    return _arithmetic(text, QuestionKind.STORY, start, operations)


def _ride(rng: random.Random) -> PebbleQuestion:
    vehicle = rng.choice(VEHICLES)
    start = rng.randint(12, 60)
    operations = _chain(rng, start, rng.choices((1, 2, 3), (20, 50, 30))[0])
    events = [
        f"{step.amount} people get {'on' if step.symbol == '+' else 'off'}." for step in operations
    ]
    text = (
        f"A {vehicle} leaves with {start} people. {' '.join(events)} "
        f"How many people are on the {vehicle} now?"
    )
    return _arithmetic(text, QuestionKind.RIDE, start, operations)


def _age(rng: random.Random) -> PebbleQuestion:
    start = rng.randint(12, 60)
    operations = _chain(rng, start, rng.randint(1, 3))
    names = rng.sample(list(PEOPLE), len(operations) + 1)
    facts = [f"{names[0]} is {start} years old."]
    for step, younger, older in zip(operations, names[1:], names, strict=False):
        word = "older" if step.symbol == "+" else "younger"
        facts.append(f"{younger} is {step.amount} years {word} than {older}.")
    return _arithmetic(
        f"{' '.join(facts)} How old is {names[-1]}?", QuestionKind.AGE, start, operations
    )


def _pack(rng: random.Random) -> PebbleQuestion:
    name = rng.choice(list(PEOPLE))
    he, _ = PEOPLE[name]
    thing = rng.choice(THINGS)
    boxes, each = rng.randint(2, 9), rng.randint(2, 9)
    more = _chain(rng, boxes * each, rng.randint(0, 2))
    events = [
        f"{he} {'puts in' if step.symbol == '+' else 'takes out'} {step.amount} {thing}."
        for step in more
    ]
    facts = " ".join([f"{name} packs {boxes} boxes with {each} {thing} in each.", *events])
    text = f"{facts} How many {thing} are in the boxes?"
    return _arithmetic(text, QuestionKind.PACK, boxes, (Operation("*", each), *more))


def _sum(rng: random.Random) -> PebbleQuestion:
    start = rng.randint(2, 99)
    operations = _chain(rng, start, rng.choices((1, 2, 3), (50, 35, 15))[0])
    text = f"What is {start}{''.join(map(str, operations))}?"
    return _arithmetic(text, QuestionKind.SUM, start, operations)


def _choice(rng: random.Random) -> PebbleQuestion:
    letters = "abc"
    right = rng.randrange(3)
    if rng.random() < 0.5:
        numbers = rng.sample(range(2, 100), 3)
        largest = max(numbers)
        right = numbers.index(largest)
        options = [str(number) for number in numbers]
        instruction = "Which number is the largest?"
        quick = f"{largest} is the largest."
        careful = (
            f"of {numbers[0]} and {numbers[1]} the larger is {max(numbers[:2])}. "
            f"Then of {max(numbers[:2])} and {numbers[2]} the larger is {largest}."
        )
    else:
        group, other = rng.sample(list(GROUPS), 2)
        options = rng.sample(GROUPS[other], 3)
        options[right] = rng.choice(GROUPS[group])
        instruction = f"Which of these is {group}?"
        quick = f"{options[right]} is {group}."
        kinds = [group if at == right else other for at in range(3)]
        careful = ". Then ".join(
            f"{option} is {kind}" for option, kind in zip(options, kinds, strict=True)
        )
        careful += "."
    listed = " ".join(
        f"({letter}) {option}" for letter, option in zip(letters, options, strict=True)
    )
    answer = f"({letters[right]})"
    text = f"{instruction}\nAnswer Choices: {listed}"
    return PebbleQuestion(text, answer, QuestionKind.CHOICE, 0, (), quick, careful)


def _yes_no(rng: random.Random) -> PebbleQuestion:
    start = rng.randint(12, 60)
    operations = _chain(rng, start, 1)
    total = _result(start, operations)
    bound = max(2, total + rng.choice((-1, 1)) * rng.randint(1, 20))
    answer = "yes" if total > bound else "no"
    left = f"{start}{operations[0]}"
    verdict = "is more than" if total > bound else "is not more than"
    return PebbleQuestion(
        text=f"Is {left} more than {bound}?",
        answer=answer,
        kind=QuestionKind.YES_NO,
        start=start,
        operations=operations,
        quick=f"{left} {verdict} {bound}.",
        careful=f"{_careful(start, operations)} Then {total} {verdict} {bound}.",
    )


GENERATORS: dict[QuestionKind, Callable[[random.Random], PebbleQuestion]] = {
    QuestionKind.STORY: _story,
    QuestionKind.RIDE: _ride,
    QuestionKind.AGE: _age,
    QuestionKind.PACK: _pack,
    QuestionKind.SUM: _sum,
    QuestionKind.CHOICE: _choice,
    QuestionKind.YES_NO: _yes_no,
}
KIND_OF_SPLIT = {
    PebbleSplit.POOL: QuestionKind.STORY,
    PebbleSplit.EVAL: QuestionKind.STORY,
    PebbleSplit.OOD: QuestionKind.RIDE,
}


def split_of(text: str) -> PebbleSplit:
    """The only split in which a question with this text may be used."""
    bucket = hashlib.blake2b(text.encode(), digest_size=2).digest()[0]
    if bucket < 64:
        return PebbleSplit.POOL
    if bucket < 96:
        return PebbleSplit.EVAL
    if bucket < 128:
        return PebbleSplit.OOD
    return PebbleSplit.PRETRAINING


def seeded(*parts: object) -> random.Random:
    """A random generator seeded by `parts`, the same on every machine."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest))


def make(kind: QuestionKind, split: PebbleSplit, rng: random.Random) -> PebbleQuestion:
    """Generate a question of this kind whose text belongs to this split."""
    while True:
        question = GENERATORS[kind](rng)
        if split_of(question.text) is split:
            return question


def generate(split: PebbleSplit | str, count: int, seed: int) -> list[PebbleQuestion]:
    """Generate `count` distinct questions of a split; those of `ood` are of another kind."""
    split = PebbleSplit(split)
    if split is PebbleSplit.PRETRAINING:
        raise ValueError("pretraining text is a stream of documents: see scripts.documents")
    rng = seeded("draw", split, seed)
    by_text: dict[str, PebbleQuestion] = {}
    while len(by_text) < count:
        question = make(KIND_OF_SPLIT[split], split, rng)
        by_text.setdefault(question.text, question)
    return list(by_text.values())


_START = re.compile(r"^(?:\w+ has|A \w+ leaves with) (\d+) ")
_GAIN = re.compile(r"(?:finds|buys|gives (?:him|her)) (\d+) more\.|(\d+) people get on\.")
_LOSS = re.compile(r"(?:loses|sells) (\d+) of them\.|gives (\d+) to \w+\.|(\d+) people get off\.")


def solve(question_text: str) -> str:
    """Parse a question of a generated split and compute its answer.

    It is independent of the generator, so it can check it. Benchmarks use it as ground truth.
    """
    start = _START.match(question_text)
    if start is None:
        raise ValueError(f"not a question of a generated split: {question_text!r}")
    gained = sum(int(number) for pair in _GAIN.findall(question_text) for number in pair if number)
    lost = sum(int(number) for some in _LOSS.findall(question_text) for number in some if number)
    return str(int(start[1]) + gained - lost)


@dataclass(frozen=True, slots=True)
class PebbleExemplar:
    """A worked example of the few-shot prompts; direct prompts omit `reasoning`."""

    question: str
    reasoning: str
    answer: str


EXEMPLARS = (
    PebbleExemplar(
        "Eva has 24 cards. She finds 8 more. She gives 15 to Leo. "
        "How many cards does Eva have now?",
        "So 24 + 8 = 32. Then 32 - 15 = 17.",
        "17",
    ),
    PebbleExemplar(
        "Tom has 35 shells. Ann gives him 12 more. He loses 6 of them. "
        "How many shells does Tom have now?",
        "First, 35 + 12 = 45 + 2 = 47. Then 47 - 6 = 41.",
        "41",
    ),
    PebbleExemplar(
        "Zoe has 51 coins. She sells 23 of them. She buys 5 more. She finds 14 more. "
        "How many coins does Zoe have now?",
        "In short, 51 - 23 = 28. Then 28 + 5 + 14 = 47.",
        "47",
    ),
)
