"""Sampling from servers: with many features, with few, and failing ones."""

from __future__ import annotations

import re
from collections import Counter, deque
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from engine.inference.backend import PathRequest, Sampling, path_seed
from engine.inference.server.backend import Servers, open_servers
from engine.inference.server.client import API_KEY, split_address
from engine.inference.server.probe import Dialect, probe_address, sampling_fields
from engine.prompting.messages import ChatMessage
from store.enums import EndReason
from store.errors import BadInput, WorkFailed
from tests.engine.inference.server.fake_server import Fake, serving
from tests.engine.tiny import ListSource, tiny_model, tiny_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.inference.backend import Generation

SAMPLING = Sampling(temperature=0.7, max_tokens=40, stop=("\nQ:",))


class Waits:
    """Records the waits instead of sleeping."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@contextmanager
def opened(*fakes: Fake, waits: Waits | None = None, **options: Any) -> Iterator[Servers]:
    """A backend on fake servers, which run until the end of the block."""
    with ExitStack() as stack:
        addresses = [stack.enter_context(serving(fake)).url for fake in fakes]
        backend = open_servers(addresses, wait=waits or Waits(), **options)
        try:
            yield backend
        finally:
            backend.close()


def path_requests(backend: Servers, *questions: str, paths: int) -> list[PathRequest]:
    return [
        PathRequest(
            question,
            index,
            tuple(backend.tokenize(f"Q: {question}?\nA:")),
            0,
            path_seed(1, "q", index),
        )
        for question in questions
        for index in range(paths)
    ]


def sampled(
    backend: Servers, paths: list[PathRequest], sampling: Sampling = SAMPLING
) -> list[Generation]:
    return list(backend.sample(ListSource(paths), sampling))


def path_counts(results: list[Generation]) -> Counter[tuple[str, int]]:
    return Counter((path.question, path.index) for path in results)


# The probe.


def test_a_probe_finds_the_capabilities_of_a_server() -> None:
    fake = Fake(context=4096, token_ids=True)
    with opened(fake) as backend:
        (capabilities,) = backend.capabilities
    assert (capabilities.served, capabilities.max_choices, capabilities.context) == (
        "pebble",
        8,
        4096,
    )
    assert (capabilities.token_ids, capabilities.seeds) == (True, True)
    assert not capabilities.log_probabilities
    assert capabilities.dialect is Dialect.MINUS_ONE
    assert "8 paths per request" in capabilities.summary()
    assert "no log-probabilities" in capabilities.summary()


@pytest.mark.parametrize(
    ("fake", "choices"),
    [
        (Fake(most=4), 4),
        (Fake(most=3), 2),
        (Fake(most=1), 1),
        (Fake(most=1, refuses_more=False), 1),
    ],
)
def test_a_request_asks_for_as_many_choices_as_the_server_returns(fake: Fake, choices: int) -> None:
    with opened(fake) as backend:
        assert backend.capabilities[0].max_choices == choices
        results = sampled(backend, path_requests(backend, "a", paths=8))
    assert path_counts(results) == {("a", index): 1 for index in range(8)}
    assert len(fake.requests) == 8 // choices


@pytest.mark.parametrize(
    ("fake", "dialect"),
    [
        (Fake(), Dialect.MINUS_ONE),
        (Fake(least_top_k=0), Dialect.ZERO),
        (Fake(unknown_fields=frozenset({"top_k", "min_p"})), Dialect.GENERATION_CONFIG),
        (
            Fake(unknown_fields=frozenset({"top_k", "generation_config"})),
            Dialect.PLAIN,
        ),
    ],
)
def test_truncation_is_disabled_in_the_dialect_of_the_server(fake: Fake, dialect: Dialect) -> None:
    with opened(fake) as backend:
        assert backend.capabilities[0].dialect is dialect
        sampled(backend, path_requests(backend, "a", paths=1))
    ((_, body),) = fake.requests
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.7, 1.0, 40)
    assert sampling_fields(SAMPLING, dialect).items() <= body.items()


def test_a_greedy_path_is_requested_without_sampling() -> None:
    fields = sampling_fields(Sampling(0.0, 5), Dialect.GENERATION_CONFIG)
    assert '"do_sample": false' in fields["generation_config"]


def test_a_server_that_does_not_sample_is_refused() -> None:
    same = Fake(write=lambda *_: {"text": " The answer is 4.", "finish_reason": "stop"})
    with pytest.raises(BadInput, match="does not sample"), opened(same):
        pass


def test_the_model_of_a_server_with_several_must_be_named() -> None:
    several = Fake(adapters=["other"])
    with pytest.raises(BadInput, match=r"pebble, other.*#NAME"), opened(several):
        pass
    with serving(Fake(adapters=["other"])) as fake:
        backend = open_servers([f"{fake.url}#other"], wait=Waits())
        assert backend.capabilities[0].served == "other"
        backend.close()


def test_another_model_than_the_one_added_is_refused() -> None:
    with serving(Fake()) as fake:
        identity = probe_address(fake.url).identity
    with opened(Fake(), identity=identity) as backend:
        assert backend.capabilities[0].identity == identity
    with pytest.raises(BadInput, match="serves other"), opened(Fake("other"), identity=identity):
        pass


def test_a_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=API_KEY), opened(Fake(key="sesame")):
        pass
    monkeypatch.setenv(API_KEY, "sesame")
    with opened(Fake(key="sesame")) as backend:
        assert len(sampled(backend, path_requests(backend, "a", paths=3))) == 3


@pytest.mark.parametrize("text", ["http://", "ftp://a/v1", "localhost:8000", "http://a:b/v1"])
def test_an_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="http://host:port/v1"):
        split_address(text)


# Sampling.


def test_every_path_is_returned_once_with_its_end_reason() -> None:
    def write(body: dict[str, Any], number: int) -> dict[str, Any]:
        return (
            {"text": " The answer is 1.\nQ: And?", "finish_reason": "stop"},
            {"text": " and so on", "finish_reason": "length"},
            {"text": f" {number}", "finish_reason": "stop", "stop_reason": "\nQ:"},
            {"text": f" The answer is {number}.", "finish_reason": "stop"},
        )[number % 4]

    with opened(Fake(write=write)) as backend:
        results = sampled(backend, path_requests(backend, "a", "b", paths=20))
    assert path_counts(results) == {(q, index): 1 for q in "ab" for index in range(20)}
    assert {path.end for path in results} == {EndReason.END, EndReason.STOP, EndReason.LENGTH}
    assert not any("\nQ:" in path.text for path in results)
    assert all(path.token_ids == () for path in results)


def test_the_request_contains_the_text_of_the_prompt() -> None:
    fake = Fake()
    with opened(fake) as backend:
        prompt = tuple(backend.tokenize("Q: Wie viele Äpfel? 🍎\nA:"))
        sampled(backend, [PathRequest("a", 0, prompt, 0, 1)])
    assert fake.requests[0][1]["prompt"] == "Q: Wie viele Äpfel? 🍎\nA:"


def test_a_chat_is_rendered_by_the_server_and_an_unfinished_message_is_continued() -> None:
    fake = Fake(completions=False)
    unfinished = [ChatMessage("user", "How many?"), ChatMessage("assistant", "Let's think.")]
    with opened(fake) as backend:
        prompt = tuple(backend.tokenize_chat(unfinished))
        (path,) = sampled(backend, [PathRequest("a", 0, prompt, 0, 1)])
        with pytest.raises(BadInput, match=r"sample\.style to chat"):
            sampled(backend, path_requests(backend, "a", paths=1))
    assert path.text.startswith(" The answer is")
    body = fake.requests[0][1]
    assert [turn["content"] for turn in body["messages"]] == ["How many?", "Let's think."]
    assert body["continue_final_message"]
    with opened(Fake(least_top_k=0)) as backend, pytest.raises(BadInput, match="zero-shot-cot"):
        sampled(backend, [PathRequest("a", 0, tuple(backend.tokenize_chat(unfinished)), 0, 1)])


def test_reasoning_returned_separately_is_put_before_the_text() -> None:
    def write(_: dict[str, Any], number: int) -> dict[str, Any]:
        return {
            "message": {"content": f"It is {number}.", "reasoning_content": "Hm."},
            "text": "",
            "finish_reason": "stop",
        }

    with opened(Fake(write=write)) as backend:
        (path,) = sampled(backend, path_requests(backend, "a", paths=1))
    assert path.text.startswith("<think>Hm.</think>It is ")


def test_a_request_for_a_single_path_has_a_seed() -> None:
    alone, many = Fake(most=1), Fake(most=8)
    with opened(alone) as backend:
        first = sampled(backend, path_requests(backend, "a", paths=5))
        again = sampled(backend, path_requests(backend, "a", paths=5))
    assert {path.index: path.text for path in first} == {path.index: path.text for path in again}
    with opened(many) as backend:
        sampled(backend, path_requests(backend, "a", paths=5))
    assert not any("seed" in body for _, body in many.requests)


def test_paths_are_ordered_by_the_index_of_the_choice() -> None:
    with opened(Fake()) as backend:
        results = sampled(backend, path_requests(backend, "a", paths=8))
    numbers = [int(path.text[15:-1]) for path in sorted(results, key=lambda path: path.index)]
    assert numbers == sorted(numbers)


def test_a_question_stays_on_one_server_and_all_servers_are_used() -> None:
    fakes = [Fake(most=2), Fake(most=2)]
    with opened(*fakes) as backend:
        results = sampled(backend, path_requests(backend, *"abcdefgh", paths=8))
    assert len(results) == 64
    of_each = [{name.rpartition("-")[0] for name, _ in fake.requests} for fake in fakes]
    assert of_each[0] | of_each[1] == set("abcdefgh")
    assert not of_each[0] & of_each[1]
    assert len(of_each[0]) == len(of_each[1])


def test_the_number_of_paths_in_flight_is_limited() -> None:
    fake = Fake(holds={"b-0"}.__contains__)
    with opened(fake, batch_size=16) as backend:
        source = ListSource(path_requests(backend, *"abcdef", paths=8))
        running = backend.sample(source, SAMPLING)
        next(running)
        # Two requests of 8 were started; the third starts when the first response is passed on.
        assert len(source.given) <= 17
        for _ in range(39):
            next(running)
        fake.release.set()
        assert {path.question for path in running} == {"b"}


def test_paths_of_a_settled_question_are_canceled() -> None:
    fake = Fake(most=1, holds={"a-1"}.__contains__)
    with opened(fake, batch_size=2) as backend:
        source = ListSource(
            path_requests(backend, "a", paths=2) + path_requests(backend, "b", paths=3)
        )
        seen = []
        for path in backend.sample(source, SAMPLING):
            seen.append(path.question)
            source.settled.add("a")
    assert Counter(seen) == {"a": 1, "b": 3}


def test_the_question_of_a_refused_prompt_is_named() -> None:
    fake = Fake(faults=deque(["400"]))
    with opened(fake) as backend, pytest.raises(BadInput, match=r"refuses.*question a.*busy or"):
        sampled(backend, path_requests(backend, "a", paths=2))


# Failures.


@pytest.mark.parametrize("fault", ["drop", "half", "429", "500", "503", "empty"])
def test_a_failed_request_is_sent_again_and_no_path_is_returned_twice(fault: str) -> None:
    waits = Waits()
    fake = Fake(faults=deque([fault, "", fault, fault]))
    with opened(fake, waits=waits) as backend:
        results = sampled(backend, path_requests(backend, "a", "b", paths=16))
    assert path_counts(results) == {(q, index): 1 for q in "ab" for index in range(16)}
    names = Counter(name for name, _ in fake.requests)
    assert set(names) == {"a-0", "a-8", "b-0", "b-8"}
    assert names.total() == 7
    assert len(waits.seconds) == 3
    assert all(0 <= seconds <= 2 for seconds in waits.seconds)


@pytest.mark.parametrize("fault", ["short", "long"])
def test_a_wrong_number_of_choices_is_corrected(fault: str) -> None:
    fake = Fake(faults=deque([fault, fault]))
    with opened(fake) as backend:
        results = sampled(backend, path_requests(backend, "a", paths=8))
    assert path_counts(results) == {("a", index): 1 for index in range(8)}


def test_waits_grow_and_are_random() -> None:
    waits = Waits()
    fake = Fake(faults=deque(["500"] * 9))
    with opened(fake, waits=waits) as backend:
        sampled(backend, path_requests(backend, "a", paths=1))
    bounds = [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert all(0 <= seconds <= most for seconds, most in zip(waits.seconds, bounds, strict=True))
    assert len(set(waits.seconds)) == 9


def test_a_failing_server_is_dropped_and_the_others_continue() -> None:
    broken, whole = Fake(faults=deque(["drop"] * 1000)), Fake()
    with opened(broken, whole) as backend:
        results = sampled(backend, path_requests(backend, *"abcd", paths=16))
        assert path_counts(results) == {(q, index): 1 for q in "abcd" for index in range(16)}
    assert broken.requests


def test_sampling_fails_when_no_server_is_left() -> None:
    with (
        opened(Fake(faults=deque(["503"] * 1000))) as backend,
        pytest.raises(WorkFailed, match=r"answers 503.*no other server is left.*the same command"),
    ):
        sampled(backend, path_requests(backend, "a", paths=2))


def test_a_dropped_server_is_not_used_again() -> None:
    with opened(Fake(faults=deque(["503"] * 10))) as backend:
        for _ in range(2):
            with pytest.raises(WorkFailed, match="answers 503"):
                sampled(backend, path_requests(backend, "a", paths=2))


def test_paths_finished_before_a_failure_are_returned() -> None:
    fake = Fake(most=1, faults=deque(["", "", *["500"] * 1000]))
    results: list[Generation] = []
    with opened(fake) as backend:
        running = backend.sample(ListSource(path_requests(backend, "a", paths=6)), SAMPLING)
        results += [next(running), next(running)]
        with pytest.raises(WorkFailed):
            next(running)
    assert len(results) == 2


def test_a_server_that_does_not_start_is_dropped_after_some_attempts() -> None:
    waits = Waits()
    with serving(Fake()) as gone:
        dead = gone.url
    with serving(Fake()) as fake:
        backend = open_servers([dead, fake.url], wait=waits)
        assert len(backend.capabilities) == 1
        backend.close()
    assert len(waits.seconds) == 9
    with pytest.raises(WorkFailed, match=re.escape(dead)):
        open_servers([dead], wait=waits)


def test_abandoning_a_sampling_closes_its_requests() -> None:
    fake = Fake(most=1, holds={"a-1", "a-2"}.__contains__)
    with opened(fake) as backend:
        running = backend.sample(ListSource(path_requests(backend, "a", paths=3)), SAMPLING)
        next(running)
        running.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(fake.requests) >= 1


# Token ids and adapters.


def spelling(text: str) -> Any:
    """The `write` of a server with the tiny tokenizer, whose paths all have this text."""
    ids = tiny_tokenizer()(text).input_ids

    def write(body: dict[str, Any], number: int) -> dict[str, Any]:
        made = {"text": text, "finish_reason": "stop"}
        if number % 2:
            made["text"] = text + "!"
        if body.get("return_token_ids"):
            made |= {"token_ids": ids}
        return made

    return write


def test_with_a_local_tokenizer_token_ids_are_sent_and_returned(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m")
    tokenizer = tiny_tokenizer()
    text = " The answer is 4.\nQ: And then?"
    fake = Fake(token_ids=True, gives_token_ids=True, write=spelling(text))
    with opened(fake, folder=folder) as backend:
        prompt = "Q: a?\nA:"
        assert backend.tokenize(prompt) == tokenizer(prompt).input_ids
        (path,) = sampled(backend, path_requests(backend, "a", paths=1))
    assert fake.requests[0][1]["prompt"] == tokenizer(prompt).input_ids
    assert (path.text, path.end) == (" The answer is 4.", EndReason.STOP)
    whole = tokenizer(text).input_ids
    assert path.token_ids == tuple(whole[: len(path.token_ids)])
    assert tokenizer.decode(path.token_ids).startswith(path.text)


def test_text_is_sent_to_a_server_that_accepts_no_token_ids(tmp_path: Path) -> None:
    fake = Fake()
    with opened(fake, folder=tiny_model(tmp_path / "m")) as backend:
        sampled(backend, path_requests(backend, "a", paths=1))
    assert fake.requests[0][1]["prompt"] == "Q: a?\nA:"


def test_a_prompt_too_long_for_the_context_is_refused_with_the_numbers(tmp_path: Path) -> None:
    fake = Fake(token_ids=True, context=42)
    folder = tiny_model(tmp_path / "m")
    with opened(fake, folder=folder) as backend, pytest.raises(BadInput, match=r"tokens.*40.*42"):
        sampled(backend, path_requests(backend, "a", paths=1))


@pytest.mark.parametrize(
    ("place", "named"),
    [("/v1/load_lora_adapter", "lmsi-1"), ("/load_lora_adapter", "pebble:lmsi-1")],
    ids=["vLLM", "SGLang"],
)
def test_an_adapter_is_loaded_once_and_requested_by_name(
    tmp_path: Path, place: str, named: str
) -> None:
    fake = Fake(loads_adapters=place)
    with serving(fake):
        for _ in range(2):
            address = f"{fake.url}#pebble"
            backend = open_servers([address], adapter=("lmsi-1", tmp_path), wait=Waits())
            sampled(backend, path_requests(backend, "a", paths=1))
            backend.close()
    assert fake.adapters == ["lmsi-1"]
    assert {body["model"] for _, body in fake.requests} == {named}


def test_a_server_that_cannot_load_an_adapter_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(BadInput, match=r"cannot load the adapter.*model\.engine=auto"),
        opened(Fake(), adapter=("lmsi-1", tmp_path)),
    ):
        pass
