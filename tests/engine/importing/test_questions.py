from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from engine.importing.questions import Imported, read_questions
from store.enums import AnswerType, Split
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from tests.public import PublicData

UNKNOWN = "it is not possible to tell"


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def evaluation(path: Path, task: str, **fields: str) -> Imported:
    return read_questions(path, task=task, split=Split.EVAL, fields=fields)


SETS = [
    ("gsm8k/train.jsonl", "gsm8k", 33, 7473),
    ("gsm8k/test.jsonl", "gsm8k", 32, 1319),
    ("svamp/SVAMP.json", "svamp", 40, 1000),
    ("aqua/dev.json", "aqua", 26, 254),
    ("aqua/test.json", "aqua", 25, 254),
    ("strategyqa/train.json", "strategyqa", 12, 2061),
    ("strategyqa/dev.json", "strategyqa", 12, 229),
    ("strategyqa/bigbench_task.json", "strategyqa", 30, 2290),
    ("arc_challenge/train1056.clean.jsonl", "arc-challenge", 22, 1056),
    ("arc_challenge/test.clean.jsonl", "arc-challenge", 48, 1172),
    ("openbookqa/train.tsv", "openbookqa", 31, 4957),
    ("openbookqa/dev.tsv", "openbookqa", 20, 500),
    ("openbookqa/test.tsv", "openbookqa", 20, 500),
    ("drop/drop_v0_dev.jsonl.gz", "drop", 30, 9536),
    ("drop/drop_fixture_original_format.json", "drop", 19, 19),
    ("commonsenseqa/train_rand_split.jsonl", "commonsenseqa", 30, 9741),
    ("commonsenseqa/dev_rand_split.jsonl", "commonsenseqa", 30, 1221),
]


@pytest.mark.parametrize(("name", "task", "sample", "complete"), SETS)
@pytest.mark.parametrize("split", [Split.POOL, Split.EVAL])
def test_a_public_set_is_imported_completely(
    public: PublicData, name: str, task: str, sample: int, complete: int, split: Split
) -> None:
    imported = read_questions(public.questions(name), task=task, split=split)
    rows = public.expects(sample=sample, complete=complete)
    assert len(imported.questions) + imported.duplicates == rows
    assert imported.left_out == ()
    assert len(imported.gold) == (0 if split is Split.POOL else len(imported.questions))
    assert all(
        question.text and question.id == 0 and question.split is split
        for question in imported.questions
    )
    choice = imported.questions[0].answer_type is AnswerType.CHOICE
    assert all((2 <= len(question.options) <= 5) == choice for question in imported.questions)


RAW_SETS = [
    ("ai2_arc", "ARC-Challenge-*.jsonl", "arc-challenge", 7, 7),
    ("aqua_rat", "*.json", "aqua", 15, 15),
    ("drop", "*.json", "drop", 7, 7),
    ("glue_mnli", "*.tsv", "mnli", 8, 9),
    ("glue_rte", "*.tsv", "rte", 6, 6),
    ("gsm8k", "*.jsonl", "gsm8k", 10, 10),
    ("multi_nli", "*.jsonl", "mnli", 13, 15),
    ("openbookqa", "*.jsonl", "openbookqa", 8, 8),
    ("superglue_rte", "*.jsonl", "rte", 6, 6),
]


@pytest.mark.parametrize(("folder", "pattern", "task", "sample", "complete"), RAW_SETS)
def test_the_original_layouts_are_imported(
    public: PublicData, folder: str, pattern: str, task: str, sample: int, complete: int
) -> None:
    files = sorted(public.questions(f"hf_raw_formats/{folder}").rglob(pattern))
    tables = [read_questions(path, task=task, split=Split.POOL) for path in files]
    rows = public.expects(sample=sample, complete=complete)
    assert sum(len(table.questions) for table in tables) == rows
    assert all(table.left_out == () and table.gold == {} for table in tables)


def test_a_truncated_row_is_skipped_with_its_line(public: PublicData) -> None:
    (path,) = public.questions("hf_raw_formats/multi_nli").rglob("multinli_1.0_train.txt")
    imported = read_questions(path, task="mnli", split=Split.EVAL)
    assert imported.left_out == ((5, "it has 11 columns, the header has 15"),)


def test_gsm8k_golds_keep_their_sign_and_lose_their_commas(public: PublicData) -> None:
    gold = evaluation(public.questions("gsm8k/train.jsonl"), "gsm8k").gold.values()
    numbers = [float(number) for (number,) in gold]
    assert sum(number < 0 for number in numbers) == 3
    assert ("109200000",) in gold


def test_a_svamp_story_gets_its_full_stop(public: PublicData) -> None:
    imported = evaluation(public.questions("svamp/SVAMP.json"), "svamp")
    assert "on each pack. How much do you" in imported.questions[0].text
    assert imported.questions[0].passage == ""
    assert imported.gold[imported.questions[0].key] == ("51",)


