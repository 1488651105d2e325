"""Rounds through the real stages: a scripted engine plays the models, only training is played."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from engine.conversion import export
from engine.evaluation import acceptance, accuracy
from engine.jobs import curate, evaluate, lookups, rounds, sample, train
from engine.reports import document, model_tree, project_report, rendering, summary
from engine.sampling import runs
from store import examples, jobs, models, paths, questions
from store import rounds as rows
from store.connection import connect, transaction
from store.enums import JobKind, JobState, Outcome, Split, Stage
from store.errors import BadInput
from store.records import RoundDecision, content_hash
from tests.projects import TEACHER, a_question, claimed, scripted_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from engine.project.folder import Project
    from engine.project.job_context import Work
    from engine.project.settings import TrainSettings
    from store.records import Model, TrainingSet

Json = dict[str, object]

N = 100
"""Evaluation questions."""


@dataclass(frozen=True, slots=True)
class Like:
    """What a model is like."""

    right: int
    """Evaluation questions that it gets right, the first ones."""
    spread: int
    """Forms of its wrong answers."""
    elsewhere: int = 0
    """Out-of-domain questions that it gets right."""
    agreement: float = 6.0
    """Weight of the pool's majority against one other answer of weight 1."""


def script(like: Like, pool: int) -> str:
    def rule(contains: str, answers: dict[str, float]) -> Json:
        return {"contains": contains, "answers": answers, "texts": [" So. The answer is {answer}."]}

    evaluated = [rule(a_question(i, Split.EVAL).text, {str(i): 1.0}) for i in range(like.right)]
    evaluated += [rule(a_question(i, Split.OOD).text, {str(i): 1.0}) for i in range(like.elsewhere)]
    voted = [rule(a_question(i).text, {str(i): like.agreement, "7777": 1.0}) for i in range(pool)]
    wrong = {str(9000 + i): 1.0 for i in range(like.spread)}
    rules = [*evaluated, *voted, rule("", wrong)]
    return json.dumps({"context": 8192, "slots": 8, "rules": rules})


@dataclass
class Story:
    """A project whose n-th training makes the n-th of some models."""

    project: Project
    conn: sqlite3.Connection
    coming: list[Like]
    trained: int = 0

    def go(self, **params: object) -> Json:
        """Do a job of rounds, as the worker does."""
        work = claimed(self.conn, self.project, JobKind.ROUND, **params)
        result = rounds.run(work)
        jobs.finish(self.conn, work.progress.job_id, JobState.DONE, "done", None, result)
        return result

    def play(
        self, work: Work, base: Model, frozen: TrainingSet, _: TrainSettings, stage: Stage
    ) -> Json:
        """Replaces training: the same set again gives the same model."""
        for model in models.all_of(work.conn):
            if (model.training_set, model.base_id) == (frozen.key, base.id):
                return {"model": model.name, "trained_before": True}
        assert base.name == TEACHER, "adapters are never stacked"
        self.trained += 1
        path = self.project.folder / "models" / f"{self.trained}.json"
        path.write_text(script(self.coming[self.trained - 1], 6))
        trained = replace(
            base,
            id=0,
            name=f"scripted/lmsi-{self.trained}",
            stage=stage,
            location=self.project.stored(path),
            sha256=content_hash([self.trained, path.read_text()]),
            base_id=base.id,
            training_set=frozen.key,
            created_at=time.time(),
        )
        with transaction(work.conn):
            models.add(work.conn, trained)
        return {"model": trained.name, "trained_before": False}

    def verdicts(self) -> list[Outcome]:
        return list(rows.verdicts(self.conn).values())


def story_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    base: Like,
    coming: Sequence[Like],
    *,
    evaluation: int = N,
    elsewhere: int = 0,
) -> Iterator[Story]:
    project = scripted_project(
        tmp_path, pool=6, evaluation=evaluation, changes={"sample": {"m": 4}, "evaluate": {"k": 2}}
    )
    path = project.folder / "models" / "script.json"
    path.write_text(script(base, 6))
    with connect(project.database) as conn:
        if elsewhere:
            imported = [a_question(i, Split.OOD) for i in range(elsewhere)]
            with transaction(conn):
                questions.add(
                    conn,
                    imported,
                    {question.key: (str(question.position),) for question in imported},
                )
        story = Story(project, conn, list(coming))
        # Scripts have no weights to train.
        monkeypatch.setattr(lookups, "check_trainable", lambda *_: None)
        monkeypatch.setattr(train, "train_model", story.play)
        yield story


COLLAPSE = [Like(55, 20), Like(75, 10), Like(60, 1), Like(30, 1)]


