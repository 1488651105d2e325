"""A study of arms as text: the parts of a gain, and doubt where the interval leaves it."""

from __future__ import annotations

from engine.evaluation.arm_gains import ArmGains, ArmStudy, TrainedArm, sentence
from engine.statistics.intervals import Paired, paired
from lmsi_tui.formatting.study_text import arm_lines, headlines
from store.enums import Arm, Method, Split


def gain(won: int, lost: int, n: int = 200) -> Paired:
    before = [False] * won + [True] * lost + [False] * (n - won - lost)
    after = [True] * won + [False] * lost + [False] * (n - won - lost)
    return paired(before, after)


def a_study(vote: Paired | None, **others: Paired) -> ArmStudy:
    gains = {Arm.VOTED: gain(60, 10)} | {Arm(name): each for name, each in others.items()}
    rows = tuple(
        ArmGains(Split.EVAL, method, k, 0.4, gains, vote)
        for method, k in ((Method.COT, 1), (Method.SC, 8))
    )
    arms = tuple(TrainedArm(arm, f"m/{arm}", 50, 100) for arm in gains)
    return ArmStudy("m/base", 16, arms, rows)


def test_a_gain_is_divided_into_what_training_gives_and_what_the_vote_adds() -> None:
    study = a_study(gain(50, 20), unvoted=gain(30, 10), random=gain(5, 25))
    assert headlines(study)[0] == (
        "Of +25.0 points (greedy), unvoted training alone gives +10.0, and the vote adds +15.0 "
        "(+6.9 to +22.9)."
    )
    assert "majority of 8 paths" in headlines(study)[1]
    lines = arm_lines(study)
    assert any(line.startswith("  random") and "+5 -25" in line for line in lines)
    assert any(line.startswith("  the vote adds") for line in lines)


def test_a_vote_that_may_add_nothing_is_not_credited() -> None:
    says = sentence(a_study(gain(21, 20), unvoted=gain(59, 10)).gains[0])
    assert says.endswith("not shown to differ from 0.")


def test_without_the_unvoted_arm_nothing_is_said_about_the_vote() -> None:
    study = a_study(None, random=gain(5, 25))
    assert "not known what the vote adds" in headlines(study)[0]
    assert not any("the vote adds +" in line for line in arm_lines(study))
