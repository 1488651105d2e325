"""The whole file decides whether the labels of options are counted from 0 or from 1."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from engine.importing.labels.label_numbering import AmbiguousLabels
from engine.importing.questions import Imported, read_questions
from engine.importing.sampled_outputs import read_sampled
from store.enums import Split
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def imported(path: Path, labels_from: int | None = None, task: str = "choice") -> Imported:
    return read_questions(path, task=task, split=Split.EVAL, labels_from=labels_from)


def letters(found: Imported) -> str:
    return "".join(answer for question in found.questions for answer in found.gold[question.key])


def listed(answers: list[Any], size: int = 4, **more: Any) -> list[dict[str, Any]]:
    """Rows with a list of `size` options of words."""
    words = ["red", "green", "blue", "white", "black", "pink"]
    return [
        {"question": f"Which is number {n}?", "options": words[:size], "answer": answer, **more}
        for n, answer in enumerate(answers)
    ]


def in_columns(names: str, column: str, answers: list[Any]) -> list[dict[str, Any]]:
    """Rows with a column for each option."""
    return [
        {
            "question": f"Which is number {n}?",
            **{name: f"the {name} thing" for name in names.split()},
            column: answer,
        }
        for n, answer in enumerate(answers)
    ]


def arc(labels: str, key: str) -> dict[str, Any]:
    choices = [{"label": label, "text": f"thing {label}"} for label in labels]
    return {"question": {"stem": f"Which of {labels} {key}?", "choices": choices}, "answerKey": key}


# Rows, the letters of their answers, and a part of what is said about the numbering.
LAYOUTS: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "WinoGrande, one row": (
        [
            {
                "sentence": "The pear did not fit in the cup because the _ was too big.",
                "option1": "pear",
                "option2": "cup",
                "answer": "1",
            }
        ],
        "A",
        "labels counted from 1",
    ),
    "WinoGrande": (in_columns("option1 option2", "answer", ["1", "2"]), "AB", "counted from 1"),
    "Social IQa": (
        in_columns("answerA answerB answerC", "label", ["1", "2", "3"]),
        "ABC",
        "labels counted from 1",
    ),
    "PIQA": (in_columns("sol1 sol2", "label", [1, 0]), "BA", "labels counted from 0"),
    "COPA": (in_columns("choice1 choice2", "label", [0, 1]), "AB", "labels counted from 0"),
    "PIQA counted from 1": (in_columns("sol1 sol2", "label", ["2", "1"]), "BA", "from 1"),
    "SWAG": (in_columns("ending0 ending1 ending2 ending3", "label", [3, 1]), "DB", "from 0"),
    "SWAG, one row": (in_columns("ending0 ending1 ending2", "label", [1]), "B", "from 0"),
    "HellaSwag": (
        [{"ctx": f"Then {n}", "endings": ["a b", "c d"], "label": n} for n in ("0", "1")],
        "AB",
        "labels counted from 0",
    ),
    "MedMCQA": (in_columns("opa opb opc opd", "cop", [0, 3, 1]), "ADB", "counted from 0"),
    "older MedMCQA": (in_columns("opa opb opc opd", "cop", [1, 4, 2]), "ADB", "counted from 1"),
    "letters": (in_columns("A B C", "answer", ["C", "a"]), "CA", ""),
    "columns in another order": (in_columns("C B A", "answer", ["C", "A"]), "AC", ""),
    "names of columns": (
        in_columns("option1 option2", "answer", ["option2", "Option 1"]),
        "BA",
        "",
    ),
    "a list, from 1": (listed([1, 2, 3, 4]), "ABCD", "labels counted from 1"),
    "a list, from 0": (listed([0, 2, 3, 1]), "ACDB", "labels counted from 0"),
    "texts of numbers": (listed(["1", "4", "2"]), "ADB", "labels counted from 1"),
    "numbers with a point": (listed(["1.0", "0.0"]), "BA", "labels counted from 0"),
    "floats": (listed([4.0, 1.0]), "DA", "labels counted from 1"),
    "in parentheses": (listed(["(4)", "(1)"]), "DA", "labels counted from 1"),
    "gold": ([{**row, "gold": row.pop("answer")} for row in listed([0, 1])], "AB", "from 0"),
    "correct": ([{**row, "correct": row.pop("answer")} for row in listed([4, 1])], "DA", "from 1"),
    "target": ([{**row, "target": row.pop("answer")} for row in listed([0, 3])], "AD", "from 0"),
    "other numbers of options": (listed([2], 3) + listed([5, 1], 5), "BEA", "counted from 1"),
    "marks": (listed([[0, 0, 1, 0], [1, 0, 0, 0]]), "CA", ""),
    "a list of one": (listed([["B"], ["red"]]), "BA", ""),
    "options as pandas writes them": (
        [{"question": "Which?", "options": "['\\\\dots', \"it's green\"]", "answer": "B"}],
        "B",
        "",
    ),
    "letters and texts": (listed(["B", "(c)", "white"]), "BCD", ""),
    "ARC with letters and numbers": (
        [arc("ABCD", "C"), arc("1234", "1"), arc("123", "3"), arc("ABCDE", "E")],
        "CACE",
        "",
    ),
    "labels that start at 0": ([arc("0123", "1"), arc("0123", "3")], "BD", ""),
    "a dictionary of options": (
        [{"question": "Which?", "options": {"A": "x", "B": "y"}, "answer": "B"}],
        "B",
        "",
    ),
    "texts that are numbers": (
        [
            {"question": "2 + 2?", "options": ["3", "4", "12"], "answer": "4"},
            {"question": "3 * 4?", "options": ["9", "12", "7"], "answer": 12},
        ],
        "BB",
        "texts",
    ),
    "an index that is also a text": (
        [
            {"question": f"Which {n}?", "options": ["1", "2", "7", "9"], "answer": n}
            for n in (0, 3, 2)
        ],
        "ADC",
        "labels counted from 0",
    ),
    "TruthfulQA": (
        [{"question": "Why?", "mc1_targets": {"choices": ["no", "yes"], "labels": [0, 1]}}],
        "B",
        "",
    ),
    "options that are 0": (
        [
            {"question": "3 - 3?", "option1": 0, "option2": 3, "answer": 1},
            {"question": "4 - 1?", "option1": 0, "option2": 3, "answer": 2},
        ],
        "AB",
        "labels counted from 1",
    ),
    "a record with more labels than options": (
        [{"question": "Which?", "options": {"A": "x", "B": "y", "C": None}, "answer": "B"}],
        "B",
        "",
    ),
    "an option left empty": (
        [
            {"question": "a?", "option1": "x", "option2": "", "option3": "z", "answer": 3},
            {"question": "b?", "option1": "x", "option2": "y", "option3": "z", "answer": 1},
        ],
        "BA",
        "labels counted from 1",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_answers_name_the_option_that_the_file_means(tmp_path: Path, layout: str) -> None:
    rows, expected, said = LAYOUTS[layout]
    found = imported(written(tmp_path, *rows))
    assert (letters(found), found.left_out) == (expected, ())
    assert said in found.understood["answer"]
    assert ("labels counted" in found.understood["answer"]) == ("from" in said)


AMBIGUOUS = {
    "a list": listed([1, 2, 3]),
    "one row": listed(["1"]),
    "letters as columns": in_columns("opa opb opc opd", "cop", [2, 1]),
    "names that do not decide": in_columns("sol1 sol2", "label", [1, 1]),
}


@pytest.mark.parametrize("layout", AMBIGUOUS)
def test_a_file_that_does_not_show_it_is_refused_until_the_user_chooses(
    tmp_path: Path, layout: str
) -> None:
    path = written(tmp_path, *AMBIGUOUS[layout])
    with pytest.raises(AmbiguousLabels, match="--labels-from 0 or --labels-from 1"):
        imported(path)
    zero, one = letters(imported(path, 0)), letters(imported(path, 1))
    assert [ord(late) - ord(early) for late, early in zip(zero, one, strict=True)] == [1] * len(one)
    # A pool has no answers, so it does not matter there.
    assert read_questions(path, task="choice", split=Split.POOL).gold == {}


def test_a_file_that_contradicts_itself_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = written(tmp_path, *listed([1, 0, 4, 2]))
    with pytest.raises(BadInput, match=r"line 2 has 0 and line 3 has 4 of 4") as refusal:
        imported(path)
    assert not isinstance(refusal.value, AmbiguousLabels)
    chosen = imported(path, 1)
    assert (letters(chosen), [line for line, _ in chosen.left_out]) == ("ADB", [2])


def test_a_zero_beside_options_that_are_numbered_from_1_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="line 2 has 0, but its options are numbered 1, 2, 3, 4"):
        imported(written(tmp_path, arc("1234", "3"), arc("1234", "0")))


def test_an_option_that_is_always_right_is_said(tmp_path: Path) -> None:
    found = imported(written(tmp_path, *listed(["B"] * 10)))
    assert "every right answer is option B" in found.understood["answer"]


def test_rows_beyond_the_limit_decide_too(tmp_path: Path) -> None:
    path = written(tmp_path, *listed([1, 2, 4]))
    found = read_questions(path, task="choice", split=Split.EVAL, limit=1)
    assert letters(found) == "A"


@pytest.mark.parametrize("answer", ["5", -1, "F", "", None, {"label": "B"}, [1, 1, 0, 0], "7.5"])
def test_an_answer_that_names_no_option_is_left_out(tmp_path: Path, answer: object) -> None:
    found = imported(written(tmp_path, *listed([0, 3, answer])))
    assert (letters(found), [line for line, _ in found.left_out]) == ("AD", [3])


def test_a_repeated_label_names_no_option(tmp_path: Path) -> None:
    found = imported(written(tmp_path, arc("ABCDD", "D"), arc("ABCD", "D")))
    assert (letters(found), [line for line, _ in found.left_out]) == ("D", [1])


def test_inference_labels_may_be_counted_from_1(tmp_path: Path) -> None:
    rows = [{"premise": "It rains.", "hypothesis": f"Sentence {n}.", "label": n} for n in (1, 3, 2)]
    found = imported(written(tmp_path, *rows), task="nli")
    answers = [found.gold[question.key] for question in found.questions]
    assert answers == [("yes",), ("no",), ("it is not possible to tell",)]
    assert "labels counted from 1" in found.understood["answer"]


def test_numbers_that_do_not_say_which_is_yes_are_refused(tmp_path: Path) -> None:
    rows = [{"question": f"Is it {n}?", "answer": n} for n in (1, 2, 1)]
    with pytest.raises(BadInput, match="do not say which is yes"):
        imported(written(tmp_path, *rows), task="yes-no")
    rows = [{"question": f"Is it {n}?", "answer": n} for n in (1, 0)]
    found = imported(written(tmp_path, *rows), task="yes-no")
    assert [found.gold[question.key] for question in found.questions] == [("yes",), ("no",)]


def test_paths_from_elsewhere_are_measured_with_the_same_numbering(tmp_path: Path) -> None:
    rows = [
        {
            "question": "Which?",
            "options": ["red", "green", "blue"],
            "samples": ["The answer is (A)."],
            "gold": gold,
        }
        for gold in (0, 2, 1)
    ]
    path = written(tmp_path, *rows)
    assert [sampled.gold for sampled in read_sampled(path, "choice")] == ["A", "C", "B"]
    ambiguous = written(tmp_path, rows[2])
    with pytest.raises(AmbiguousLabels):
        read_sampled(ambiguous, "choice")
    assert [sampled.gold for sampled in read_sampled(ambiguous, "choice", 1)] == ["A"]