@pytest.fixture
def collapse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    """Right answers of 100: 40, 55, 75, then 60 while agreement still rises."""
    yield from story_of(tmp_path, monkeypatch, Like(40, 40), COLLAPSE)


@pytest.fixture
def open_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    """One more right answer of 20 decides nothing; the model after that is much better."""
    coming = [Like(6, 5), Like(18, 5)]
    yield from story_of(tmp_path, monkeypatch, Like(5, 5), coming, evaluation=20)


def test_the_acceptance_test_stops_a_collapse_at_the_right_round(collapse: Story) -> None:
    result = collapse.go(rounds=9)
    assert collapse.verdicts() == [Outcome.ACCEPT, Outcome.ACCEPT, Outcome.REJECT]
    assert collapse.trained == 3, "nothing is trained after the round that was rejected"
    decided = acceptance.round_results(collapse.conn)
    assert acceptance.last_accepted(rows.verdicts(collapse.conn)) == 2
    # Each round samples with the last accepted model, and is measured against it.
    before = [TEACHER, "scripted/lmsi-1", "scripted/lmsi-2"]
    assert [decided_round.sampled for decided_round in decided] == before
    assert [decided_round.test.before for decided_round in decided] == before
    # The collapse is seen without labels, too.
    assert any("no audit shows" in alarm for alarm in decided[-1].test.alarms)
    assert "Worse than scripted/lmsi-2 on 100 evaluation questions" in decided[-1].test.reason
    verdicts = [made["verdict"] for made in result["rounds"]]  # type: ignore[attr-defined]
    assert verdicts == ["accept", "accept", "reject"]


def test_a_rejected_model_is_stored_but_not_used(collapse: Story) -> None:
    collapse.go(rounds=9)
    conn = collapse.conn
    tree = model_tree.read(conn)
    assert tree.in_use is not None
    assert tree.in_use.name == "scripted/lmsi-2"
    assert "scripted/lmsi-3" in [model.name for model in tree.models]
    assert export.trained_model(conn, None).name == "scripted/lmsi-2"
    assert export.trained_model(conn, "scripted/lmsi-3").name == "scripted/lmsi-3"
    measured = evaluate.run(claimed(conn, collapse.project, JobKind.EVALUATE))["evaluations"]
    assert isinstance(measured, list)
    names = {evaluation["model"] for evaluation in measured}
    assert names == {TEACHER, "scripted/lmsi-1", "scripted/lmsi-2"}
    pairs = {(comparison.before, comparison.after) for comparison in accuracy.comparisons(conn)}
    assert {("scripted/lmsi-1", "scripted/lmsi-2"), ("scripted/lmsi-2", "scripted/lmsi-3")} < pairs
    # A person who goes on by hand goes on with the votes of the round that began last.
    teacher = models.by_name(conn, TEACHER)
    assert teacher is not None
    assert runs.sampling_model(conn, teacher).name == "scripted/lmsi-2"


def test_paths_of_a_rejected_model_are_not_trained_on(collapse: Story) -> None:
    collapse.go(rounds=9)
    conn, project = collapse.conn, collapse.project
    rejected, teacher = models.by_name(conn, "scripted/lmsi-3"), models.by_name(conn, TEACHER)
    assert rejected is not None
    assert teacher is not None
    best = examples.sets(conn)[-1]
    work = claimed(conn, project, JobKind.CURATE)
    sample.sample_pool(work, rejected)
    curate.curate_votes(work, rejected)
    assert examples.sets(conn)[-1] != best
    again = train.finetune(work)
    assert again == {"model": "scripted/lmsi-3", "trained_before": True}, "which learnt from lmsi-2"


def test_a_round_that_was_decided_is_not_decided_again(collapse: Story) -> None:
    collapse.go(rounds=1)
    (first,) = rows.all_of(collapse.conn)
    assert collapse.go(rounds=1)["rounds"] == collapse.go(rounds=1)["rounds"]
    assert rows.all_of(collapse.conn) == [first]
    collapse.go()
    assert len(rows.all_of(collapse.conn)) == 2, "without a number, one more"
    collapse.go()
    third = rows.all_of(collapse.conn)
    assert collapse.go()["decided_before"] == 3, "after a rejection the next one is the same"
    assert rows.all_of(collapse.conn) == third


