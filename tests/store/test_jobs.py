from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from store import jobs
from store.enums import JobKind, JobState, Phase

if TYPE_CHECKING:
    from store.records import Job
    from tests.store.conftest import Seeded

ME = (100, 5000)


def queued(seeded: Seeded, kind: JobKind = JobKind.SAMPLE) -> Job:
    return jobs.enqueue(seeded.conn, kind, {"settings": {}})[0]


def claimed(seeded: Seeded) -> Job:
    queued(seeded)
    job = jobs.claim(seeded.conn, *ME)
    assert job is not None
    return job


def in_state(seeded: Seeded, wished: JobState) -> Job:
    """A job in any state that a job can be in."""
    job = queued(seeded)
    if wished is not JobState.QUEUED:
        jobs.claim(seeded.conn, *ME)
    if wished in (JobState.PAUSING, JobState.CANCELLING):
        jobs.request(seeded.conn, job.id, wished)
    if wished in (JobState.PAUSED, JobState.CANCELLED, JobState.DONE, JobState.FAILED):
        error = "It broke." if wished is JobState.FAILED else None
        jobs.finish(seeded.conn, job.id, wished, "ended", error, {})
    assert jobs.state(seeded.conn, job.id) is wished
    return job


def test_jobs_are_claimed_oldest_first_and_once(seeded: Seeded) -> None:
    first, second = queued(seeded), queued(seeded, JobKind.VOTE)
    taken = [jobs.claim(seeded.conn, *ME) for _ in range(3)]
    assert [job and job.id for job in taken] == [first.id, second.id, None]
    job = jobs.get(seeded.conn, first.id)
    assert (job.state, job.pid, job.started_ticks) == (JobState.RUNNING, *ME)
    assert job.started_at == job.heartbeat_at is not None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (JobState.QUEUED, JobState.QUEUED),
        (JobState.RUNNING, JobState.RUNNING),
        (JobState.PAUSING, JobState.RUNNING),
        (JobState.PAUSED, JobState.QUEUED),
    ],
)
def test_the_same_request_attaches_to_an_unfinished_job(
    seeded: Seeded, before: JobState, after: JobState
) -> None:
    job = in_state(seeded, before)
    again, attached = jobs.enqueue(seeded.conn, JobKind.SAMPLE, {"settings": {}})
    assert (again.id, attached, again.state) == (job.id, True, after)


@pytest.mark.parametrize(
    "before", [JobState.CANCELLING, JobState.CANCELLED, JobState.DONE, JobState.FAILED]
)
def test_the_same_request_after_the_end_is_a_new_job(seeded: Seeded, before: JobState) -> None:
    job = in_state(seeded, before)
    again, attached = jobs.enqueue(seeded.conn, JobKind.SAMPLE, {"settings": {}})
    assert (attached, again.state) == (False, JobState.QUEUED)
    assert again.id != job.id


def test_a_job_that_goes_on_is_not_said_to_be_paused(seeded: Seeded) -> None:
    paused = in_state(seeded, JobState.PAUSED)
    assert queued(seeded).message == "waiting"
    assert jobs.get(seeded.conn, paused.id).message == "waiting"
    running = jobs.claim(seeded.conn, *ME)
    assert running is not None
    jobs.progress(seeded.conn, running.id, 1, 2, "sampling m")
    assert queued(seeded).message == "sampling m"


def test_other_params_are_another_job(seeded: Seeded) -> None:
    job = queued(seeded)
    other, attached = jobs.enqueue(seeded.conn, JobKind.SAMPLE, {"settings": {"sample": {"m": 2}}})
    assert not attached
    assert other.id != job.id


@pytest.mark.parametrize(
    ("before", "wished", "after"),
    [
        (JobState.QUEUED, JobState.PAUSING, JobState.PAUSED),
        (JobState.RUNNING, JobState.PAUSING, JobState.PAUSING),
        (JobState.PAUSED, JobState.PAUSING, JobState.PAUSED),
        (JobState.CANCELLING, JobState.PAUSING, JobState.CANCELLING),
        (JobState.DONE, JobState.PAUSING, JobState.DONE),
        (JobState.QUEUED, JobState.CANCELLING, JobState.CANCELLED),
        (JobState.RUNNING, JobState.CANCELLING, JobState.CANCELLING),
        (JobState.PAUSING, JobState.CANCELLING, JobState.CANCELLING),
        (JobState.PAUSED, JobState.CANCELLING, JobState.CANCELLED),
        (JobState.FAILED, JobState.CANCELLING, JobState.FAILED),
    ],
)
def test_a_request_takes_effect_at_once_without_a_worker(
    seeded: Seeded, before: JobState, wished: JobState, after: JobState
) -> None:
    job = in_state(seeded, before)
    jobs.request(seeded.conn, job.id, wished)
    assert jobs.state(seeded.conn, job.id) is after
    ended = after in (JobState.CANCELLED, JobState.DONE, JobState.FAILED)
    assert (jobs.get(seeded.conn, job.id).finished_at is not None) == ended


