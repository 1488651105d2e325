"""Provenance: an example traced to its source, what depends on it, and sets rebuilt exactly."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING

import pytest

from engine.jobs import curate, sample
from engine.project.folder import open_project
from engine.review.audit import accepts
from engine.training_data import provenance
from lmsi_tui.cli.main import run as typed
from store import examples, inference_sessions, jobs, models, paths, questions, reviews, votes
from store.connection import connect, transaction
from store.enums import JobKind, JobState, Queue, Split, Stage, Verdict
from store.errors import BadInput
from store.records import Review, TrainingSet
from tests.projects import TEACHER, claimed, scripted_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.folder import Project
    from store.records import Question


def decide(
    conn: sqlite3.Connection,
    question: Question,
    verdict: Verdict,
    answer: str | None = None,
    queue: Queue = Queue.TRIAGE,
) -> Review:
    review = Review(0, question.id, 1, queue, verdict, answer, None, None, 2.0, time.time())
    return reviews.add(conn, review)


@dataclasses.dataclass
class Story:
    """A project that was sampled, reviewed and curated."""

    project: Project
    conn: sqlite3.Connection
    frozen: TrainingSet
    pool: list[Question]


def curated(project: Project, conn: sqlite3.Connection, **changes: object) -> TrainingSet:
    work = claimed(conn, project, JobKind.CURATE, settings=changes)
    result = curate.run(work)
    jobs.finish(conn, work.progress.job_id, JobState.DONE, "done", None, result)
    frozen = examples.get_set(conn, str(result["training_set"]))
    assert frozen is not None
    return frozen


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    project = scripted_project(tmp_path, pool=40)
    with connect(project.database) as conn:
        sample.run(claimed(conn, project, JobKind.SAMPLE))
        pool = questions.by_split(conn, Split.POOL)
        decide(conn, pool[0], Verdict.TYPED, "0")
        decide(conn, pool[1], Verdict.NONE)
        decide(conn, pool[4], Verdict.ANSWER, "6")
        decide(conn, pool[5], Verdict.MAJORITY, queue=Queue.AUDIT)
        frozen = curated(project, conn)
        yield Story(project, conn, frozen, pool)


def rebuilt(project: Project, frozen: TrainingSet) -> provenance.RebuiltSet:
    with connect(project.database, read_only=True, training=True) as conn:
        return provenance.rebuild(project, conn, frozen)


def test_a_rebuilt_set_has_the_same_key(story: Story) -> None:
    assert rebuilt(story.project, story.frozen).same


@pytest.mark.parametrize(
    "changes",
    [
        {"sample": {"threshold": "0.9"}},
        {"sample": {"cap": 2}},
        {"curate": {"weighting": "per-question"}},
        {"curate": {"validation_share": 0.3}},
        {"sample": {"m": 5}},
        {"curate": {"formats": ["zero-shot-direct", "few-shot-cot"]}},
    ],
)
def test_sets_of_other_settings_are_rebuilt_exactly(
    story: Story, changes: dict[str, object]
) -> None:
    frozen = curated(story.project, story.conn, **changes)
    assert frozen.key != story.frozen.key
    assert rebuilt(story.project, frozen).same
    assert rebuilt(story.project, story.frozen).same


def test_a_set_from_before_m_and_share_were_stored_uses_the_current_ones(story: Story) -> None:
    older = dataclasses.replace(story.frozen, m=None, validation_share=None)
    assert rebuilt(story.project, older).same


def test_an_audit_of_another_winner_excludes_nothing(story: Story) -> None:
    audit = decide(story.conn, story.pool[6], Verdict.NONE, queue=Queue.AUDIT)
    with_exclusion = curated(story.project, story.conn)
    reviews.add(story.conn, dataclasses.replace(audit, id=0, verdict=Verdict.UNDO, undoes=audit.id))
    reviews.add(story.conn, dataclasses.replace(audit, id=0, winner="another"))
    assert curated(story.project, story.conn).questions == with_exclusion.questions + 1


def test_later_reviews_do_not_change_a_rebuilt_set(story: Story) -> None:
    decide(story.conn, story.pool[2], Verdict.NONE)
    decide(story.conn, story.pool[1], Verdict.ANSWER, "1")
    assert rebuilt(story.project, story.frozen).same
    again = curated(story.project, story.conn, curate={"weighting": "per-path"})
    assert again.key != story.frozen.key


def test_a_set_from_which_a_review_excluded_questions_is_not_label_free(tmp_path: Path) -> None:
    project = scripted_project(tmp_path, pool=20)
    with connect(project.database) as conn:
        sample.run(claimed(conn, project, JobKind.SAMPLE))
        (run,) = paths.runs(conn)
        accepted = [vote for vote in votes.for_run(conn, run.id) if accepts(vote, "0.6")]
        question = questions.by_ids(conn, [accepted[0].question_id])[accepted[0].question_id]
        decide(conn, question, Verdict.MAJORITY, queue=Queue.AUDIT)
        assert curated(project, conn).label_free
        decide(conn, question, Verdict.NONE, queue=Queue.AUDIT)
        frozen = curated(project, conn, curate={"weighting": "per-path"})
    assert not frozen.label_free


def test_another_prompt_gives_another_set(story: Story) -> None:
    exemplars = story.project.folder / "examples.toml"
    exemplars.write_text(exemplars.read_text().replace("Count:", "Think:"))
    again = rebuilt(story.project, story.frozen)
    assert not again.same
    assert again.key is not None


def test_an_example_is_traced_to_its_path_vote_and_review(story: Story) -> None:
    rows = examples.examples(story.conn, story.frozen.key)
    row = next(row for row in rows if row.question_id == story.pool[4].id and row.path_id)
    origin = provenance.of_example(story.conn, row)
    assert origin.question == story.pool[4]
    assert origin.path is not None
    assert origin.path.text == row.completion
    assert origin.reading is not None
    assert origin.reading.answer == "6"
    assert origin.vote is not None
    assert [review.verdict for review in origin.reviews] == [Verdict.ANSWER]
    assert origin.sampler.name == TEACHER
    assert [dependent.set_key for dependent in origin.falls] == [story.frozen.key]
    direct = next(row for row in rows if row.path_id is None)
    assert provenance.of_example(story.conn, direct).path is None


def trained(story: Story, name: str) -> None:
    base = models.by_name(story.conn, TEACHER)
    assert base is not None
    with transaction(story.conn):
        models.add(
            story.conn,
            dataclasses.replace(
                base,
                id=0,
                name=name,
                stage=Stage.LMSI,
                base_id=base.id,
                training_set=story.frozen.key,
                sha256=name,
            ),
        )


def test_a_question_leads_to_the_models_trained_on_it(story: Story) -> None:
    trained(story, "scripted/lmsi")
    curated(story.project, story.conn, sample={"threshold": "0.9"})
    (first, *others) = provenance.dependents_of(story.conn, story.pool[4].id)
    assert first.models == ("scripted/lmsi",)
    assert first.examples == sum(
        row.question_id == story.pool[4].id
        for row in examples.examples(story.conn, story.frozen.key)
    )
    assert all(other.models == () for other in others)
    assert provenance.dependents_of(story.conn, story.pool[1].id) == []


def test_a_model_is_traced_to_its_set_and_its_sampler(story: Story) -> None:
    trained(story, "scripted/lmsi")
    trained(story, "scripted/lmsi-2")
    model = models.by_name(story.conn, "scripted/lmsi")
    assert model is not None
    origin = provenance.of_model(story.conn, model)
    assert origin.frozen == story.frozen
    assert origin.sampler is not None
    assert (origin.label_free, origin.audits, origin.triage) == (False, 1, 3)
    assert origin.siblings == ("scripted/lmsi-2",)
    base = models.by_name(story.conn, TEACHER)
    assert base is not None
    assert provenance.of_model(story.conn, base).frozen is None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nobody", "'nobody'"),
        ("ab", "'ab'"),
        ("999999", "'999999'"),
        ("{set}:9999", "has examples 0 to"),
        ("{set}:x", "has examples 0 to"),
    ],
)
def test_an_unknown_target_is_refused(story: Story, target: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        provenance.find(story.conn, target.format(set=story.frozen.key))


def test_why_prints_text_and_json(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    trained(story, "scripted/lmsi")
    folder, key = str(story.project.folder), story.frozen.key[:12]
    inference_sessions.add(story.conn, [story.frozen.run_id], "llama.cpp", "0.3", {})
    printed = {}
    for target in (f"{key}:0", "1", key, story.pool[4].key, "scripted/lmsi", TEACHER):
        capsys.readouterr()
        assert typed(["why", target, folder]) == 0
        printed[target] = capsys.readouterr().out
        assert typed(["why", target, folder, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["event"] == "why"
    assert "sampled by   scripted/base" in printed[f"{key}:0"]
    assert "engine llama.cpp 0.3, before that scripted" in printed[f"{key}:0"]
    assert "seed 0" in printed[f"{key}:0"]
    assert "the same hash" in printed[key]
    assert "trained on them: scripted/lmsi" in printed[story.pool[4].key]
    assert "trained from scripted/base" in printed["scripted/lmsi"]
    assert "not trained here" in printed[TEACHER]


def test_settings_of_the_project_are_read_when_it_is_opened(story: Story) -> None:
    assert rebuilt(open_project(story.project.folder), story.frozen).same


def test_why_prints_the_leading_answer_with_a_decision(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    first = examples.examples(story.conn, story.frozen.key)[0]
    review = decide(story.conn, story.pool[0], Verdict.MAJORITY)
    later = dataclasses.replace(review, id=0, winner="4711")
    number = reviews.add(story.conn, later).id
    assert typed(["why", str(first.id), str(story.project.folder)]) == 0
    assert f"triage: majority when 4711 led (review {number})" in capsys.readouterr().out


@pytest.mark.parametrize("counting", ["weighted", "soft"])
def test_a_set_that_was_counted_by_confidence_is_rebuilt_exactly(
    counting: str, tmp_path: Path
) -> None:
    project = scripted_project(tmp_path, pool=40, changes={"sample": {"early_stop": "off"}})
    with connect(project.database) as conn:
        sample.run(claimed(conn, project, JobKind.SAMPLE))
        plain = curated(project, conn)
        curate_settings = {"counting": counting, "confidence_temperature": 0.2}
        frozen = curated(project, conn, curate=curate_settings)
        assert frozen.key != plain.key
        assert (frozen.counting, frozen.confidence_temperature) == (counting, 0.2)
        assert counting != "soft" or frozen.questions > plain.questions
        for by_settings in (project, open_project(project.folder)):
            assert rebuilt(by_settings, frozen).same
            assert rebuilt(by_settings, plain).same
        # Early stop since then changes nothing.
        curated(project, conn, sample={"early_stop": "exact"})
        assert rebuilt(project, frozen).same
