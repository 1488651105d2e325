"""What is read from the log-probabilities of a server's choice, and what is ignored."""

from __future__ import annotations

from typing import Any

import pytest

from engine.inference.backend import Sampling
from engine.inference.server.token_logprobs import confidence_of
from engine.inference.stopping import Ending
from store.enums import AnswerType, EndReason
from tests.engine.inference.server.fake_server import Fake, Json
from tests.engine.inference.server.test_backend import opened, path_requests, sampled

WHOLE = Ending(EndReason.END, (), "The answer is 4.")


def completion(logprobs: list[Any], tokens: list[str] | None = None) -> Json:
    reported: Json = {"token_logprobs": logprobs}
    return {"logprobs": reported | ({"tokens": tokens} if tokens else {})}


def chat(*entries: tuple[str, float]) -> Json:
    content = [{"token": token, "logprob": logprob} for token, logprob in entries]
    return {"logprobs": {"content": content}}


def mean(choice: Json, ending: Ending = WHOLE) -> float | None:
    found = confidence_of(choice, ending)
    return None if found is None else found.mean_logprob


def test_completions_and_chats_report_them_differently() -> None:
    assert mean(completion([-1.0, -3])) == -2.0
    assert mean(chat(("The", -1.0), (" answer", -2.0))) == -1.5
    found = confidence_of(completion([-1.0]), WHOLE)
    assert found is not None
    assert found.entropy is None


def test_only_the_tokens_that_are_kept_count() -> None:
    logprobs = [-1.0, -3.0, -100.0]
    assert mean(completion(logprobs), Ending(EndReason.STOP, (7, 8), "The answer")) == -2.0
    cut = Ending(EndReason.STOP, (), "The answer")
    assert mean(completion(logprobs, ["The", " answer", "\nQ:"]), cut) == -2.0
    assert mean(chat(("The", -1.0), (" answer", -3.0), ("\nQ:", -100.0)), cut) == -2.0


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"logprobs": None},
        {"logprobs": [1]},
        {"logprobs": {"content": "x"}},
        completion([]),
        completion([None, -1.0]),
        completion([True]),
        completion(["-1"]),
        completion([10**400]),
        completion([float("nan")]),
        completion([float("-inf")]),
        completion([2.0]),
        {"logprobs": {"content": [{"token": 3}]}},
    ],
)
def test_whatever_is_not_as_it_should_be_gives_no_confidence(choice: Json) -> None:
    assert confidence_of(choice, WHOLE) is None


def with_logprobs(body: Json, number: int) -> Json:
    """A server that returns log-probabilities when it is asked."""
    choice: Json = {"text": f" The answer is {number}.\nQ: x", "finish_reason": "stop"}
    if "logprobs" in body:
        texts = [" The answer", f" is {number}.", "\nQ: x"]
        choice |= completion([-0.25, -0.75, -9.0], texts)
    return choice


def test_a_server_that_offers_them_is_asked_for_them() -> None:
    fake = Fake(write=with_logprobs)
    sampling = Sampling(0.7, 40, stop=("\nQ:",), answer_type=AnswerType.NUMBER)
    with opened(fake) as backend:
        assert backend.capabilities[0].log_probabilities
        results = sampled(backend, path_requests(backend, "a", paths=4), sampling)
    assert all(body["logprobs"] == 1 for _, body in fake.requests)
    for path in results:
        assert path.confidence is not None
        assert path.confidence.mean_logprob == -0.5


def test_a_server_without_them_is_not_asked_and_its_paths_have_none() -> None:
    fake = Fake()
    with opened(fake) as backend:
        results = sampled(backend, path_requests(backend, "a", paths=4))
    assert not any("logprobs" in body for _, body in fake.requests)
    assert [path.confidence for path in results] == [None] * 4
