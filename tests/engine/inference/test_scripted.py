"""The scripted backend: deterministic by seed, in the order of a real batch."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from engine.inference.backend import Generation, PathRequest, Sampling, path_seed
from engine.inference.scripted import END, Scripted, open_scripted
from engine.prompting.messages import ChatMessage
from store.enums import EndReason
from store.errors import BadInput, WorkFailed
from tests.engine.tiny import ListSource

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
context = 300
slots = 4

[[rules]]
contains = "apples"
answers = { "18" = 3, "20" = 1 }
texts = ["{steps} The answer is {answer}.", "{answer}."]
steps = ["Ann has nine.", "Bob has 9."]
length = [1, 4]

[[rules]]
answers = { "yes" = 1 }
texts = ["The answer is {answer}.\\n\\nQ: And then?"]
"""
SAMPLING = Sampling(temperature=0.7, max_tokens=200, stop=("\n\nQ:",))


@pytest.fixture
def backend(tmp_path: Path) -> Scripted:
    (tmp_path / "script.toml").write_text(SCRIPT)
    return open_scripted(tmp_path / "script.toml")


def path_requests(
    backend: Scripted, text: str, paths: int, question: str = "q"
) -> list[PathRequest]:
    prompt = tuple(backend.tokenize(text))
    return [PathRequest(question, i, prompt, 0, path_seed(5, question, i)) for i in range(paths)]


def sampled(
    backend: Scripted, paths: list[PathRequest], sampling: Sampling = SAMPLING
) -> list[Generation]:
    return list(backend.sample(ListSource(paths), sampling))


def test_answers_are_sampled_by_weight(backend: Scripted) -> None:
    """Three in four answer 18: 1,500 of 2,000 paths; five standard deviations are 97."""
    results = sampled(backend, path_requests(backend, "How many apples?", 2000))
    counts = Counter("18" if "18" in path.text else "20" for path in results)
    assert abs(counts["18"] - 1500) < 97
    assert {path.end for path in results} == {EndReason.END}
    assert all(path.token_ids == (*path.text.encode(), END) for path in results)


def test_a_path_depends_only_on_its_seed(backend: Scripted) -> None:
    paths = path_requests(backend, "How many apples?", 30)
    whole = {path.index: path for path in sampled(backend, paths)}
    rest = {path.index: path for path in sampled(backend, paths[:11:-1])}
    assert rest == {index: path for index, path in whole.items() if index > 11}


def test_short_paths_finish_first(backend: Scripted) -> None:
    results = sampled(backend, path_requests(backend, "How many apples?", 4))
    lengths = [len(path.token_ids) for path in results]
    assert lengths == sorted(lengths)
    assert [path.index for path in results] != [0, 1, 2, 3]


def test_the_rule_that_matches_last_in_the_prompt_applies(backend: Scripted) -> None:
    (path,) = sampled(backend, path_requests(backend, "How many pears?", 1))
    assert (path.text, path.end) == ("The answer is yes.", EndReason.STOP)
    assert bytes(path.token_ids) == b"The answer is yes."
    (path,) = sampled(backend, path_requests(backend, "How many apples?", 1))
    assert "yes" not in path.text


def test_a_path_ends_at_the_token_limit(backend: Scripted) -> None:
    sampling = Sampling(temperature=0.7, max_tokens=3)
    (path,) = sampled(backend, path_requests(backend, "apples", 1), sampling)
    assert (len(path.token_ids), path.end) == (3, EndReason.LENGTH)


def test_paths_of_a_settled_question_are_dropped(backend: Scripted) -> None:
    source = ListSource(
        [*path_requests(backend, "apples", 6, "a"), *path_requests(backend, "apples", 6, "b")]
    )
    seen = []
    for path in backend.sample(source, SAMPLING):
        seen.append(path.question)
        source.settled.add("a")
    assert seen.count("a") <= 1
    assert seen.count("b") == 6


