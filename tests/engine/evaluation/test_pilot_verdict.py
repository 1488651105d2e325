"""The error rate of a pilot's verdict, over many worlds and looks."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from itertools import product

import pytest

from engine.evaluation.pilot_verdict import (
    ENOUGH_RIGHT,
    ERROR,
    FEW_RIGHT,
    MIN_HEADROOM,
    NEARLY_ALL,
    Obstacle,
    PilotCounts,
    Usefulness,
    can_change,
    judge,
    label_yield,
)

LOOKS = (*range(10, 90, 10), 110, 150)
"""More looks than a pilot takes."""

KINDS = tuple(product((True, False), (True, False), (True, False)))
"""(kept, majority right, greedy right) of a question."""

PAIRS = tuple(product((True, False), (True, False)))


@dataclass(frozen=True)
class World:
    """The shares of the kinds of questions."""

    shares: tuple[float, ...]

    def total(self, kept: bool | None, majority: bool | None, greedy: bool | None) -> float:
        wanted = (kept, majority, greedy)
        return sum(
            share
            for share, kind in zip(self.shares, KINDS, strict=True)
            if all(value in (None, part) for value, part in zip(wanted, kind, strict=True))
        )

    @property
    def headroom(self) -> float:
        return self.total(None, True, None) - self.total(None, None, True)

    def is_wrong(self, answer: Usefulness) -> bool:
        right, wrong = self.total(True, True, None), self.total(True, False, None)
        tiny = 1e-9
        if answer is Usefulness.NO:
            return (
                right >= FEW_RIGHT - tiny
                and right >= wrong - tiny
                and self.headroom >= MIN_HEADROOM - tiny
                and self.total(None, None, True) <= NEARLY_ALL + tiny
            )
        if answer is Usefulness.YES:
            return right <= ENOUGH_RIGHT + tiny or right < wrong - tiny or self.headroom <= tiny
        return False


def observed(kinds: Counter[tuple[bool, bool, bool]]) -> PilotCounts:
    return PilotCounts(
        n=kinds.total(),
        right=kinds[True, True, True] + kinds[True, True, False],
        wrong=kinds[True, False, True] + kinds[True, False, False],
        greedy=sum(kinds[kept, majority, True] for kept, majority in PAIRS),
        won=kinds[True, True, False] + kinds[False, True, False],
        lost=kinds[True, False, True] + kinds[False, False, True],
    )


def pilot_in(world: World, rng: random.Random) -> Usefulness:
    """The verdict at which a pilot stops in a world."""
    questions = rng.choices(KINDS, world.shares, k=LOOKS[-1])
    for look in LOOKS:
        answer = judge(observed(Counter(questions[:look]))).answer
        if answer is not Usefulness.UNKNOWN:
            return answer
    return Usefulness.UNKNOWN


def world(**shares: float) -> World:
    """A world from the shares of `kept_right_won` and so on; the rest is wrong and not kept."""
    names = {
        "kept_right": (True, True, True),
        "kept_right_won": (True, True, False),
        "kept_lost": (True, False, True),
        "kept_wrong": (True, False, False),
        "right": (False, True, True),
        "won": (False, True, False),
        "lost": (False, False, True),
    }
    by_kind = {names[name]: share for name, share in shares.items()}
    rest = 1 - sum(by_kind.values())
    assert rest > -1e-9
    by_kind[False, False, False] = max(0.0, rest)
    return World(tuple(by_kind.get(kind, 0.0) for kind in KINDS))


BORDERLINE = {
    "just enough right labels": world(kept_right=0.10, kept_right_won=0.05),
    "as many wrong as right labels": world(
        kept_right=0.3, kept_right_won=0.2, kept_wrong=0.45, kept_lost=0.05
    ),
    "just enough headroom": world(kept_right=0.45, kept_right_won=0.2, lost=0.15),
    "nearly all right": world(kept_right=0.88, kept_right_won=0.07, lost=0.02),
    "all of them at once": world(kept_right=0.10, kept_right_won=0.05, kept_wrong=0.15),
    "too few right labels": world(kept_right_won=0.05, won=0.4),
    "no headroom": world(kept_right=0.5, kept_right_won=0.1, lost=0.1),
    "no headroom and many changes": world(kept_right=0.2, kept_right_won=0.3, lost=0.3),
}


def random_worlds(count: int) -> list[World]:
    rng = random.Random(16)
    worlds = []
    for _ in range(count):
        # Small shapes give worlds in which some kinds do not occur.
        weights = [rng.gammavariate(rng.choice((0.1, 0.5, 2)), 1) + 1e-12 for _ in KINDS]
        worlds.append(World(tuple(weight / sum(weights) for weight in weights)))
    return worlds


@pytest.mark.parametrize("name", BORDERLINE)
def test_a_borderline_world_gets_a_wrong_verdict_as_rarely_as_stated(name: str) -> None:
    here, trials, rng = BORDERLINE[name], 120, random.Random(name)
    wrong = sum(here.is_wrong(pilot_in(here, rng)) for _ in range(trials))
    assert here.is_wrong(Usefulness.NO) or here.is_wrong(Usefulness.YES)
    assert wrong / trials <= ERROR + 3 * (ERROR * (1 - ERROR) / trials) ** 0.5


def test_wrong_verdicts_are_as_rare_as_stated_over_many_worlds() -> None:
    rng, trials = random.Random(1), 8
    worlds = random_worlds(60)
    answers = [(here, pilot_in(here, rng)) for here in worlds for _ in range(trials)]
    assert sum(here.is_wrong(answer) for here, answer in answers) <= ERROR * len(answers)
    # The error is not low because the pilot never decides.
    decided = [answer for _, answer in answers if answer is not Usefulness.UNKNOWN]
    assert len(decided) > len(answers) / 2
    assert set(decided) == {Usefulness.YES, Usefulness.NO}


def test_no_verdict_is_both_right_and_wrong() -> None:
    for here in (*BORDERLINE.values(), *random_worlds(300)):
        assert not (here.is_wrong(Usefulness.NO) and here.is_wrong(Usefulness.YES))


def test_a_model_that_is_almost_never_right_gets_a_no_early() -> None:
    verdict = judge(PilotCounts(n=56, right=1, wrong=2, greedy=1, won=1, lost=0))
    assert verdict.answer is Usefulness.NO
    assert verdict.obstacles[0] is Obstacle.FEW_RIGHT_LABELS


def test_a_model_that_keeps_nothing_gets_a_no_for_its_labels() -> None:
    verdict = judge(PilotCounts(n=32, right=0, wrong=0, greedy=3, won=2, lost=0))
    assert verdict.answer is Usefulness.NO
    assert verdict.obstacles == (Obstacle.FEW_RIGHT_LABELS,)


def test_a_model_that_is_right_on_everything_gets_a_no_because_nothing_is_left_to_learn() -> None:
    verdict = judge(PilotCounts(n=80, right=80, wrong=0, greedy=80, won=0, lost=0))
    assert verdict.answer is Usefulness.NO
    assert verdict.obstacles[0] is Obstacle.NEARLY_ALL_RIGHT


def test_a_model_that_agrees_on_wrong_answers_gets_a_no_for_them() -> None:
    verdict = judge(PilotCounts(n=60, right=12, wrong=40, greedy=12, won=2, lost=2))
    assert verdict.answer is Usefulness.NO
    assert Obstacle.WRONG_LABELS in verdict.obstacles


def test_a_model_with_labels_and_headroom_gets_a_yes() -> None:
    verdict = judge(PilotCounts(n=45, right=25, wrong=4, greedy=18, won=12, lost=1))
    assert verdict.answer is Usefulness.YES
    assert verdict.obstacles == ()
    assert verdict.questions == 45
    assert verdict.error == ERROR


def test_a_verdict_that_is_certain_cannot_change_and_the_pilot_stops() -> None:
    assert not can_change(PilotCounts(n=45, right=25, wrong=4, greedy=18, won=12, lost=1), 35)
    assert can_change(PilotCounts(n=10, right=3, wrong=1, greedy=3, won=1, lost=1), 70)


def test_a_pilot_stops_when_the_questions_left_are_too_few_for_a_verdict() -> None:
    undecided = PilotCounts(n=78, right=20, wrong=4, greedy=30, won=6, lost=5)
    assert judge(undecided).answer is Usefulness.UNKNOWN
    assert not can_change(undecided, 2)
    assert not can_change(undecided, 0)


def test_whatever_the_last_questions_show_a_verdict_that_cannot_change_does_not() -> None:
    rng = random.Random(5)
    for here in random_worlds(40):
        counts = observed(Counter(rng.choices(KINDS, here.shares, k=40)))
        if can_change(counts, 6) or judge(counts).answer is not Usefulness.UNKNOWN:
            continue
        for _ in range(20):
            more = rng.choices(KINDS, k=6)
            kinds = Counter(more)
            added = observed(kinds)
            total = PilotCounts(
                *(
                    getattr(counts, name) + getattr(added, name)
                    for name in ("n", "right", "wrong", "greedy", "won", "lost")
                )
            )
            assert judge(total).answer is Usefulness.UNKNOWN


def test_the_yield_has_intervals_even_when_nothing_is_kept() -> None:
    nothing = label_yield(40, 0, 0)
    assert (nothing.precision_low, nothing.precision_high) == (0, 1)
    assert nothing.kept_high < 0.1
    some = label_yield(40, 10, 8)
    assert some.right_low < 0.2 < some.right_high
    assert some.precision_low < 0.8 < some.precision_high


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="impossible"):
        PilotCounts(n=3, right=2, wrong=2, greedy=0, won=0, lost=0)
    with pytest.raises(ValueError, match="impossible"):
        PilotCounts(n=3, right=0, wrong=0, greedy=1, won=0, lost=2)
