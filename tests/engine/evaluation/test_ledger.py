"""The ledger: classes and flips of questions, and what sampling noise explains."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.evaluation import ledger
from engine.evaluation.ledger import RoundVote, Transition, classify, entry_of, is_flip, transition
from engine.evaluation.ledger_choices import LedgerSort, QuestionClass
from engine.jobs import curate, sample
from engine.sampling import runs
from engine.voting.majority import count_vote
from store import examples, models, paths, questions, votes
from store.connection import connect, transaction
from store.enums import AnswerType, Decision, EarlyStop, JobKind, Split, Stage
from store.records import Vote, content_hash
from tests.projects import TEACHER, a_question, claimed, scripted_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from engine.project.folder import Project
    from store.records import Model

ROUND_VOTES = st.builds(
    lambda answer, top, more, kept: RoundVote(answer, top, top + more, kept),
    st.sampled_from(["1", "2", None]),
    st.integers(1, 32),
    st.integers(0, 32),
    st.booleans(),
)


def cast(answer: str | None, top: int, drawn: int, kept: bool = True) -> RoundVote:
    return RoundVote(answer, top, drawn, kept)


# Classes and flips.


@pytest.mark.parametrize(
    ("by_round", "expected"),
    [
        ([cast("7", 20, 20)], QuestionClass.SOLVED),
        ([cast("7", 8, 8)], QuestionClass.LEARNABLE),  # one vote of eight is too little evidence
        ([cast("7", 8, 8), cast("7", 8, 8)], QuestionClass.SOLVED),
        ([cast("7", 20, 20), cast("8", 20, 20)], QuestionClass.LEARNABLE),
        ([cast("7", 2, 20, False), cast("8", 20, 20), cast("8", 20, 20)], QuestionClass.SOLVED),
        ([cast("7", 20, 32), cast("7", 20, 32)], QuestionClass.LEARNABLE),
        ([cast("7", 4, 13, False)], QuestionClass.LEARNABLE),
        ([cast("7", 4, 13, False), cast(None, 3, 13, False)], QuestionClass.HOPELESS),
        ([cast("7", 16, 32, False), cast("7", 16, 32, False)], QuestionClass.HOPELESS),
        ([cast("7", 17, 32, False), cast("7", 5, 32, False)], QuestionClass.LEARNABLE),
        ([None, cast("7", 20, 20), None], QuestionClass.SOLVED),
    ],
)
def test_a_question_is_solved_learnable_or_hopeless(
    by_round: list[RoundVote | None], expected: QuestionClass
) -> None:
    assert classify(by_round) is expected


@given(st.lists(ROUND_VOTES, min_size=1, max_size=4))
def test_classes_follow_from_the_last_rounds_and_majorities(by_round: list[RoundVote]) -> None:
    kind = classify(by_round)
    if kind is QuestionClass.SOLVED:
        assert len({vote.answer for vote in by_round[-2:]}) == 1
        assert all(vote.share > 0.5 for vote in by_round[-2:])
        assert kind is classify(by_round[-2:]), "older rounds do not matter"
    if kind is QuestionClass.HOPELESS:
        assert len(by_round) > 1
        assert not any(vote.has_majority for vote in by_round)
    # Rounds without a vote change nothing.
    assert classify([None, *by_round]) is kind


@given(ROUND_VOTES, ROUND_VOTES)
def test_a_flip_needs_two_majorities_the_first_of_them_kept(
    before: RoundVote, after: RoundVote
) -> None:
    if is_flip(before, after):
        assert before.kept
        assert before.answer != after.answer
        assert min(before.share, after.share) > 0.5
    assert not is_flip(before, before)
    assert not is_flip(None, after)
    assert not is_flip(before, None)
    assert entry_of(1, [before, after]).flips == is_flip(before, after)


def test_questions_are_filtered_and_sorted() -> None:
    settled = [cast("7", 20, 20), cast("7", 20, 20)]
    hopeless = [cast("7", 4, 13, False), cast(None, 3, 13, False)]
    entries = [
        entry_of(1, settled),
        entry_of(2, hopeless),
        entry_of(3, [cast("7", 20, 20), cast("8", 12, 20)]),
        entry_of(4, [cast("7", 20, 20), cast("8", 11, 20)]),
    ]

    def ids(**chosen: object) -> list[int]:
        return [each.question_id for each in ledger.ordered(entries, **chosen)]  # type: ignore[arg-type]

    assert ids() == [4, 3, 2, 1]
    assert ids(sort=LedgerSort.AGREEMENT) == [2, 4, 3, 1]
    assert ids(sort=LedgerSort.IMPORTED) == [1, 2, 3, 4]
    assert ids(flipped=True) == [4, 3]
    assert ids(question_class=QuestionClass.HOPELESS) == [2]


# Transitions and noise.


def vote_of(id_: int, answers: Sequence[str], threshold: str = "0.6") -> Vote:
    return count_vote(
        answers,
        run_id=1,
        question_id=id_,
        m=len(answers),
        rule=EarlyStop.OFF,
        threshold=threshold,
        cap=0,
        epsilon=0.0,
        reader="number/3",
    )


def votes_drawn(dice: random.Random, shares: Sequence[float], m: int = 16) -> dict[int, Vote]:
    """A vote on each question: answer 1 with this probability, else 2."""
    return {
        id_: vote_of(id_, ["1" if dice.random() < share else "2" for _ in range(m)])
        for id_, share in enumerate(shares)
    }


def test_every_question_has_one_fate() -> None:
    dice = random.Random(1)
    shares = [dice.random() for _ in range(500)]
    before, after = votes_drawn(dice, shares), votes_drawn(dice, shares)
    changes = transition(before, after, "0.6")
    assert changes.voted == 500
    assert changes.kept == sum(vote.decision is Decision.KEEP for vote in before.values())
    assert changes.held + changes.flipped + changes.lost == changes.kept
    kept_after = sum(vote.decision is Decision.KEEP for vote in after.values())
    assert changes.gained <= kept_after
    partly = {id_: after[id_] for id_ in range(100)}
    assert transition(before, partly, "0.6").voted == 100


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.25, 0.5])
def test_noise_is_not_underestimated_and_raises_no_alarm(spread: float) -> None:
    # The worst population for other estimates: all questions near a tie, some of them kept.
    dice = random.Random(7)
    observed, expected, alarms = 0, 0.0, 0
    for _ in range(20):
        shares = [0.5 + dice.uniform(-spread, spread) for _ in range(150)]
        changes = transition(votes_drawn(dice, shares), votes_drawn(dice, shares), "0.6")
        observed += changes.flipped
        expected += changes.noise
        alarms += changes.is_alarming
    assert observed <= 1.05 * expected
    assert alarms <= 1


def test_a_model_that_gives_up_its_answers_raises_an_alarm() -> None:
    dice = random.Random(3)
    shares = [0.95] * 150 + [0.3 + 0.4 * dice.random() for _ in range(50)]
    before = votes_drawn(dice, shares)
    quiet = transition(before, votes_drawn(dice, shares), "0.6")
    assert not quiet.is_alarming
    assert quiet.alarm() is None
    collapsing = votes_drawn(
        dice, [0.05 if id_ < 15 else share for id_, share in enumerate(shares)]
    )
    changes = transition(before, collapsing, "0.6")
    assert changes.flipped >= 15
    assert changes.is_alarming
    assert str(changes.flipped) in str(changes.alarm())


def test_few_flips_raise_no_alarm_however_unlikely_they_are() -> None:
    assert not Transition(1000, 1000, 985, 15, 0, 0.0).is_alarming, "under two per cent"
    assert Transition(1000, 1000, 970, 30, 0, 0.0).is_alarming
    assert not Transition(10, 10, 8, 2, 0, 0.0).is_alarming, "two questions"
    assert Transition(10, 10, 7, 3, 0, 0.0).is_alarming


# From the store.

POOL = 12
BASE = {i: str(i) for i in range(POOL)}
"""The answer of every question."""


def script(answers: Mapping[int, str]) -> str:
    """Nearly unanimous paths; the other questions have scattered answers."""
    rules = [
        {
            "contains": a_question(i).text,
            "answers": {answer: 1.0},
            "texts": [" So. The answer is {answer}."],
        }
        for i, answer in answers.items()
    ]
    scattered = {str(9000 + i): 1.0 for i in range(40)}
    rules.append({"contains": "", "answers": scattered, "texts": [" The answer is {answer}."]})
    return json.dumps({"context": 8192, "slots": 8, "rules": rules})


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return scripted_project(tmp_path, pool=POOL, changes={"sample": {"m": 8}})


@pytest.fixture
def conn(project: Project) -> Iterator[sqlite3.Connection]:
    with connect(project.database) as opened:
        yield opened


def teacher_with(project: Project, answers: Mapping[int, str]) -> None:
    (project.folder / "models" / "script.json").write_text(script(answers))


def trained_on_votes_of(
    project: Project, conn: sqlite3.Connection, model: Model, name: str, answers: Mapping[int, str]
) -> Model:
    """Curate a model's votes; a model that learned from them gives these answers."""
    curate.curate_votes(claimed(conn, project, JobKind.CURATE, of=name), model)
    path = project.folder / "models" / f"{name}.json"
    path.write_text(script(answers))
    base = models.by_name(conn, TEACHER)
    assert base is not None
    trained = replace(
        base,
        id=0,
        name=f"scripted/{name}",
        stage=Stage.LMSI,
        location=project.stored(path),
        sha256=content_hash([name]),
        base_id=base.id,
        training_set=examples.sets(conn)[-1].key,
        created_at=time.time(),
    )
    with transaction(conn):
        return models.add(conn, trained)