def test_arc_labels_that_are_numbers_become_letters(public: PublicData) -> None:
    path = public.questions("arc_challenge/test.clean.jsonl")
    imported = evaluation(path, "arc-challenge")
    for line, question in zip(path.read_text().splitlines(), imported.questions, strict=True):
        row = json.loads(line)
        if row["answerKey"] in "1234":
            letter = "ABCD"[int(row["answerKey"]) - 1]
            assert imported.gold[question.key] == (letter,)


def test_two_options_with_the_same_label_are_both_kept(public: PublicData) -> None:
    imported = evaluation(public.questions("openbookqa/train.tsv"), "openbookqa")
    (question,) = [
        question
        for question in imported.questions
        if "baby birds chewing worms" in question.options
    ]
    assert len(question.options) == 5
    assert imported.gold[question.key] == ("B",)


def test_aqua_options_lose_the_label_in_their_text(public: PublicData) -> None:
    imported = evaluation(public.questions("aqua/dev.json"), "aqua")
    assert imported.questions[0].options == ("32400", "6000", "600", "60000", "10")


def test_drop_accepts_the_answer_of_any_annotator(public: PublicData) -> None:
    imported = evaluation(public.questions("drop/drop_v0_dev.jsonl.gz"), "drop")
    accepted = imported.gold[imported.questions[1].key]
    assert accepted == ("pakistanis and filipinos", "pakistani and filipino")
    assert "two nationalities" in imported.questions[1].text
    assert imported.questions[1].passage.startswith("Non-nationals")


# The rows below are written by hand; none is from a data set.

ANLI = [
    {"context": "The shop opens at nine.", "hypothesis": "It is open at ten.", "label": "n"},
    {"context": "All lamps are lit.", "hypothesis": "One lamp is lit.", "label": "e"},
    {"context": "No lamp is lit.", "hypothesis": "One lamp is lit.", "label": "c"},
]


@pytest.mark.parametrize("task", ["anli-a1", "anli-a2", "anli-a3", "nli"])
def test_anli_labels_may_be_letters_or_numbers(tmp_path: Path, task: str) -> None:
    path = written(tmp_path, "a.jsonl", "\n".join(json.dumps(row) for row in ANLI))
    imported = evaluation(path, task)
    assert [imported.gold[question.key] for question in imported.questions] == [
        (UNKNOWN,),
        ("yes",),
        ("no",),
    ]
    assert imported.questions[0].passage == "The shop opens at nine."
    assert imported.questions[0].text == "It is open at ten."
    numbered = [
        {
            "premise": row["context"],
            "hypothesis": row["hypothesis"],
            "label": "enc".index(row["label"]),
        }
        for row in ANLI
    ]
    again = evaluation(written(tmp_path, "b.json", json.dumps(numbered)), task)
    assert again.gold == imported.gold


def test_not_entailment_in_rte_accepts_both_other_labels(tmp_path: Path) -> None:
    row = {"premise": "It rains.", "hypothesis": "It is Monday.", "label": "not_entailment"}
    imported = evaluation(written(tmp_path, "r.jsonl", json.dumps(row)), "rte")
    assert list(imported.gold.values()) == [("no", UNKNOWN)]


def test_a_pool_never_stores_answers(tmp_path: Path) -> None:
    path = written(tmp_path, "q.csv", "question,answer\nOne plus one?,2\n")
    imported = read_questions(path, task="number", split=Split.POOL)
    assert imported.gold == {}
    assert imported.understood["answer"] == "answer (ignored: a pool has no answers)"