def test_the_source_may_add_paths_during_sampling(backend: Scripted) -> None:
    source = ListSource(path_requests(backend, "apples", 1))
    later = path_requests(backend, "apples", 3)[1:]
    seen = []
    for path in backend.sample(source, SAMPLING):
        seen.append(path.index)
        source.paths += later
        later = []
    assert sorted(seen) == [0, 1, 2]


def test_sampling_fails_after_fail_after_paths(tmp_path: Path) -> None:
    rule: dict[str, Any] = {"answers": {"1": 1}, "texts": ["{answer}"]}
    path = tmp_path / "script.json"
    path.write_text(json.dumps({"rules": [rule], "fail_after": 2}))
    backend = open_scripted(path)
    sampling = backend.sample(ListSource(path_requests(backend, "x", 5)), SAMPLING)
    next(sampling)
    next(sampling)
    with pytest.raises(WorkFailed, match="after 2 paths"):
        next(sampling)


def test_a_prompt_too_long_for_the_context_is_refused(backend: Scripted) -> None:
    with pytest.raises(BadInput, match=r"q has 101 tokens.*200.*300"):
        sampled(backend, path_requests(backend, "a" * 101, 1))


def test_a_prompt_that_matches_no_rule_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.toml"
    path.write_text(SCRIPT[: SCRIPT.rindex("[[rules]]")])
    backend = open_scripted(path)
    with pytest.raises(BadInput, match="No rule of the script"):
        sampled(backend, path_requests(backend, "pears", 1))


@pytest.mark.parametrize(
    "text",
    [
        "rules = 3",
        "rules = [",
        "[[rules]]\nanswers = {}\ntexts = ['a']",
        "[[rules]]\nanswers = { a = -1 }\ntexts = ['a']",
        "[[rules]]\nanswers = { a = 1 }\ntexts = ['a']\nlength = [3, 2]",
        "[[rules]]\ntexts = ['a']",
    ],
)
def test_an_invalid_script_is_refused_with_its_file_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "script.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"script\.toml"):
        open_scripted(path)


def test_a_missing_script_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        open_scripted(tmp_path / "none.toml")


def test_a_chat_becomes_lines_of_text(backend: Scripted) -> None:
    ids = backend.tokenize_chat([ChatMessage("user", "How many apples?")])
    assert bytes(ids).decode() == "user: How many apples?\nassistant:"
    unfinished = backend.tokenize_chat(
        [ChatMessage("user", "a"), ChatMessage("assistant", "It is")]
    )
    assert bytes(unfinished).decode() == "user: a\nassistant: It is"


def test_the_confidence_of_a_path_depends_on_its_seed_and_answer(tmp_path: Path) -> None:
    script = SCRIPT.replace("length = [1, 4]", 'length = [1, 4]\nconfidence = { "18" = -0.1 }')
    (tmp_path / "script.toml").write_text(script)
    backend = open_scripted(tmp_path / "script.toml")
    paths = path_requests(backend, "How many apples?", 200)
    results, again = (
        {path.index: path for path in sampled(backend, given)} for given in (paths, paths[::-1])
    )
    means: dict[bool, list[float]] = {True: [], False: []}
    for index, path in results.items():
        assert path.confidence is not None
        assert path.confidence == again[index].confidence
        means["18" in path.text].append(path.confidence.mean_logprob)
    assert sum(means[True]) / len(means[True]) == pytest.approx(-0.1, abs=0.02)
    assert sum(means[False]) / len(means[False]) == pytest.approx(-0.5, abs=0.1)


def test_a_script_with_a_positive_log_probability_is_refused(tmp_path: Path) -> None:
    script = SCRIPT.replace("length = [1, 4]", 'confidence = { "18" = 0.1 }')
    (tmp_path / "script.toml").write_text(script)
    with pytest.raises(BadInput, match=r"script\.toml"):
        open_scripted(tmp_path / "script.toml")