def sampled(project: Project, conn: sqlite3.Connection, model: Model) -> None:
    sample.sample_pool(claimed(conn, project, JobKind.SAMPLE, of=model.name), model)


def rounds_of(project: Project, conn: sqlite3.Connection, *by_round: Mapping[int, str]) -> None:
    """Sample a model for each round, each trained on the votes of the one before."""
    teacher_with(project, by_round[0])
    model = models.by_name(conn, TEACHER)
    assert model is not None
    sampled(project, conn, model)
    for number, answers in enumerate(by_round[1:], 1):
        model = trained_on_votes_of(project, conn, model, f"lmsi-{number}", answers)
        sampled(project, conn, model)


def test_an_empty_project_has_an_empty_ledger(project: Project, conn: sqlite3.Connection) -> None:
    found = ledger.read(conn, project)
    assert found.rounds == ()
    assert found.entries == ()
    assert sum(found.counts().values()) == 0


def test_flips_are_found_without_labels(project: Project, conn: sqlite3.Connection) -> None:
    first = {i: answer for i, answer in BASE.items() if i < 9}
    second = {**BASE, 2: "777", 5: "777"}
    second.pop(11)
    rounds_of(project, conn, first, second)
    found = ledger.read(conn, project)
    assert [of_round.model for of_round in found.rounds] == [TEACHER, "scripted/lmsi-1"]
    assert [of_round.kept for of_round in found.rounds] == [9, 11]
    changes = found.rounds[1].transition
    assert changes is not None
    assert (changes.voted, changes.kept, changes.held) == (12, 9, 7)
    assert (changes.flipped, changes.lost, changes.gained) == (2, 0, 2)
    by_position = {
        question.position: each
        for each, question in zip(found.entries, questions.by_split(conn, Split.POOL), strict=True)
        if each.question_id == question.id
    }
    flipped = {position for position, each in by_position.items() if each.flips}
    assert flipped == {2, 5}, "precision and recall are 1"
    kinds = {position: each.question_class for position, each in by_position.items()}
    assert kinds.pop(11) is QuestionClass.HOPELESS
    assert {kinds.pop(9), kinds.pop(10), kinds.pop(2), kinds.pop(5)} == {QuestionClass.LEARNABLE}
    assert set(kinds.values()) == {QuestionClass.SOLVED}
    assert found.counts()[QuestionClass.SOLVED] == len(kinds)