LAYOUTS = {
    "hub": {
        "question": "Which?",
        "choices": {"text": ["x", "y"], "label": ["A", "B"]},
        "answerKey": "B",
    },
    "columns": {"question": "Which?", "A": "x", "B": "y", "answer": "B"},
    "named": {"question": "Which?", "option_a": "x", "option_b": "y", "correct": "b"},
    "inside": {"question": "Which? (A) x (B) y", "answer": "(B)"},
    "lines": {"question": "Which?\nChoices:\n A: x\n B: y", "answer": "B"},
    "text": {"question": "Which?", "options": ["x", "y"], "answer": "y"},
    "scores": {"input": "Which?", "target_scores": {"x": 0, "y": 1}},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_options_are_found_in_every_layout(tmp_path: Path, layout: str) -> None:
    rows = [LAYOUTS[layout], LAYOUTS[layout]]
    imported = evaluation(written(tmp_path, "c.json", json.dumps(rows)), "choice")
    (question,) = imported.questions
    assert (question.text, question.options) == ("Which?", ("x", "y"))
    assert imported.gold == {question.key: ("B",)}
    assert imported.duplicates == 1


def test_every_file_format_gives_the_same_questions(tmp_path: Path) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    rows = [{"question": "One, two?", "answer": "12"}, {"question": "Two\tand two?", "answer": "4"}]
    lines = "\n".join(json.dumps(row) for row in rows)
    files = [
        written(tmp_path, "a.jsonl", lines),
        written(tmp_path, "b.json", lines),
        written(tmp_path, "c.json", json.dumps(rows)),
        written(tmp_path, "d.json", json.dumps({"version": 1, "data": rows})),
        written(tmp_path, "e.csv", 'question,answer\n"One, two?",12\nTwo\tand two?,4\n'),
        written(tmp_path, "f.csv", "question;answer\r\nOne, two?;12\r\nTwo\tand two?;4\r\n"),
        tmp_path / "g.jsonl.gz",
        tmp_path / "h.parquet",
    ]
    files[-2].write_bytes(gzip.compress(lines.encode()))
    parquet.write_table(arrow.Table.from_pylist(rows), files[-1])
    keys = set()
    for path in files:
        imported = evaluation(path, "number")
        keys.add(tuple(question.key for question in imported.questions))
        assert list(imported.gold.values()) == [("12",), ("4",)]
    assert len(keys) == 1


def test_plain_text_has_a_question_per_line(tmp_path: Path) -> None:
    path = written(tmp_path, "q.txt", "One plus one?\n\nTwo, or three?\n")
    imported = read_questions(path, task="number", split=Split.POOL, limit=1)
    assert [question.text for question in imported.questions] == ["One plus one?"]
    assert imported.questions[0].source == "q"
    assert len(read_questions(path, task="number", split=Split.POOL).questions) == 2


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = written(tmp_path, "q.csv", "frage,loesung\nEins plus eins?,2\n")
    imported = evaluation(path, "number", question="frage", answer="loesung")
    assert imported.questions[0].text == "Eins plus eins?"
    assert list(imported.gold.values()) == [("2",)]


def test_unusable_rows_are_skipped_with_their_line(tmp_path: Path) -> None:
    path = written(tmp_path, "q.csv", "question,answer\nA?,1\n,2\nB?,many\nC?,\nD?,5\nE?,6\n")
    imported = evaluation(path, "number")
    assert [question.text for question in imported.questions] == ["A?", "D?", "E?"]
    assert imported.left_out == (
        (3, "it has no question"),
        (4, "its answer 'many' cannot be read as number"),
        (5, "it has no answer"),
    )


BAD = [
    ("q.jsonl", '{"question": "a"}\n{"question": \n', "number", "line 2 is not JSON"),
    ("q.json", '[{"question": "a",]', "number", "line 1 is not JSON"),
    ("q.json", "question,answer", "number", "line 1 is not JSON"),
    ("q.json", "[1, 2]", "number", "entry 1 is not an object"),
    ("q.json", "[" * 100_000, "number", "nested too deeply|is not JSON"),
    ("q.csv", "", "number", "is empty"),
    ("q.csv", "question,answer\n", "number", "no rows"),
    ("q.csv", "question,question\na,b\n", "number", "same name"),
    ("q.csv", "a,b\n1,2\n", "number", "no column of questions .it has a, b.*--field question"),
    ("q.csv", "question,b\nx,2\n", "number", "no column of answers"),
    ("q.csv", "question,answer\nx,Paris\ny,Rome\n", "number", "does not fit --task number"),
    ("q.csv", "question,answer\nx,7\ny,8\n", "yes-no", "does not fit --task yes-no"),
    ("q.csv", "question,answer\nx,A\n", "choice", "line 2: it has no options"),
    ("q.csv", "question,answer\nx,yes\n", "nli", "no pair of premise and hypothesis"),
    ("q.csv", "question,answer\nx,yes\n", "gsm", "Unknown task 'gsm'"),
]


@pytest.mark.parametrize(("name", "text", "task", "sentence"), BAD)
def test_an_unusable_file_is_refused_with_its_name_and_line(
    tmp_path: Path, name: str, text: str, task: str, sentence: str
) -> None:
    with pytest.raises(BadInput, match=sentence) as refusal:
        evaluation(written(tmp_path, name, text), task)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).endswith(".")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\xff", "not UTF-8 text"),
        (b"abc\0def", "binary file"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"\x1f\x8b\x08broken", "damaged gzip"),
        (b"PAR1broken", "damaged Parquet"),
    ],
)
def test_a_binary_file_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "q.bin"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=sentence):
        evaluation(path, "number")


def test_a_missing_file_a_folder_and_unknown_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="There is no file"):
        evaluation(tmp_path / "none.jsonl", "number")
    with pytest.raises(BadInput, match="is a folder"):
        evaluation(tmp_path, "number")
    path = written(tmp_path, "q.csv", "question,answer\nx,1\n")
    with pytest.raises(BadInput, match="no column 'gold': it has question, answer"):
        evaluation(path, "number", answer="gold")
    with pytest.raises(BadInput, match="--field hint= is unknown"):
        evaluation(path, "number", hint="question")
    with pytest.raises(BadInput, match="--limit is 0"):
        read_questions(path, task="number", split=Split.POOL, limit=0)


def test_a_number_too_large_for_a_float_is_no_yes_or_no(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    rows = [{"question": "Is it so?", "answer": 1}, {"question": "Is it not?", "answer": 10**400}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    imported = read_questions(file, task="yes-no", split=Split.EVAL)
    assert list(imported.gold.values()) == [("yes",)]
    assert [number for number, _ in imported.left_out] == [2]