def test_an_interrupted_round_continues_where_it_stopped(
    collapse: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(Exception):
        pass

    def cut(*_: object, **__: object) -> None:
        raise Cut

    conn, project = collapse.conn, collapse.project
    work = claimed(conn, project, JobKind.ROUND)
    with monkeypatch.context() as patched:
        patched.setattr(acceptance, "assess", cut)
        with pytest.raises(Cut):
            rounds.run(work)
    assert rows.all_of(conn) == []
    drawn = {run.key: paths.counts(conn, run.id) for run in paths.runs(conn)}
    rounds.run(work)
    assert {run.key: paths.counts(conn, run.id) for run in paths.runs(conn)} == drawn
    assert [row.number for row in rows.all_of(conn)] == [1]
    rounds.run(work)
    assert [row.number for row in rows.all_of(conn)] == [1], "killed after the decision"
    assert collapse.trained == 1


def test_the_accepted_model_is_exported_although_a_student_is_newer(collapse: Story) -> None:
    collapse.go()
    accepted = models.by_name(collapse.conn, "scripted/lmsi-1")
    assert accepted is not None
    student = replace(
        accepted, id=0, name="small/lmsi", sha256="5", created_at=accepted.created_at + 60
    )
    with transaction(collapse.conn):
        models.add(collapse.conn, student)
    assert export.trained_model(collapse.conn, None).name == "scripted/lmsi-1"
    assert export.trained_model(collapse.conn, "small/lmsi").name == "small/lmsi"


def test_an_undecided_round_stops_and_accepts_nothing(open_: Story) -> None:
    open_.go(rounds=5)
    assert open_.verdicts() == [Outcome.UNDECIDED]
    (decided_round,) = acceptance.round_results(open_.conn)
    judged = decided_round.test
    assert judged.needed is not None
    assert judged.gain is not None
    assert judged.needed > judged.gain.n
    assert f"about {judged.needed:,} questions would confirm it" in judged.reason
    assert judged.detectable is None, "so few could not have shown any gain"
    assert model_tree.read(open_.conn).in_use is None
    with pytest.raises(BadInput, match="round --accept"):
        export.trained_model(open_.conn, None)


def test_a_user_accepts_an_undecided_round_by_a_later_row(open_: Story) -> None:
    open_.go()
    rows.decide(open_.conn, RoundDecision(0, 1, Outcome.ACCEPT, time.time()))
    (decided_round,) = acceptance.round_results(open_.conn)
    assert (decided_round.verdict, decided_round.by_user) == (Outcome.ACCEPT, True)
    assert decided_round.test.outcome is Outcome.UNDECIDED, "the result of the test stays"
    assert export.trained_model(open_.conn, None).name == "scripted/lmsi-1"
    open_.go()
    assert acceptance.round_results(open_.conn)[1].sampled == "scripted/lmsi-1"
    rows.decide(open_.conn, RoundDecision(0, 1, Outcome.REJECT, time.time()))
    assert open_.verdicts() == [Outcome.REJECT, Outcome.ACCEPT]


def test_rounds_continue_past_an_undecided_one_on_request(open_: Story) -> None:
    open_.go(rounds=2, past_undecided=True)
    first, second = acceptance.round_results(open_.conn)
    assert (first.verdict, second.verdict) == (Outcome.UNDECIDED, Outcome.ACCEPT)
    assert second.sampled == "scripted/lmsi-1", "the candidate is sampled"
    assert second.test.before == TEACHER, "and what was accepted last is measured against"


def test_a_loss_out_of_domain_rejects_a_gain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, after = Like(20, 5, elsewhere=50), Like(50, 5, elsewhere=20)
    for story in story_of(tmp_path, monkeypatch, base, [after], evaluation=60, elsewhere=60):
        story.go(rounds=3)
        assert story.verdicts() == [Outcome.REJECT]
        (decided_round,) = acceptance.round_results(story.conn)
        assert "on 60 out-of-domain questions" in decided_round.test.reason


def test_without_known_answers_only_the_alarms_speak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, after = Like(0, 5, agreement=3.0), Like(0, 5, agreement=60.0)
    for story in story_of(tmp_path, monkeypatch, base, [after], evaluation=0):
        story.go(rounds=3)
        assert story.verdicts() == [Outcome.UNDECIDED]
        (decided_round,) = acceptance.round_results(story.conn)
        assert "no evaluation questions with known answers" in decided_round.test.reason
        assert decided_round.test.gain is None
        assert any("Agreement rose" in alarm for alarm in decided_round.test.alarms)
        assert "nothing was tested" in rendering.markdown(
            project_report.build(story.project, story.conn)
        )


def test_another_evaluation_set_is_noticed_and_decides_the_round_anew(open_: Story) -> None:
    open_.go()
    more = [a_question(100 + i, Split.EVAL) for i in range(10)]
    with transaction(open_.conn):
        questions.add(
            open_.conn, more, {question.key: (str(question.position),) for question in more}
        )
    open_.go()
    first, second = acceptance.round_results(open_.conn)
    assert (first.trained, second.trained) == ("scripted/lmsi-1", "scripted/lmsi-1")
    assert first.test.evaluation != second.test.evaluation
    assert any("not that of round 1 (20 questions then, 30 now)" in n for n in second.test.notes)
    assert second.test.gain is not None
    assert second.test.gain.n == 30


def test_what_the_test_could_see_is_told_before(collapse: Story) -> None:
    measured = runs.measured_questions(collapse.conn, collapse.project.settings)
    before = acceptance.estimate_power(collapse.conn, measured)
    assert not before.measured
    sentence = acceptance.describe_power(before)
    assert all(fact in sentence for fact in ("100 evaluation questions", "20 %", "an assumption"))
    collapse.go()
    (decided_round,) = acceptance.round_results(collapse.conn)
    assert decided_round.test.detectable == before.detectable
    after = acceptance.estimate_power(collapse.conn, measured)
    assert after.measured
    assert after.changes == 15 / 100
    assert "no test can accept" in acceptance.describe_power(
        acceptance.estimate_power(collapse.conn, [])
    )
    assert "no gain can be detected" in acceptance.describe_power(
        acceptance.estimate_power(collapse.conn, measured[:3])
    )


def test_the_report_tells_every_round(collapse: Story) -> None:
    collapse.go(rounds=3)
    report = project_report.build(collapse.project, collapse.conn)
    section = next(section for section in report.sections if section.title == "Rounds")
    text = rendering.markdown(document.Document("", (section,)))
    assert (
        "| 3 | scripted/lmsi-2 | scripted/lmsi-3 | reject | scripted/lmsi-2 | 100 | -15.0" in text
    )
    assert "In use: scripted/lmsi-2." in text
    assert "Round 3, label-free alarms: Agreement rose" in text
    assert "Acceptance tests" not in [section.title for section in report.sections]
    event = summary.as_event(collapse.conn, 0)
    verdicts = [made["verdict"] for made in event["rounds"]]  # type: ignore[attr-defined]
    assert verdicts == ["accept", "accept", "reject"]
    assert json.loads(json.dumps(event)) == event


def test_the_report_gives_the_commands_of_rounds_and_decisions_in_their_order(open_: Story) -> None:
    open_.go()
    rows.decide(open_.conn, RoundDecision(0, 1, Outcome.ACCEPT, time.time()))
    open_.go()
    report = project_report.build(open_.project, open_.conn).sections[-1]
    code = next(block for block in report.blocks if isinstance(block, document.Code))
    again = ["lmsi-tui round", "lmsi-tui round --accept 1", "lmsi-tui round"]
    assert code.text.splitlines() == again


def test_a_judgement_comes_back_from_what_is_stored(collapse: Story) -> None:
    collapse.go(rounds=3)
    for row in rows.all_of(collapse.conn):
        judged = acceptance.AcceptanceTest.from_json(row.details)
        assert json.loads(json.dumps(judged.as_json())) == row.details
        assert judged.outcome is row.verdict


def test_answers_that_a_model_gave_up_raise_an_alarm_before_accuracy_falls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Like(40, 40, agreement=200.0)
    # The first model is better where it is measured, but contradicts what it was trained on.
    coming = [Like(55, 20, agreement=0.005), Like(75, 10), Like(30, 1)]
    for story in story_of(tmp_path, monkeypatch, base, coming):
        story.go(rounds=3)
        assert story.verdicts() == [Outcome.ACCEPT, Outcome.ACCEPT, Outcome.REJECT]
        first, second, _ = acceptance.round_results(story.conn)
        assert not any("trained on" in alarm for alarm in first.test.alarms)
        assert any("6 of 6 questions" in alarm for alarm in second.test.alarms)


def test_a_later_round_keeps_at_its_own_threshold(collapse: Story) -> None:
    settings = {"sample": {"later_thresholds": ["0.75"]}}
    collapse.go(rounds=2, settings=settings)
    first, second = examples.sets(collapse.conn)
    assert (first.threshold, second.threshold) == ("0.6", "0.75")
    # A stage that follows a round uses the same threshold.
    sampler = models.by_name(collapse.conn, "scripted/lmsi-1")
    assert sampler is not None
    work = claimed(collapse.conn, collapse.project, JobKind.CURATE, settings=settings)
    curated = curate.curate_votes(work, sampler)
    assert curated["training_set"] == second.key