def test_a_third_round_follows_the_models_that_were_trained(
    project: Project, conn: sqlite3.Connection
) -> None:
    rounds_of(project, conn, BASE, BASE, {**BASE, 1: "777"})
    found = ledger.read(conn, project)
    assert len(found.rounds) == 3
    flips = [of_round.transition and of_round.transition.flipped for of_round in found.rounds]
    assert flips == [None, 0, 1]
    newest = paths.run_by_id(conn, found.rounds[-1].run_id)
    assert ledger.newest_transition(conn, newest) == found.rounds[-1].transition
    oldest = paths.run_by_id(conn, found.rounds[0].run_id)
    assert ledger.newest_transition(conn, oldest) is None


def test_equal_answers_with_other_spellings_are_no_flip(
    tmp_path: Path,
) -> None:
    project = scripted_project(tmp_path, pool=0, changes={"sample": {"m": 8}})
    of_type = [
        a_question(i, task="math", answer_type=AnswerType.MATH, text=a_question(i).text)
        for i in range(4)
    ]
    with connect(project.database) as conn:
        with transaction(conn):
            questions.add(conn, of_type, {})
        rounds_of(project, conn, dict.fromkeys(range(4), "0.5"), dict.fromkeys(range(4), "1/2"))
        found = ledger.read(conn, project)
    assert [each.flips for each in found.entries] == [0] * 4
    assert found.rounds[1].transition is not None
    assert found.rounds[1].transition.held == 4


