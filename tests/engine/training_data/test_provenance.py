"""From a training line to everything behind it, and the set built again, byte for byte."""

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
    """A project that was sampled, reviewed, and curated."""

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


def test_a_set_built_again_has_the_same_hash(story: Story) -> None:
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
def test_whatever_settings_chose_it(story: Story, changes: dict[str, object]) -> None:
    frozen = curated(story.project, story.conn, **changes)
    assert frozen.key != story.frozen.key
    assert rebuilt(story.project, frozen).same
    assert rebuilt(story.project, story.frozen).same


def test_a_set_from_before_its_m_and_share_were_kept_is_built_with_todays(story: Story) -> None:
    older = dataclasses.replace(story.frozen, m=None, validation_share=None)
    assert rebuilt(story.project, older).same


def test_an_audit_that_found_another_winner_wrong_leaves_nothing_out(story: Story) -> None:
    said = decide(story.conn, story.pool[6], Verdict.NONE, queue=Queue.AUDIT)
    left_out = curated(story.project, story.conn)
    reviews.add(story.conn, dataclasses.replace(said, id=0, verdict=Verdict.UNDO, undoes=said.id))
    reviews.add(story.conn, dataclasses.replace(said, id=0, winner="another"))
    assert curated(story.project, story.conn).questions == left_out.questions + 1


def test_what_people_decided_later_does_not_change_it(story: Story) -> None:
    decide(story.conn, story.pool[2], Verdict.NONE)
    decide(story.conn, story.pool[1], Verdict.ANSWER, "1")
    assert rebuilt(story.project, story.frozen).same
    again = curated(story.project, story.conn, curate={"weighting": "per-path"})
    assert again.key != story.frozen.key


def test_a_set_from_which_a_person_took_questions_is_not_label_free(tmp_path: Path) -> None:
    project = scripted_project(tmp_path, pool=20)
    with connect(project.database) as conn:
        sample.run(claimed(conn, project, JobKind.SAMPLE))
        (run,) = paths.runs(conn)
        accepted = [one for one in votes.for_run(conn, run.id) if accepts(one, "0.6")]
        question = questions.by_ids(conn, [accepted[0].question_id])[accepted[0].question_id]
        decide(conn, question, Verdict.MAJORITY, queue=Queue.AUDIT)
        assert curated(project, conn).label_free
        decide(conn, question, Verdict.NONE, queue=Queue.AUDIT)
        frozen = curated(project, conn, curate={"weighting": "per-path"})
    assert not frozen.label_free


def test_another_prompt_is_another_set_and_it_says_so(story: Story) -> None:
    exemplars = story.project.folder / "examples.toml"
    exemplars.write_text(exemplars.read_text().replace("Count:", "Think:"))
    again = rebuilt(story.project, story.frozen)
    assert not again.same
    assert again.key is not None


def test_a_line_leads_back_to_its_path_vote_and_review(story: Story) -> None:
    lines = examples.examples(story.conn, story.frozen.key)
    line = next(one for one in lines if one.question_id == story.pool[4].id and one.path_id)
    origin = provenance.of_example(story.conn, line)
    assert origin.question == story.pool[4]
    assert origin.path is not None
    assert origin.path.text == line.completion
    assert origin.reading is not None
    assert origin.reading.answer == "6"
    assert origin.vote is not None
    assert [one.verdict for one in origin.reviews] == [Verdict.ANSWER]
    assert origin.sampler.name == TEACHER
    assert [one.set_key for one in origin.falls] == [story.frozen.key]
    direct = next(one for one in lines if one.path_id is None)
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


def test_a_question_leads_forward_to_the_models_that_learnt_it(story: Story) -> None:
    trained(story, "scripted/lmsi")
    curated(story.project, story.conn, sample={"threshold": "0.9"})
    (first, *others) = provenance.dependents_of(story.conn, story.pool[4].id)
    assert first.models == ("scripted/lmsi",)
    assert first.examples == sum(
        one.question_id == story.pool[4].id
        for one in examples.examples(story.conn, story.frozen.key)
    )
    assert all(one.models == () for one in others)
    assert provenance.dependents_of(story.conn, story.pool[1].id) == []


def test_a_model_leads_back_to_its_set_and_its_sampler(story: Story) -> None:
    trained(story, "scripted/lmsi")
    trained(story, "scripted/lmsi-2")
    model = models.by_name(story.conn, "scripted/lmsi")
    assert model is not None
    found = provenance.of_model(story.conn, model)
    assert found.frozen == story.frozen
    assert found.sampler is not None
    assert (found.label_free, found.audits, found.triage) == (False, 1, 3)
    assert found.siblings == ("scripted/lmsi-2",)
    base = models.by_name(story.conn, TEACHER)
    assert base is not None
    assert provenance.of_model(story.conn, base).frozen is None


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nobody", "'nobody'"),
        ("ab", "'ab'"),
        ("999999", "'999999'"),
        ("{set}:9999", "has examples 0 to"),
        ("{set}:x", "has examples 0 to"),
    ],
)
def test_a_name_for_nothing_is_refused(story: Story, target: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        provenance.find(story.conn, target.format(set=story.frozen.key))


def test_why_is_told_in_words_and_as_json(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    trained(story, "scripted/lmsi")
    folder, key = str(story.project.folder), story.frozen.key[:12]
    inference_sessions.add(story.conn, [story.frozen.run_id], "llama.cpp", "0.3", {})
    said = {}
    for target in (f"{key}:0", "1", key, story.pool[4].key, "scripted/lmsi", TEACHER):
        capsys.readouterr()
        assert typed(["why", target, folder]) == 0
        said[target] = capsys.readouterr().out
        assert typed(["why", target, folder, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["event"] == "why"
    assert "sampled by   scripted/base" in said[f"{key}:0"]
    assert "engine llama.cpp 0.3, before that scripted" in said[f"{key}:0"]
    assert "seed 0" in said[f"{key}:0"]
    assert "the same hash" in said[key]
    assert "trained on them: scripted/lmsi" in said[story.pool[4].key]
    assert "trained from scripted/base" in said["scripted/lmsi"]
    assert "not trained here" in said[TEACHER]


def test_settings_of_the_project_are_read_when_it_is_opened(story: Story) -> None:
    assert rebuilt(open_project(story.project.folder), story.frozen).same


def test_the_answer_that_led_is_told_beside_a_decision(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    first = examples.examples(story.conn, story.frozen.key)[0]
    said = decide(story.conn, story.pool[0], Verdict.MAJORITY)
    later = dataclasses.replace(said, id=0, winner="4711")
    number = reviews.add(story.conn, later).id
    assert typed(["why", str(first.id), str(story.project.folder)]) == 0
    assert f"triage: majority when 4711 led (review {number})" in capsys.readouterr().out
