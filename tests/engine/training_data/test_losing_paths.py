"""Losing paths: frozen with the set or later, and written under the prompts of the kept paths."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from engine.jobs import curate, sample
from engine.training_data import losing_paths
from engine.training_data.selection import KeptQuestion
from store import contrast, examples, paths, questions
from store.connection import connect
from store.enums import JobKind, Split
from tests.projects import claimed, scripted_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.folder import Project
    from store.records import Example, TrainingSet


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return scripted_project(tmp_path, pool=40)


@pytest.fixture
def conn(project: Project) -> Iterator[sqlite3.Connection]:
    with connect(project.database) as conn:
        sample.run(
            claimed(conn, project, JobKind.SAMPLE, settings={"sample": {"early_stop": "off"}})
        )
        yield conn


def curated(project: Project, conn: sqlite3.Connection) -> TrainingSet:
    settings = {"sample": {"early_stop": "off", "threshold": "0.3"}}
    result = curate.run(claimed(conn, project, JobKind.CURATE, settings=settings))
    frozen = examples.get_set(conn, str(result["training_set"]))
    assert frozen is not None
    return frozen


def by_group(members: list[Example]) -> dict[tuple[int, str], list[Example]]:
    groups: defaultdict[tuple[int, str], list[Example]] = defaultdict(list)
    for example in members:
        groups[example.question_id, example.prompt_format].append(example)
    return groups


def test_losers_share_prompts_and_weights_with_winners_and_have_other_answers(
    project: Project, conn: sqlite3.Connection
) -> None:
    frozen = curated(project, conn)
    kept = examples.examples(conn, frozen.key)
    losers = losing_paths.losing_examples(conn, frozen, kept)
    assert contrast.margins(conn, frozen.key).keys() == {example.question_id for example in kept}
    rows = by_group(losers)
    assert len(rows) >= 8
    kept_rows = by_group(kept)
    for key, group in rows.items():
        winners = kept_rows[key]
        assert {example.prompt for example in group} == {winners[0].prompt}
        assert {example.validation for example in group} == {winners[0].validation}
        assert not {example.completion for example in group} & {
            example.completion for example in winners
        }
        total = sum(example.weight for example in group)
        assert 1.0 <= total <= sum(example.weight for example in winners)
        if winners[0].path_id is not None:
            assert not {example.path_id for example in group} & {row.path_id for row in winners}
            assert all(example.token_ids for example in group)
    assert [example.position for example in losers] == list(
        range(frozen.examples, frozen.examples + len(losers))
    )


def test_the_losing_paths_of_an_older_set_are_those_that_it_would_have_got(
    project: Project, conn: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(losing_paths, "freeze", lambda *_: None)
        frozen = curated(project, conn)
    assert not contrast.is_stored(conn, frozen.key)
    losing_paths.freeze_older(conn, project, frozen)
    later = contrast.losing_texts(conn, frozen.key), contrast.margins(conn, frozen.key)
    other = scripted_project(project.folder.parent / "other", pool=40)
    with connect(other.database) as fresh:
        sample.run(
            claimed(fresh, other, JobKind.SAMPLE, settings={"sample": {"early_stop": "off"}})
        )
        assert curated(other, fresh).key == frozen.key
        at_once = contrast.losing_texts(fresh, frozen.key), contrast.margins(fresh, frozen.key)
    assert later == at_once
    assert later[0]
    assert len(paths.runs(conn)) == 1


def test_a_question_may_be_kept_with_several_answers(
    project: Project, conn: sqlite3.Connection
) -> None:
    frozen = curated(project, conn)
    question = questions.by_split(conn, Split.POOL)[0]
    twice = [
        KeptQuestion(question, answer, (), 1, reviewed=False, margin=margin)
        for answer, margin in (("1", 0.5), ("2", 0.25))
    ]
    other = dataclasses.replace(frozen, key="other")
    member = dataclasses.replace(examples.examples(conn, frozen.key)[0], question_id=question.id)
    examples.freeze(conn, other, [member])
    losing_paths.freeze(conn, "other", twice)
    assert contrast.margins(conn, "other") == {question.id: 0.25}