def test_the_ledger_reads_the_votes_of_a_run_in_one_query(
    project: Project, conn: sqlite3.Connection
) -> None:
    rounds_of(project, conn, BASE, BASE)

    def statements() -> int:
        seen: list[str] = []
        conn.set_trace_callback(seen.append)
        ledger.read(conn, project)
        conn.set_trace_callback(None)
        return len(seen)

    before = statements()
    run_ids = [of_round.run_id for of_round in ledger.read(conn, project).rounds]
    more = [a_question(i) for i in range(POOL, POOL + 40)]
    with transaction(conn):
        questions.add(conn, more, {})
        ids = [question.id for question in questions.by_split(conn, Split.POOL)][POOL:]
        for run_id in run_ids:
            votes.put(
                conn,
                [replace(vote_of(id_, ["7"] * 8), run_id=run_id) for id_ in ids],
            )
    assert len(ledger.read(conn, project).entries) == POOL + 40
    assert statements() == before


def test_a_rejected_model_is_not_in_the_ledger(
    project: Project, conn: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from store import rounds
    from store.enums import Outcome

    rounds_of(project, conn, BASE, BASE)
    rejected = models.by_name(conn, "scripted/lmsi-1")
    assert rejected is not None
    monkeypatch.setattr(rounds, "of_models", lambda _: {rejected.id: Outcome.REJECT})
    assert [of_round.model for of_round in ledger.read(conn, project).rounds] == [TEACHER]


# Thresholds that rise.


def test_later_rounds_have_their_own_thresholds(project: Project, conn: sqlite3.Connection) -> None:
    rounds_of(project, conn, BASE, BASE, BASE)
    chain = [TEACHER, "scripted/lmsi-1", "scripted/lmsi-2"]
    in_order = [model for name in chain if (model := models.by_name(conn, name)) is not None]
    settings = project.settings

    def thresholds(*later: str) -> list[str]:
        chosen = replace(settings.sample, threshold="0.5", later_thresholds=later)
        return [runs.pool_threshold(conn, chosen, model) for model in in_order]

    assert thresholds() == ["0.5", "0.5", "0.5"]
    assert thresholds("0.7") == ["0.5", "0.7", "0.7"]
    assert thresholds("0.6", "0.7") == ["0.5", "0.6", "0.7"]
    assert thresholds("0.6", "0.7", "0.8") == ["0.5", "0.6", "0.7"]
    rising = replace(
        project,
        settings=replace(settings, sample=replace(settings.sample, later_thresholds=("0.7",))),
    )
    for model, expected in zip(in_order, ["0.6", "0.7", "0.7"], strict=True):
        requested = runs.requested_pool_run(conn, rising, model)
        assert requested.threshold == expected
        assert requested.key == runs.requested_pool_run(conn, project, model).key
