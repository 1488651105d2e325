from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from engine.inference.scripted import open_scripted
from engine.jobs import sample
from engine.project.job_context import PauseRequested
from engine.project.settings import changed
from engine.sampling import completion, early_stop_replay, runs, scheduler
from engine.voting import majority
from lmsi_tui.formatting.job_results import sentence
from store import jobs, models, paths, questions, votes
from store.connection import connect, transaction
from store.enums import Decision, EarlyStop, JobKind, JobState, Split
from store.errors import WorkFailed
from tests.projects import TEACHER, claimed, scripted_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from engine.inference.backend import Generation, PathRequest, PathSource, Sampling
    from engine.project.folder import Project
    from engine.project.job_context import Work
    from store.records import Run

Stored = dict[tuple[str, int], tuple[str, tuple[int, ...]]]
Counted = dict[str, tuple[str | None, tuple[tuple[str, int], ...], int, Decision]]


def with_settings(project: Project, **sample: object) -> Project:
    return replace(project, settings=changed(project.settings, {"sample": sample}))


def sampled(project: Project) -> Run:
    """Sample the pool to its end; returns the run."""
    with connect(project.database) as conn:
        work = claimed(conn, project, JobKind.SAMPLE)
        sample.run(work)
        jobs.finish(conn, work.progress.job_id, JobState.DONE, "done", None, {})
        return next(run for run in paths.runs(conn) if run.split is Split.POOL)


def everything(project: Project, run: Run) -> tuple[Stored, Counted]:
    """Paths and votes by content, without row ids."""
    with connect(project.database, read_only=True) as conn:
        pool = questions.by_split(conn, Split.POOL)
        drawn = {
            (question.key, path.index): (path.text, path.token_ids)
            for question in pool
            for path, _ in paths.for_question(conn, run.id, question.id)
        }
        keys = {question.id: question.key for question in pool}
        counted = {
            keys[vote.question_id]: (vote.winner, vote.tally, vote.drawn, vote.decision)
            for vote in votes.for_run(conn, run.id)
        }
    return drawn, counted


