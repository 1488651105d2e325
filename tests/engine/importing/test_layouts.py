"""Layouts of training files and evaluation logs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from engine.importing.questions import Imported, read_questions
from engine.importing.sampled_outputs import read_sampled
from engine.importing.tables import read_rows
from engine.importing.task_detection import guess_task
from store.enums import Split
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

SUM = "Add the numbers.\n\n12 and 7"


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def imported(path: Path, task: str = "number", **fields: str) -> Imported:
    return read_questions(path, task=task, split=Split.EVAL, fields=fields)


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


# A row, its question, and its accepted answers.
ROWS: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "Alpaca": (
        {"instruction": "Add the numbers.", "input": "12 and 7", "output": "19"},
        SUM,
        ("19",),
    ),
    "Alpaca without an input": (
        {"instruction": "What is 12 + 7?", "input": "", "output": "12 + 7 = 19\nThe answer is 19."},
        "What is 12 + 7?",
        ("19",),
    ),
    "Alpaca with a history": (
        {"instruction": "What is 12 + 7?", "input": None, "output": "19", "history": []},
        "What is 12 + 7?",
        ("19",),
    ),
    "messages": (
        {"messages": [user(SUM), assistant("So it is 19.\nThe answer is 19.")]},
        SUM,
        ("19",),
    ),
    "messages in parts": (
        {
            "messages": [
                user([{"type": "text", "text": SUM}]),
                assistant([{"type": "text", "text": "19"}]),
            ]
        },
        SUM,
        ("19",),
    ),
    "messages as JSON text": ({"messages": json.dumps([user(SUM), assistant("19")])}, SUM, ("19",)),
    "a question in two messages": (
        {"messages": [user("Add the numbers."), user("12 and 7"), assistant("19")]},
        SUM,
        ("19",),
    ),
    "a system turn": (
        {"messages": [system("Be brief."), user(SUM), assistant("19")]},
        SUM,
        ("19",),
    ),
    "ShareGPT": (
        {"conversations": [{"from": "human", "value": SUM}, {"from": "gpt", "value": "19"}]},
        SUM,
        ("19",),
    ),
    "a conversation": ({"conversation": [user(SUM), assistant("19")]}, SUM, ("19",)),
    "a dialog": (
        {"dialog": [{"role": "human", "content": SUM}, {"role": "bot", "content": "19"}]},
        SUM,
        ("19",),
    ),
    "messages with an answer beside them": (
        {"messages": [user(SUM)], "answer": "19"},
        SUM,
        ("19",),
    ),
    "prompt and completion": (
        {"prompt": [user(SUM)], "completion": [assistant("19")]},
        SUM,
        ("19",),
    ),
    "prompt and completion as text": ({"prompt": SUM, "completion": "19"}, SUM, ("19",)),
    "verl": (
        {
            "data_source": "sums",
            "prompt": [user(SUM)],
            "reward_model": {"style": "rule", "ground_truth": "19"},
            "extra_info": {"index": 0, "split": "train"},
        },
        SUM,
        ("19",),
    ),
    "a sample log": (
        {
            "doc_id": 0,
            "doc": {"question": SUM, "answer": "12 + 7 = 19\n#### 19"},
            "target": "19",
            "arguments": [["Question: …", {"until": []}]],
            "resps": [["The answer is 19."]],
            "filtered_resps": ["19"],
        },
        SUM,
        ("19",),
    ),
    "a sample log with its own target": (
        {"doc": {"problem": SUM}, "target": "19", "resps": [["19"]]},
        SUM,
        ("19",),
    ),
    "MGSM": (
        {"question": SUM, "answer": None, "answer_number": 19, "equation_solution": None},
        SUM,
        ("19",),
    ),
    "SQuAD": (
        {
            "title": "Sums",
            "paragraphs": [
                {
                    "context": "About sums.",
                    "qas": [{"question": SUM, "answers": [{"text": "19", "answer_start": 0}]}],
                }
            ],
        },
        SUM,
        ("19",),
    ),
    "columns of lists": ({"question": [SUM], "answer": ["19"]}, SUM, ("19",)),
    "columns as pandas writes them": ({"question": {"0": SUM}, "answer": {"0": 19}}, SUM, ("19",)),
}


@pytest.mark.parametrize("layout", ROWS)
@pytest.mark.parametrize("times", [1, 3])
def test_the_question_and_the_answer_of_every_layout(
    tmp_path: Path, layout: str, times: int
) -> None:
    row, question, answers = ROWS[layout]
    if "columns" in layout and times > 1:
        pytest.skip("such a file has one object")
    task = "span" if layout == "SQuAD" else "number"
    found = imported(written(tmp_path, *[row] * times), task)
    assert [asked.text for asked in found.questions] == [question]
    assert list(found.gold.values()) == [answers]
    assert (found.left_out, found.duplicates) == ((), times - 1)


@pytest.mark.parametrize("layout", ["Alpaca", "messages", "ShareGPT", "verl", "a sample log"])
def test_the_task_of_every_layout_is_detected(tmp_path: Path, layout: str) -> None:
    path = written(tmp_path, *[ROWS[layout][0]] * 3)
    assert guess_task(path, read_rows(path)) == "number"


def test_what_was_guessed_is_said(tmp_path: Path) -> None:
    found = imported(written(tmp_path, *[ROWS["Alpaca"][0]] * 2))
    assert found.understood["question"] == "instruction + input"
    found = imported(written(tmp_path, *[ROWS["messages"][0]] * 2))
    assert found.understood["question"] == "messages (user turn)"
    assert found.understood["answer"] == "messages (assistant turn)"
    found = imported(written(tmp_path, *[ROWS["MGSM"][0]] * 2))
    assert found.understood["answer"] == "answer_number"


def test_a_system_turn_is_part_of_the_question_unless_it_is_always_the_same(
    tmp_path: Path,
) -> None:
    same = [
        {"messages": [system("Be brief."), user(f"What is {n} + 1?"), assistant("2")]}
        for n in (1, 2)
    ]
    found = imported(written(tmp_path, *same))
    assert [asked.text for asked in found.questions] == ["What is 1 + 1?", "What is 2 + 1?"]
    assert "system turn" in found.understood["question"]
    same[0]["messages"][0] = system("Count in tens.")
    found = imported(written(tmp_path, *same))
    assert found.questions[0].text == "Count in tens.\n\nWhat is 1 + 1?"
    assert found.questions[1].text == "Be brief.\n\nWhat is 2 + 1?"


UNUSABLE = {
    "several questions": [
        user("What is 1 + 1?"),
        assistant("2"),
        user("And 2 + 2?"),
        assistant("4"),
    ],
    "no user": [system("Be brief."), assistant("2")],
    "a tool": [user("What is 1 + 1?"), {"role": "tool", "content": "2"}, assistant("2")],
    "an image": [
        user([{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": "x"}])
    ],
    "no text": [user(None), assistant("2")],
}


@pytest.mark.parametrize("conversation", UNUSABLE)
def test_a_conversation_that_is_not_one_question_is_left_out(
    tmp_path: Path, conversation: str
) -> None:
    good = {"messages": [user(SUM), assistant("19")]}
    path = written(tmp_path, good, {"messages": UNUSABLE[conversation]})
    found = imported(path)
    assert len(found.questions) == 1
    assert [line for line, _ in found.left_out] == [2]
    with pytest.raises(BadInput, match="line 1"):
        imported(written(tmp_path, *[{"messages": UNUSABLE[conversation]}] * 2))


def test_an_alpaca_row_with_earlier_turns_is_left_out(tmp_path: Path) -> None:
    row = dict(ROWS["Alpaca"][0])
    found = imported(written(tmp_path, row, {**row, "history": [["Hello.", "Hi."]]}))
    assert [line for line, _ in found.left_out] == [2]


@pytest.mark.parametrize(
    "fields",
    [
        {"question": "messages"},
        {"question": "messages.0.content", "answer": "messages.-1.content"},
        {"question": "messages[0].content", "answer": "messages[-1].content"},
        {"question": "extra.question.text", "answer": "extra.answers.1"},
    ],
)
def test_a_field_can_be_a_path_into_nested_values(tmp_path: Path, fields: dict[str, str]) -> None:
    row = {
        "messages": [user(SUM), assistant("19")],
        "extra": json.dumps({"question": {"text": SUM}, "answers": [1, 19]}),
    }
    found = imported(written(tmp_path, row, row), **fields)
    assert found.questions[0].text == SUM
    assert list(found.gold.values()) == [("19",)]


def test_a_path_to_nothing_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, *[ROWS["messages"][0]] * 2)
    for wrong in ("messages.7.content", "messages.0.text", "nothing.0"):
        with pytest.raises(BadInput, match=wrong):
            imported(path, question=wrong)


def test_an_object_with_several_lists_asks_which(tmp_path: Path) -> None:
    rows = [{"question": f"What is {n} + 1?", "answer": n + 1} for n in range(3)]
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"train": rows[:2], "test": rows[2:]}))
    with pytest.raises(BadInput, match=r"train, test.*--field rows="):
        imported(path)
    assert len(imported(path, rows="train").questions) == 2
    assert len(imported(path, rows="test").questions) == 1
    with pytest.raises(BadInput, match="no list 'dev'"):
        imported(path, rows="dev")


# Paths from the logs of an evaluation.


def log(doc_id: int, texts: list[Any], name: str = "none") -> dict[str, Any]:
    doc = {"question": f"What is {doc_id} + 1?", "answer": str(doc_id + 1)}
    return {"doc_id": doc_id, "doc": doc, "resps": [texts], "filter": name, "target": "?"}


def test_the_paths_of_a_sample_log_are_its_responses(tmp_path: Path) -> None:
    rows = [
        log(1, ["The answer is 2.", "The answer is 3."], "strict"),
        log(2, ["The answer is 3."], "strict"),
        log(1, ["The answer is 2.", "The answer is 3."], "flexible"),
    ]
    sampled = read_sampled(written(tmp_path, *rows), "number")
    assert [one.answers for one in sampled] == [("2", "3"), ("3",)]
    assert [one.gold for one in sampled] == ["2", "3"]


def test_the_paths_of_choices_keep_the_options_of_the_log(tmp_path: Path) -> None:
    doc = {"question": "Which?", "choices": {"text": ["red", "green"], "label": ["A", "B"]}}
    rows = [{"doc_id": 0, "doc": {**doc, "answerKey": "B"}, "resps": [["It is green."], ["(A)"]]}]
    (sampled,) = read_sampled(written(tmp_path, *rows), "choice")
    assert sampled.gold == "B"
    assert len(sampled.answers) == 2


def test_a_log_of_likelihoods_has_no_paths(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"line 1 .*likelihoods"):
        read_sampled(written(tmp_path, log(1, [[-1.5, False]])), "number")
