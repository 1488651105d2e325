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
from tests.engine.tiny import Waiting

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


def asked(backend: Scripted, text: str, paths: int, question: str = "q") -> list[PathRequest]:
    prompt = tuple(backend.tokenize(text))
    return [PathRequest(question, i, prompt, 0, path_seed(5, question, i)) for i in range(paths)]


def played(
    backend: Scripted, paths: list[PathRequest], sampling: Sampling = SAMPLING
) -> list[Generation]:
    return list(backend.sample(Waiting(paths), sampling))


def test_answers_come_with_their_weights(backend: Scripted) -> None:
    """Three in four say 18: of 2,000 paths 1,500, five deviations are 97."""
    found = played(backend, asked(backend, "How many apples?", 2000))
    said = Counter("18" if "18" in path.text else "20" for path in found)
    assert abs(said["18"] - 1500) < 97
    assert {path.end for path in found} == {EndReason.END}
    assert all(path.token_ids == (*path.text.encode(), END) for path in found)


def test_what_a_path_says_hangs_on_its_seed_alone(backend: Scripted) -> None:
    paths = asked(backend, "How many apples?", 30)
    whole = {path.index: path for path in played(backend, paths)}
    rest = {path.index: path for path in played(backend, paths[:11:-1])}
    assert rest == {index: path for index, path in whole.items() if index > 11}


def test_short_paths_finish_first(backend: Scripted) -> None:
    found = played(backend, asked(backend, "How many apples?", 4))
    lengths = [len(path.token_ids) for path in found]
    assert lengths == sorted(lengths)
    assert [path.index for path in found] != [0, 1, 2, 3]


def test_the_rule_that_stands_last_in_the_prompt_counts(backend: Scripted) -> None:
    (path,) = played(backend, asked(backend, "How many pears?", 1))
    assert (path.text, path.end) == ("The answer is yes.", EndReason.STOP)
    assert bytes(path.token_ids) == b"The answer is yes."
    (path,) = played(backend, asked(backend, "How many apples?", 1))
    assert "yes" not in path.text


def test_a_long_path_is_cut(backend: Scripted) -> None:
    sampling = Sampling(temperature=0.7, max_tokens=3)
    (path,) = played(backend, asked(backend, "apples", 1), sampling)
    assert (len(path.token_ids), path.end) == (3, EndReason.LENGTH)


def test_paths_of_a_settled_question_are_dropped(backend: Scripted) -> None:
    source = Waiting([*asked(backend, "apples", 6, "a"), *asked(backend, "apples", 6, "b")])
    seen = []
    for path in backend.sample(source, SAMPLING):
        seen.append(path.question)
        source.settled.add("a")
    assert seen.count("a") <= 1
    assert seen.count("b") == 6


def test_more_paths_may_come_after_one_was_seen(backend: Scripted) -> None:
    source = Waiting(asked(backend, "apples", 1))
    later = asked(backend, "apples", 3)[1:]
    seen = []
    for path in backend.sample(source, SAMPLING):
        seen.append(path.index)
        source.paths += later
        later = []
    assert sorted(seen) == [0, 1, 2]


def test_the_engine_fails_where_the_script_says(tmp_path: Path) -> None:
    rule: dict[str, Any] = {"answers": {"1": 1}, "texts": ["{answer}"]}
    path = tmp_path / "script.json"
    path.write_text(json.dumps({"rules": [rule], "fail_after": 2}))
    backend = open_scripted(path)
    sampling = backend.sample(Waiting(asked(backend, "x", 5)), SAMPLING)
    next(sampling)
    next(sampling)
    with pytest.raises(WorkFailed, match="after 2 paths"):
        next(sampling)


def test_a_prompt_that_leaves_no_room_is_refused(backend: Scripted) -> None:
    with pytest.raises(BadInput, match=r"q has 101 tokens.*200.*300"):
        played(backend, asked(backend, "a" * 101, 1))


def test_a_prompt_without_a_rule_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.toml"
    path.write_text(SCRIPT[: SCRIPT.rindex("[[rules]]")])
    backend = open_scripted(path)
    with pytest.raises(BadInput, match="No rule of the script"):
        played(backend, asked(backend, "pears", 1))


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
def test_a_broken_script_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "script.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"script\.toml"):
        open_scripted(path)


def test_a_script_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        open_scripted(tmp_path / "none.toml")


def test_a_chat_is_read_like_any_prompt(backend: Scripted) -> None:
    ids = backend.tokenize_chat([ChatMessage("user", "How many apples?")])
    assert bytes(ids).decode() == "user: How many apples?\nassistant:"
    begun = backend.tokenize_chat([ChatMessage("user", "a"), ChatMessage("assistant", "It is")])
    assert bytes(begun).decode() == "user: a\nassistant: It is"
