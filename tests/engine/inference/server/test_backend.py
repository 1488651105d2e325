"""Sampling from servers: honest ones, ones that know little, and ones that fail."""

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
from tests.engine.tiny import Waiting, tiny_model, tiny_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.inference.backend import Generation

SAMPLING = Sampling(temperature=0.7, max_tokens=40, stop=("\nQ:",))


class Waits:
    """Stands in for the clock: nobody sleeps, and the waits are kept."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@contextmanager
def opened(*fakes: Fake, waits: Waits | None = None, **options: Any) -> Iterator[Servers]:
    """A backend on servers that run meanwhile."""
    with ExitStack() as stack:
        addresses = [stack.enter_context(serving(fake)).url for fake in fakes]
        backend = open_servers(addresses, wait=waits or Waits(), **options)
        try:
            yield backend
        finally:
            backend.close()


def asked(backend: Servers, *questions: str, paths: int) -> list[PathRequest]:
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


def drawn(
    backend: Servers, paths: list[PathRequest], sampling: Sampling = SAMPLING
) -> list[Generation]:
    return list(backend.sample(Waiting(paths), sampling))


def places(found: list[Generation]) -> Counter[tuple[str, int]]:
    return Counter((one.question, one.index) for one in found)


# What a probe finds.


def test_a_probe_finds_what_a_server_does() -> None:
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
def test_a_wave_is_what_the_server_gives_for_one_request(fake: Fake, choices: int) -> None:
    with opened(fake) as backend:
        assert backend.capabilities[0].max_choices == choices
        found = drawn(backend, asked(backend, "a", paths=8))
    assert places(found) == {("a", index): 1 for index in range(8)}
    assert len(fake.waves) == 8 // choices


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
def test_a_server_is_told_to_sample_by_temperature_alone_in_its_own_words(
    fake: Fake, dialect: Dialect
) -> None:
    with opened(fake) as backend:
        assert backend.capabilities[0].dialect is dialect
        drawn(backend, asked(backend, "a", paths=1))
    ((_, body),) = fake.waves
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.7, 1.0, 40)
    assert sampling_fields(SAMPLING, dialect).items() <= body.items()


def test_a_greedy_path_is_asked_for_without_sampling() -> None:
    said = sampling_fields(Sampling(0.0, 5), Dialect.GENERATION_CONFIG)["generation_config"]
    assert '"do_sample": false' in said


def test_a_server_that_always_writes_the_same_is_refused() -> None:
    same = Fake(write=lambda *_: {"text": " The answer is 4.", "finish_reason": "stop"})
    with pytest.raises(BadInput, match="does not sample"), opened(same):
        pass


def test_a_server_of_several_models_must_be_told_which() -> None:
    several = Fake(adapters=["other"])
    with pytest.raises(BadInput, match=r"pebble, other.*#NAME"), opened(several):
        pass
    with serving(Fake(adapters=["other"])) as fake:
        backend = open_servers([f"{fake.url}#other"], wait=Waits())
        assert backend.capabilities[0].served == "other"
        backend.close()


def test_another_model_than_was_brought_along_is_refused() -> None:
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
        assert len(drawn(backend, asked(backend, "a", paths=3))) == 3


@pytest.mark.parametrize("text", ["http://", "ftp://a/v1", "localhost:8000", "http://a:b/v1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="http://host:port/v1"):
        split_address(text)


# Sampling.


def test_every_path_comes_once_and_says_how_it_ended() -> None:
    def write(body: dict[str, Any], number: int) -> dict[str, Any]:
        return (
            {"text": " The answer is 1.\nQ: And?", "finish_reason": "stop"},
            {"text": " and so on", "finish_reason": "length"},
            {"text": f" {number}", "finish_reason": "stop", "stop_reason": "\nQ:"},
            {"text": f" The answer is {number}.", "finish_reason": "stop"},
        )[number % 4]

    with opened(Fake(write=write)) as backend:
        found = drawn(backend, asked(backend, "a", "b", paths=20))
    assert places(found) == {(q, index): 1 for q in "ab" for index in range(20)}
    assert {one.end for one in found} == {EndReason.END, EndReason.STOP, EndReason.LENGTH}
    assert not any("\nQ:" in one.text for one in found)
    assert all(one.token_ids == () for one in found)


def test_the_text_that_is_asked_is_the_text_of_the_prompt() -> None:
    fake = Fake()
    with opened(fake) as backend:
        prompt = tuple(backend.tokenize("Q: Wie viele Äpfel? 🍎\nA:"))
        drawn(backend, [PathRequest("a", 0, prompt, 0, 1)])
    assert fake.waves[0][1]["prompt"] == "Q: Wie viele Äpfel? 🍎\nA:"


def test_a_chat_is_filled_by_the_server_and_a_begun_turn_is_continued() -> None:
    fake = Fake(completions=False)
    begun = [ChatMessage("user", "How many?"), ChatMessage("assistant", "Let's think.")]
    with opened(fake) as backend:
        prompt = tuple(backend.tokenize_chat(begun))
        (path,) = drawn(backend, [PathRequest("a", 0, prompt, 0, 1)])
        with pytest.raises(BadInput, match=r"sample\.style to chat"):
            drawn(backend, asked(backend, "a", paths=1))
    assert path.text.startswith(" The answer is")
    body = fake.waves[0][1]
    assert [turn["content"] for turn in body["messages"]] == ["How many?", "Let's think."]
    assert body["continue_final_message"]
    with opened(Fake(least_top_k=0)) as backend, pytest.raises(BadInput, match="zero-shot-cot"):
        drawn(backend, [PathRequest("a", 0, tuple(backend.tokenize_chat(begun)), 0, 1)])


def test_thoughts_that_a_server_takes_apart_are_put_back() -> None:
    def write(_: dict[str, Any], number: int) -> dict[str, Any]:
        return {
            "message": {"content": f"It is {number}.", "reasoning_content": "Hm."},
            "text": "",
            "finish_reason": "stop",
        }

    with opened(Fake(write=write)) as backend:
        (path,) = drawn(backend, asked(backend, "a", paths=1))
    assert path.text.startswith("<think>Hm.</think>It is ")


def test_a_path_alone_in_its_request_has_its_own_seed() -> None:
    alone, many = Fake(most=1), Fake(most=8)
    with opened(alone) as backend:
        first = drawn(backend, asked(backend, "a", paths=5))
        again = drawn(backend, asked(backend, "a", paths=5))
    assert {one.index: one.text for one in first} == {one.index: one.text for one in again}
    with opened(many) as backend:
        drawn(backend, asked(backend, "a", paths=5))
    assert not any("seed" in body for _, body in many.waves)


def test_paths_are_numbered_by_the_index_of_the_choice_not_by_its_place() -> None:
    with opened(Fake()) as backend:
        found = drawn(backend, asked(backend, "a", paths=8))
    numbers = [int(one.text[15:-1]) for one in sorted(found, key=lambda one: one.index)]
    assert numbers == sorted(numbers)


def test_a_question_stays_at_one_server_and_both_are_used() -> None:
    fakes = [Fake(most=2), Fake(most=2)]
    with opened(*fakes) as backend:
        found = drawn(backend, asked(backend, *"abcdefgh", paths=8))
    assert len(found) == 64
    of_each = [{name.rpartition("-")[0] for name, _ in fake.waves} for fake in fakes]
    assert of_each[0] | of_each[1] == set("abcdefgh")
    assert not of_each[0] & of_each[1]
    assert len(of_each[0]) == len(of_each[1])


def test_no_more_than_so_many_paths_are_in_flight() -> None:
    fake = Fake(holds={"b-0"}.__contains__)
    with opened(fake, batch_size=16) as backend:
        source = Waiting(asked(backend, *"abcdef", paths=8))
        running = backend.sample(source, SAMPLING)
        next(running)
        # Two waves of 8 were begun; the next one is when the first is given on.
        assert len(source.given) <= 17
        for _ in range(39):
            next(running)
        fake.release.set()
        assert {one.question for one in running} == {"b"}


def test_paths_of_a_settled_question_are_given_up() -> None:
    fake = Fake(most=1, holds={"a-1"}.__contains__)
    with opened(fake, batch_size=2) as backend:
        source = Waiting(asked(backend, "a", paths=2) + asked(backend, "b", paths=3))
        seen = []
        for path in backend.sample(source, SAMPLING):
            seen.append(path.question)
            source.settled.add("a")
    assert Counter(seen) == {"a": 1, "b": 3}


def test_a_prompt_that_the_server_refuses_is_named() -> None:
    fake = Fake(faults=deque(["400"]))
    with opened(fake) as backend, pytest.raises(BadInput, match=r"refuses.*question a.*busy or"):
        drawn(backend, asked(backend, "a", paths=2))


# Failing.


@pytest.mark.parametrize("fault", ["drop", "half", "429", "500", "503", "empty"])
def test_a_lost_wave_is_asked_for_again_and_no_path_comes_twice(fault: str) -> None:
    waits = Waits()
    fake = Fake(faults=deque([fault, "", fault, fault]))
    with opened(fake, waits=waits) as backend:
        found = drawn(backend, asked(backend, "a", "b", paths=16))
    assert places(found) == {(q, index): 1 for q in "ab" for index in range(16)}
    names = Counter(name for name, _ in fake.waves)
    assert set(names) == {"a-0", "a-8", "b-0", "b-8"}
    assert names.total() == 7
    assert len(waits.seconds) == 3
    assert all(0 <= one <= 2 for one in waits.seconds)


@pytest.mark.parametrize("fault", ["short", "long"])
def test_a_wrong_number_of_choices_is_put_right(fault: str) -> None:
    fake = Fake(faults=deque([fault, fault]))
    with opened(fake) as backend:
        found = drawn(backend, asked(backend, "a", paths=8))
    assert places(found) == {("a", index): 1 for index in range(8)}


def test_waits_grow_and_are_drawn_at_random() -> None:
    waits = Waits()
    fake = Fake(faults=deque(["500"] * 9))
    with opened(fake, waits=waits) as backend:
        drawn(backend, asked(backend, "a", paths=1))
    bounds = [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert all(0 <= one <= most for one, most in zip(waits.seconds, bounds, strict=True))
    assert len(set(waits.seconds)) == 9


def test_a_server_that_stays_silent_is_left_out_and_the_others_go_on() -> None:
    broken, whole = Fake(faults=deque(["drop"] * 1000)), Fake()
    with opened(broken, whole) as backend:
        found = drawn(backend, asked(backend, *"abcd", paths=16))
        assert places(found) == {(q, index): 1 for q in "abcd" for index in range(16)}
    assert broken.waves


def test_when_no_server_is_left_the_work_fails_in_one_sentence() -> None:
    with (
        opened(Fake(faults=deque(["503"] * 1000))) as backend,
        pytest.raises(WorkFailed, match=r"answers 503.*no other server is left.*the same command"),
    ):
        drawn(backend, asked(backend, "a", paths=2))


def test_servers_that_are_gone_stay_gone() -> None:
    with opened(Fake(faults=deque(["503"] * 10))) as backend:
        for _ in range(2):
            with pytest.raises(WorkFailed, match="answers 503"):
                drawn(backend, asked(backend, "a", paths=2))


def test_what_came_before_a_failure_is_given_on() -> None:
    fake = Fake(most=1, faults=deque(["", "", *["500"] * 1000]))
    found: list[Generation] = []
    with opened(fake) as backend:
        running = backend.sample(Waiting(asked(backend, "a", paths=6)), SAMPLING)
        found += [next(running), next(running)]
        with pytest.raises(WorkFailed):
            next(running)
    assert len(found) == 2


def test_a_server_that_is_not_there_at_first_is_waited_for_and_then_left_out() -> None:
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


def test_leaving_off_in_the_middle_closes_what_is_under_way() -> None:
    fake = Fake(most=1, holds={"a-1", "a-2"}.__contains__)
    with opened(fake) as backend:
        running = backend.sample(Waiting(asked(backend, "a", paths=3)), SAMPLING)
        next(running)
        running.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(fake.waves) >= 1


# Token ids and adapters.


def spelling(text: str) -> Any:
    """A server that has the tiny tokenizer and writes this."""
    ids = tiny_tokenizer()(text).input_ids

    def write(body: dict[str, Any], number: int) -> dict[str, Any]:
        made = {"text": text, "finish_reason": "stop"}
        if number % 2:
            made["text"] = text + "!"
        if body.get("return_token_ids"):
            made |= {"token_ids": ids}
        return made

    return write


def test_where_the_tokenizer_lies_here_ids_are_sent_and_ids_come_back(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m")
    tokenizer = tiny_tokenizer()
    text = " The answer is 4.\nQ: And then?"
    fake = Fake(token_ids=True, gives_token_ids=True, write=spelling(text))
    with opened(fake, folder=folder) as backend:
        prompt = "Q: a?\nA:"
        assert backend.tokenize(prompt) == tokenizer(prompt).input_ids
        (path,) = drawn(backend, asked(backend, "a", paths=1))
    assert fake.waves[0][1]["prompt"] == tokenizer(prompt).input_ids
    assert (path.text, path.end) == (" The answer is 4.", EndReason.STOP)
    whole = tokenizer(text).input_ids
    assert path.token_ids == tuple(whole[: len(path.token_ids)])
    assert tokenizer.decode(path.token_ids).startswith(path.text)


def test_a_server_that_takes_no_ids_is_sent_text(tmp_path: Path) -> None:
    fake = Fake()
    with opened(fake, folder=tiny_model(tmp_path / "m")) as backend:
        drawn(backend, asked(backend, "a", paths=1))
    assert fake.waves[0][1]["prompt"] == "Q: a?\nA:"


def test_a_prompt_longer_than_the_context_is_refused_by_its_number(tmp_path: Path) -> None:
    fake = Fake(token_ids=True, context=42)
    folder = tiny_model(tmp_path / "m")
    with opened(fake, folder=folder) as backend, pytest.raises(BadInput, match=r"tokens.*40.*42"):
        drawn(backend, asked(backend, "a", paths=1))


@pytest.mark.parametrize(
    ("place", "named"),
    [("/v1/load_lora_adapter", "lmsi-1"), ("/load_lora_adapter", "pebble:lmsi-1")],
    ids=["vLLM", "SGLang"],
)
def test_an_adapter_is_loaded_once_under_its_own_name_and_asked_for_by_it(
    tmp_path: Path, place: str, named: str
) -> None:
    fake = Fake(loads_adapters=place)
    with serving(fake):
        for _ in range(2):
            address = f"{fake.url}#pebble"
            backend = open_servers([address], adapter=("lmsi-1", tmp_path), wait=Waits())
            drawn(backend, asked(backend, "a", paths=1))
            backend.close()
    assert fake.adapters == ["lmsi-1"]
    assert {body["model"] for _, body in fake.waves} == {named}


def test_a_server_that_cannot_load_an_adapter_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(BadInput, match=r"cannot load the adapter.*model\.engine=auto"),
        opened(Fake(), adapter=("lmsi-1", tmp_path)),
    ):
        pass