def test_nothing_else_can_be_requested(seeded: Seeded) -> None:
    with pytest.raises(ValueError, match="not done"):
        jobs.request(seeded.conn, queued(seeded).id, JobState.DONE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (JobState.RUNNING, JobState.QUEUED),
        (JobState.PAUSING, JobState.PAUSED),
        (JobState.CANCELLING, JobState.CANCELLED),
    ],
)
def test_the_job_of_a_dead_worker_is_released(
    seeded: Seeded, before: JobState, after: JobState
) -> None:
    job = in_state(seeded, before)
    checked: list[tuple[int, int]] = []

    def is_alive(pid: int, ticks: int) -> bool:
        checked.append((pid, ticks))
        return False

    assert jobs.requeue_lost(seeded.conn, is_alive) == [job.id]
    assert checked == [ME]
    assert jobs.state(seeded.conn, job.id) is after


def test_the_job_of_a_living_worker_is_not_released(seeded: Seeded) -> None:
    job = claimed(seeded)
    assert jobs.requeue_lost(seeded.conn, lambda _pid, _ticks: True) == []
    assert jobs.state(seeded.conn, job.id) is JobState.RUNNING


def test_a_requeued_job_keeps_its_progress_and_is_claimed_again(seeded: Seeded) -> None:
    job = claimed(seeded)
    jobs.progress(seeded.conn, job.id, 7, 9, "sampling")
    jobs.requeue_lost(seeded.conn, lambda _pid, _ticks: False)
    again = jobs.claim(seeded.conn, 101, 6000)
    assert again is not None
    assert (again.id, again.done, again.total, again.message) == (job.id, 7, 9, "sampling")
    assert (again.pid, again.started_ticks) == (101, 6000)


def test_progress_and_heartbeat_say_that_the_worker_lives(seeded: Seeded) -> None:
    job = claimed(seeded)
    seeded.conn.execute("UPDATE job SET heartbeat_at = 0")
    jobs.heartbeat(seeded.conn, job.id)
    first = jobs.get(seeded.conn, job.id).heartbeat_at
    seeded.conn.execute("UPDATE job SET heartbeat_at = 0")
    jobs.progress(seeded.conn, job.id, 1, 2, "half")
    second = jobs.get(seeded.conn, job.id).heartbeat_at
    assert first
    assert second
    assert second >= first


def test_what_a_job_was_doing_stays_after_its_end(seeded: Seeded) -> None:
    job = claimed(seeded)
    assert (job.phase, job.run_id, job.model_id) == (None, None, None)
    run = seeded.run
    jobs.enter(seeded.conn, job.id, Phase.SAMPLING, run.id, run.model_id)
    jobs.progress(seeded.conn, job.id, 1, 2, "half")
    jobs.finish(seeded.conn, job.id, JobState.FAILED, "failed", "It broke.", {})
    ended = jobs.get(seeded.conn, job.id)
    assert (ended.phase, ended.run_id, ended.model_id) == (Phase.SAMPLING, run.id, run.model_id)


def test_the_end_of_a_job_is_written_whole(seeded: Seeded) -> None:
    job = claimed(seeded)
    jobs.finish(seeded.conn, job.id, JobState.FAILED, "failed", "It broke.", {"exit_code": 2})
    ended = jobs.get(seeded.conn, job.id)
    assert (ended.state, ended.message, ended.error) == (JobState.FAILED, "failed", "It broke.")
    assert ended.result == {"exit_code": 2}
    assert ended.finished_at is not None


def test_a_file_name_that_is_not_utf_8_does_not_break_the_end_of_a_job(seeded: Seeded) -> None:
    job = claimed(seeded)
    name = b"caf\xe9.gguf".decode("utf-8", "surrogateescape")
    result: dict[str, object] = {"out": name}
    jobs.finish(seeded.conn, job.id, JobState.FAILED, name, f"{name} is broken.", result)
    ended = jobs.get(seeded.conn, job.id)
    assert (ended.message, ended.error) == ("caf?.gguf", "caf?.gguf is broken.")
    assert ended.result == result