def test_every_vote_is_settled_when_sampling_ends(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    run = sampled(project)
    _, counted = everything(project, run)
    assert len(counted) == 12
    assert Decision.OPEN not in {decision for *_, decision in counted.values()}


def test_without_early_stop_every_path_is_sampled_once(tmp_path: Path) -> None:
    project = scripted_project(tmp_path, changes={"sample": {"m": 8, "early_stop": "off"}})
    run = sampled(project)
    drawn, _ = everything(project, run)
    per_question = Counter(key for key, _ in drawn)
    assert set(per_question.values()) == {8}
    assert {index for _, index in drawn} == set(range(8))


def test_exact_early_stop_decides_like_the_full_m_with_fewer_paths(tmp_path: Path) -> None:
    sample: dict[str, object] = {"m": 16, "cap": 4}
    full = scripted_project(tmp_path / "a", changes={"sample": sample | {"early_stop": "off"}})
    early = scripted_project(tmp_path / "b", changes={"sample": sample})
    all_paths, all_votes = everything(full, sampled(full))
    some_paths, some_votes = everything(early, sampled(early))
    assert len(some_paths) < len(all_paths)
    assert some_paths.items() <= all_paths.items()
    kept = {key for key, (*_, decision) in all_votes.items() if decision is Decision.KEEP}
    assert kept == {key for key, (*_, decision) in some_votes.items() if decision is Decision.KEEP}
    assert 0 < len(kept) < len(all_votes)
    for key in kept:
        assert some_votes[key][0] == all_votes[key][0]


def test_the_number_of_slots_does_not_change_the_paths(tmp_path: Path) -> None:
    one = scripted_project(tmp_path / "one", slots=1)
    many = scripted_project(tmp_path / "many", slots=64)
    first, votes_of_first = everything(one, sampled(one))
    second, votes_of_second = everything(many, sampled(many))
    assert votes_of_first == votes_of_second
    common = first.keys() & second.keys()
    assert {key: first[key] for key in common} == {key: second[key] for key in common}


def test_sampling_again_samples_nothing(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    before = everything(project, sampled(project))
    assert everything(project, sampled(project)) == before


def test_after_an_engine_failure_the_next_try_continues_from_the_finished_paths(
    tmp_path: Path,
) -> None:
    whole = scripted_project(tmp_path / "whole")
    undisturbed = everything(whole, sampled(whole))

    broken = scripted_project(tmp_path / "broken")
    script = broken.folder / "models" / "script.json"
    good = script.read_text()
    script.write_text(good.replace('"context"', '"fail_after": 20, "context"'))
    with pytest.raises(WorkFailed, match="after 20 paths"):
        sampled(broken)
    with connect(broken.database) as conn:
        run = paths.runs(conn)[0]
        assert paths.counts(conn, run.id).paths == 20
        jobs.finish(conn, jobs.all_of(conn)[-1].id, JobState.FAILED, "failed", "x", {})
    script.write_text(good)
    assert everything(broken, sampled(broken)) == undisturbed


def test_a_larger_m_continues_from_the_stored_paths(tmp_path: Path) -> None:
    project = scripted_project(tmp_path, changes={"sample": {"m": 4, "early_stop": "off"}})
    small = sampled(project)
    before, _ = everything(project, small)
    large = sampled(with_settings(project, m=8))
    after, counted = everything(project, large)
    assert large.id == small.id
    assert before.items() <= after.items()
    assert len(after) == 2 * len(before)
    assert {drawn for _, _, drawn, _ in counted.values()} == {8}


def test_another_threshold_samples_the_questions_it_unsettles(tmp_path: Path) -> None:
    project = scripted_project(tmp_path, changes={"sample": {"m": 16, "threshold": "0.9"}})
    sampled(project)
    run = sampled(with_settings(project, threshold="0.3"))
    _, counted = everything(project, run)
    fresh = scripted_project(tmp_path / "fresh", changes={"sample": {"m": 16, "threshold": "0.3"}})
    _, expected = everything(fresh, sampled(fresh))
    assert {key: (vote[0], vote[3]) for key, vote in counted.items()} == {
        key: (vote[0], vote[3]) for key, vote in expected.items()
    }


@dataclass
class Shuffled:
    """A backend that returns the paths of each batch in reverse order."""

    inner: object
    name: str = "scripted"
    version: str = "1"
    context_length: int = 8192
    details: dict[str, object] = field(default_factory=dict)
    seen: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def sample(self, source: PathSource, sampling: Sampling) -> Iterator[Generation]:
        waiting: list[Generation] = []
        for generation in self.inner.sample(source, sampling):  # type: ignore[attr-defined]
            waiting.append(generation)
            if len(waiting) == 3:
                yield from reversed(waiting)
                waiting = []
        yield from reversed(waiting)


class InFlight:
    """A source that knows, for each request, how many paths of its question were in flight."""

    def __init__(self, inner: PathSource) -> None:
        self.inner = inner
        self.running: Counter[str] = Counter()
        self.seen: list[tuple[int, int]] = []

    def next_path(self) -> PathRequest | None:
        request = self.inner.next_path()
        if request:
            self.seen.append((request.index, self.running[request.question]))
            self.running[request.question] += 1
        return request

    def is_settled(self, question: str) -> bool:
        return self.inner.is_settled(question)


@dataclass
class Watched(Shuffled):
    """A backend that records what was in flight at each request."""

    sources: list[InFlight] = field(default_factory=list)

    def sample(self, source: PathSource, sampling: Sampling) -> Iterator[Generation]:
        watching = InFlight(source)
        self.sources.append(watching)
        for generation in self.inner.sample(watching, sampling):  # type: ignore[attr-defined]
            watching.running[generation.question] -= 1
            yield generation


def test_a_vote_requests_more_paths_before_those_in_flight_have_finished(tmp_path: Path) -> None:
    project = scripted_project(tmp_path, slots=64, changes={"sample": {"m": 32, "cap": 4}})
    first_wave = majority.paths_needed({}, 0, m=32, rule=EarlyStop.EXACT, threshold="0.6", cap=4)
    backend = Watched(teacher_backend(project))
    with connect(project.database) as conn:
        sampled_with(conn, project, backend)
    seen = backend.sources[0].seen
    later = [in_flight for index, in_flight in seen if index >= first_wave]
    assert later
    assert min(later) > 0


def test_votes_are_counted_in_index_order_whatever_finishes_first(tmp_path: Path) -> None:
    straight = scripted_project(tmp_path / "straight", changes={"sample": {"early_stop": "off"}})
    twisted = scripted_project(tmp_path / "twisted", changes={"sample": {"early_stop": "off"}})
    _, expected = everything(straight, sampled(straight))
    with connect(twisted.database) as conn:
        run = sampled_with(conn, twisted, Shuffled(teacher_backend(twisted)))
    _, counted = everything(twisted, run)
    assert counted == expected


def teacher_backend(project: Project) -> object:
    with connect(project.database, read_only=True) as conn:
        teacher = models.by_name(conn, TEACHER)
    assert teacher is not None
    return open_scripted(project.inside(teacher.location))


def sampled_with(conn: sqlite3.Connection, project: Project, backend: Shuffled) -> Run:
    work: Work = claimed(conn, project, JobKind.SAMPLE)
    teacher = models.by_name(conn, TEACHER)
    assert teacher is not None
    pool = questions.by_split(conn, Split.POOL)
    run = runs.open_pool_run(work, teacher)
    scheduler.sample(
        conn,
        backend,  # type: ignore[arg-type]  # the rest is the inner backend's
        run,
        pool,
        completion.prompts_of(work, run, pool),
        work.progress,
    )
    return run


def test_a_pause_takes_effect_between_paths_and_keeps_them(tmp_path: Path) -> None:
    project = scripted_project(tmp_path)
    with connect(project.database) as conn:
        work = claimed(conn, project, JobKind.SAMPLE)
        with transaction(conn):
            jobs.request(conn, work.progress.job_id, JobState.PAUSING)
        with pytest.raises(PauseRequested):
            sample.run(work)


def test_fast_samples_its_control_questions_in_full_and_chooses_them_by_content(
    tmp_path: Path,
) -> None:
    project = scripted_project(
        tmp_path, pool=300, changes={"sample": {"m": 8, "early_stop": "fast", "epsilon": 0.4}}
    )
    run = sampled(project)
    with connect(project.database, read_only=True) as conn:
        pool = questions.by_split(conn, Split.POOL)
        controls = {q.id for q in pool if scheduler.rule_of(run, q) != run.early_stop}
        drawn = {vote.question_id: vote.drawn for vote in votes.for_run(conn, run.id)}
    assert 1 <= len(controls) <= 30
    assert {drawn[control] for control in controls} == {8}
    assert min(drawn.values()) < 8
    # The rate equals that of a replay over the controls, all of whose paths are stored.
    with connect(project.database, read_only=True) as conn:
        rate = early_stop_replay.change_rate(conn, run)
        facts = early_stop_replay.early_stop(conn, run)
        answers = paths.answers_by_question(conn, run.id, controls)
        whole = [[by_index[index] for index in range(8)] for by_index in answers.values()]
    by_hand = early_stop_replay.replay(
        whole, m=8, rule=run.early_stop, threshold=run.threshold, cap=run.cap, epsilon=0.4
    )
    assert rate == early_stop_replay.ChangeRate(len(controls), by_hand.changed)
    assert rate.interval is None
    assert rate.words == f"unknown ({len(controls)} of 300 control questions)"
    assert facts["saved_share"] == pytest.approx(1 - sum(drawn.values()) / (300 * 8), abs=1e-4)
    assert (facts["early_stop"], facts["epsilon"], facts["change_low"]) == ("fast", 0.4, None)
    with connect(project.database) as conn:
        result = sample.run(claimed(conn, project, JobKind.SAMPLE))
    assert facts.items() <= result.items()
    assert rate.words in sentence(JobKind.SAMPLE, result)


def test_a_run_of_another_rule_has_no_change_rate(tmp_path: Path) -> None:
    run = sampled(project := scripted_project(tmp_path))
    with connect(project.database, read_only=True) as conn:
        assert early_stop_replay.change_rate(conn, run) is None
        assert early_stop_replay.early_stop(conn, run).keys() == {"early_stop", "saved_share"}


def test_a_change_rate_has_an_interval_from_300_controls_on() -> None:
    assert early_stop_replay.ChangeRate(299, 0).interval is None
    assert early_stop_replay.ChangeRate(0, 0).interval is None
    low, high = early_stop_replay.ChangeRate(300, 3).interval or (1, 0)
    assert low < 0.01 < high
    assert (
        early_stop_replay.ChangeRate(300, 3).words == "1.0 % (0.3 to 2.9) of 300 control questions"
    )


class Counting:
    """A backend that counts how often each prompt is tokenized."""

    def __init__(self, inner: object) -> None:
        self.inner = inner
        self.tokenized: Counter[str] = Counter()

    def tokenize(self, text: str) -> Sequence[int]:
        self.tokenized[text] += 1
        return self.inner.tokenize(text)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


def test_each_prompt_is_tokenized_once(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "p", pool=40)
    with connect(project.database) as conn:
        work = claimed(conn, project, JobKind.SAMPLE)
        teacher = models.by_name(conn, TEACHER)
        assert teacher is not None
        run = runs.open_pool_run(work, teacher)
        pool = questions.by_split(conn, Split.POOL)
        backend = Counting(open_scripted(project.inside(teacher.location)))
        scheduler.sample(
            conn,
            backend,  # type: ignore[arg-type]  # the rest is the inner backend's
            run,
            pool,
            completion.prompts_of(work, run, pool),
            work.progress,
        )
    assert sorted(backend.tokenized.values()) == [1] * 40
