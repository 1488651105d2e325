"""The arms of a study: as large as the voted set, and chosen without it or without its labels."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest

from engine.jobs import curate, export, lookups, sample, study_arms
from engine.training_data import arms, building, provenance
from store import examples, jobs, paths, questions
from store.connection import connect
from store.enums import Arm, JobKind, JobState, Split
from store.errors import BadInput
from tests.projects import claimed, scripted_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.folder import Project
    from store.records import Example, TrainingSet

CONTROLS = (Arm.UNVOTED, Arm.FIRST_TOKENS, Arm.RANDOM)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return scripted_project(tmp_path, pool=40, changes={"sample": {"early_stop": "off", "cap": 4}})


@pytest.fixture
def conn(project: Project) -> Iterator[sqlite3.Connection]:
    with connect(project.database) as conn:
        sample.run(claimed(conn, project, JobKind.SAMPLE))
        yield conn


def curated(project: Project, conn: sqlite3.Connection, **settings: object) -> TrainingSet:
    work = claimed(conn, project, JobKind.CURATE, settings={"curate": settings})
    result = curate.run(work)
    jobs.finish(conn, work.progress.job_id, JobState.DONE, "done", None, result)
    return lookups.training_set(conn)


def built(
    project: Project, voted: TrainingSet, arm: Arm, first_tokens: int = 3
) -> tuple[TrainingSet, list[Example]]:
    with connect(project.database, training=True) as conn:
        return arms.build(
            project, conn, voted, arm, first_tokens=first_tokens, created_at=time.time()
        )


def kept_paths(rows: list[Example]) -> Counter[int]:
    """Number of rows of paths by question, in the first format."""
    first = rows[0].prompt_format
    return Counter(row.question_id for row in rows if row.prompt_format is first)


def test_every_arm_has_the_questions_and_paths_of_the_vote_in_number(
    project: Project, conn: sqlite3.Connection
) -> None:
    voted = curated(project, conn)
    rows = examples.examples(conn, voted.key)
    for arm in (Arm.UNVOTED, Arm.RANDOM):
        frozen, others = built(project, voted, arm)
        assert frozen.questions == voted.questions
        assert kept_paths(others).total() == kept_paths(rows).total()
        assert sum(row.weight for row in others) == sum(row.weight for row in rows)
        assert (frozen.arm, frozen.voted_set) == (arm, voted.key)


def test_unvoted_paths_are_the_first_ones_of_random_questions_with_their_own_answers(
    project: Project, conn: sqlite3.Connection
) -> None:
    voted = curated(project, conn)
    _, rows = built(project, voted, Arm.UNVOTED)
    run = building.run_of(conn, voted)
    chosen: defaultdict[int, set[int | None]] = defaultdict(set)
    for row in rows:
        if row.prompt_format.reasons:
            chosen[row.question_id].add(row.path_id)
    assert chosen.keys() != {row.question_id for row in examples.examples(conn, voted.key)}
    answers = set()
    for question_id, path_ids in chosen.items():
        first = [
            (path.id, reading.answer)
            for path, reading in paths.for_question(conn, run.id, question_id)
            if reading.answer is not None
        ][: run.cap]
        assert path_ids <= {id_ for id_, _ in first}
        answers |= {(question_id, answer) for id_, answer in first if id_ in path_ids}
    direct = [row for row in rows if not row.prompt_format.reasons]
    assert len(answers) * 2 == len(direct), "each answer is taught in both direct formats"
    assert len(answers) > len(chosen), "some questions are taught with several answers"


def test_random_labels_are_answers_of_the_kept_questions_and_not_all_of_the_vote(
    project: Project, conn: sqlite3.Connection
) -> None:
    voted = curated(project, conn)
    kept = examples.examples(conn, voted.key)
    _, rows = built(project, voted, Arm.RANDOM)
    assert kept_paths(rows) == kept_paths(kept)
    run = building.run_of(conn, voted)
    answer_of = {
        path.id: reading.answer
        for question_id in kept_paths(rows)
        for path, reading in paths.for_question(conn, run.id, question_id)
    }
    labels: defaultdict[int, set[str | None]] = defaultdict(set)
    winners: defaultdict[int, set[str | None]] = defaultdict(set)
    for found, members in ((labels, rows), (winners, kept)):
        for row in members:
            if row.path_id is not None:
                found[row.question_id].add(answer_of[row.path_id])
    assert {len(of_question) for of_question in labels.values()} == {1}
    same = sum(labels[question_id] == winners[question_id] for question_id in winners)
    assert 0 < same < len(winners)


def test_first_tokens_are_of_the_kept_paths_and_have_no_direct_answers(
    project: Project, conn: sqlite3.Connection
) -> None:
    voted = curated(project, conn)
    frozen, rows = built(project, voted, Arm.FIRST_TOKENS)
    kept = [row for row in examples.examples(conn, voted.key) if row.prompt_format.reasons]
    assert [(row.prompt, row.path_id, row.weight) for row in rows] == [
        (row.prompt, row.path_id, row.weight) for row in kept
    ]
    assert {row.first_tokens for row in rows} == {3}
    assert [row.position for row in rows] == list(range(frozen.examples))
    assert frozen.key != built(project, voted, Arm.FIRST_TOKENS, 4)[0].key
    direct = curated(project, conn, formats=["few-shot-direct"])
    with pytest.raises(BadInput, match=r"curate\.formats"):
        built(project, direct, Arm.FIRST_TOKENS)


def test_arms_leave_the_ordinary_set_and_what_uses_it_as_it_was(
    project: Project, conn: sqlite3.Connection
) -> None:
    voted = curated(project, conn)
    work = claimed(conn, project, JobKind.FINETUNE, study="arms")
    frozen = [study_arms.freeze(work, voted, arm, 3) for arm in CONTROLS]
    assert len({voted.key, *(each.key for each in frozen)}) == 4
    assert examples.ordinary_sets(conn) == [lookups.training_set(conn)] == [voted]
    assert curated(project, conn).key == voted.key
    assert export.plan(conn, project).examples == voted.examples
    again = [study_arms.freeze(work, voted, arm, 3).key for arm in CONTROLS]
    assert again == [each.key for each in frozen]
    assert study_arms.freeze(work, voted, Arm.VOTED, 3) is voted
    shared = examples.common_questions(conn, frozen[2].key, voted.key)
    assert 0 < shared < voted.questions, "some random labels are the voted ones"
    stored = examples.examples(conn, frozen[1].key)
    assert {row.first_tokens for row in stored} == {3}
    size = examples.set_size(conn, frozen[1].key)
    assert size.tokens <= 3 * sum(not row.validation for row in stored)


def test_an_arm_is_rebuilt_with_the_same_key(project: Project, conn: sqlite3.Connection) -> None:
    voted = curated(project, conn)
    work = claimed(conn, project, JobKind.FINETUNE, study="arms")
    for arm in CONTROLS:
        frozen = study_arms.freeze(work, voted, arm, 5)
        with connect(project.database, read_only=True, training=True) as reading:
            assert provenance.rebuild(project, reading, frozen).same


def test_arms_are_equal_in_every_project_and_differ_by_the_seed(tmp_path: Path) -> None:
    keys = []
    for folder, seed in (("first", 0), ("again", 0), ("other", 1)):
        changes = {"sample": {"early_stop": "off", "seed": seed}}
        project = scripted_project(tmp_path / folder, pool=24, changes=changes)
        with connect(project.database) as conn:
            sample.run(claimed(conn, project, JobKind.SAMPLE))
            voted = curated(project, conn)
            keys.append([built(project, voted, arm)[0].key for arm in CONTROLS])
            assert len(questions.by_split(conn, Split.POOL)) == 24
    assert keys[0] == keys[1]
    assert not set(keys[0]) & set(keys[2])
