"""File formats, folders of shards, compression, and damaged lines."""

from __future__ import annotations

import bz2
import datetime
import decimal
import gzip
import json
import lzma
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

import pyarrow as arrow
import pytest
from pyarrow import ipc, parquet

from engine.answers.extraction import canonical
from engine.importing import source_files
from engine.importing.questions import Imported, read_questions
from engine.importing.tables import LARGEST_CELL, read_rows
from store.enums import AnswerType, Split
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS = [{"question": f"What is {n} + 1?", "answer": n + 1} for n in range(6)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def imported(path: Path, task: str = "number") -> Imported:
    return read_questions(path, task=task, split=Split.EVAL)


def texts(found: Imported) -> list[str]:
    return [question.text for question in found.questions]


def answers(found: Imported) -> list[str]:
    return [answer for question in found.questions for answer in found.gold[question.key]]


def zstd(content: bytes) -> bytes:
    return bytes(arrow.Codec("zstd").compress(content, asbytes=True))


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress), (".zst", zstd)],
)
def test_a_compressed_file_is_read_as_its_content(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"sums.jsonl{suffix}"
    path.write_bytes(compress(LINES.encode()))
    found = imported(path)
    assert len(found.questions) == 6
    assert found.questions[0].source == "sums"
    path.write_bytes(compress(LINES.encode())[:-20])
    with pytest.raises(BadInput, match="damaged"):
        imported(path)


def test_archives_are_refused_with_what_to_do(tmp_path: Path) -> None:
    inside = tmp_path / "sums.jsonl"
    inside.write_text(LINES)
    with zipfile.ZipFile(tmp_path / "sums.zip", "w") as archive:
        archive.write(inside)
    with zipfile.ZipFile(tmp_path / "sums.xlsx", "w") as archive:
        archive.write(inside)
    for name in ("sums.tar", "sums.tar.gz"):
        with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w") as tar:
            tar.add(inside)
    for name, sentence in (
        ("sums.zip", "zip archive: unpack it"),
        ("sums.xlsx", "spreadsheet: save its sheet as CSV"),
        ("sums.tar", "tar archive: unpack it"),
        ("sums.tar.gz", "tar archive: unpack it"),
    ):
        with pytest.raises(BadInput, match=sentence):
            imported(tmp_path / name)


# Names and values in Parquet and Arrow.


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.table(columns), path)
    return path


VALUES: dict[str, tuple[Any, str, str]] = {
    "decimal128": (
        arrow.array([decimal.Decimal("19.50")], arrow.decimal128(10, 2)),
        "number",
        "19.5",
    ),
    "decimal256": (
        arrow.array([decimal.Decimal("1900")], arrow.decimal256(50, 0)),
        "number",
        "1900",
    ),
    "large_string": (arrow.array(["19"], arrow.large_string()), "number", "19"),
    "dictionary": (arrow.array(["19"]).dictionary_encode(), "number", "19"),
    "float32": (arrow.array([0.1], arrow.float32()), "number", "0.1"),
    "int8": (arrow.array([19], arrow.int8()), "number", "19"),
    "float64": (arrow.array([19.0]), "number", "19"),
    "binary": (arrow.array([b"19"]), "number", "19"),
    "date32": (arrow.array([datetime.date(1998, 5, 4)]), "span", "1998-05-04"),
    "timestamp": (arrow.array(["1998-05-04"]).cast(arrow.timestamp("ns")), "span", "1998-05-04"),
    "a list": (arrow.array([["19"]]), "number", "19"),
    "a record": (
        arrow.array([{"number": "19", "spans": []}]),
        "span",
        "19",
    ),
}


@pytest.mark.parametrize("kind", VALUES)
def test_every_type_of_column_is_read_as_plain_text(tmp_path: Path, kind: str) -> None:
    column, task, expected = VALUES[kind]
    path = write_parquet(tmp_path / "q.parquet", {"question": ["How much?"], "answer": column})
    assert answers(imported(path, task)) == [canonical(AnswerType(task), expected)]


def test_class_labels_are_read_by_their_names(tmp_path: Path) -> None:
    # SuperGLUE's CB has another order of labels than the other inference sets.
    names = ["entailment", "contradiction", "neutral"]
    features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    table = arrow.table(
        {"premise": ["It rains."] * 4, "hypothesis": list("abcd"), "label": [0, 1, 2, -1]}
    ).replace_schema_metadata({"huggingface": json.dumps(features)})
    parquet.write_table(table, tmp_path / "cb.parquet")
    found = imported(tmp_path / "cb.parquet", "nli")
    assert answers(found) == ["yes", "no", "it is not possible to tell"]
    assert found.left_out == ((4, "it has no answer"),)


def test_an_arrow_file_and_an_arrow_stream_are_read(tmp_path: Path) -> None:
    table = arrow.Table.from_pylist(ROWS)
    with ipc.new_file(tmp_path / "file.arrow", table.schema) as writer:
        writer.write_table(table)
    with ipc.new_stream(tmp_path / "stream.arrow", table.schema) as writer:
        writer.write_table(table)
    for name in ("file.arrow", "stream.arrow"):
        assert len(imported(tmp_path / name).questions) == 6


# Folders.


def shards(folder: Path, split: str, count: int = 2, first: int = 0) -> None:
    for shard in range(count):
        rows = ROWS[first + shard :: count]
        name = f"{split}-{shard:05}-of-{count:05}.parquet"
        write_parquet(
            folder / name,
            {
                "question": [f"{split}: {row['question']}" for row in rows],
                "answer": [row["answer"] for row in rows],
            },
        )


def test_a_folder_with_one_split_is_read_whole_and_in_order(tmp_path: Path) -> None:
    shards(tmp_path / "data", "train", 3)
    (tmp_path / "README.md").write_text("A set of sums.")
    (tmp_path / "dataset_infos.json").write_text("{}")
    found = imported(tmp_path)
    order = [int(text.split()[3]) for text in texts(found)]
    assert order == [0, 3, 1, 4, 2, 5]
    assert "3 files" in found.understood["rows"]


def test_a_folder_with_several_splits_names_them_and_each_can_be_chosen(tmp_path: Path) -> None:
    shards(tmp_path / "data", "train")
    shards(tmp_path / "data", "test", 1)
    with pytest.raises(BadInput, match="test, train") as refusal:
        imported(tmp_path)
    assert str(tmp_path / "test") in str(refusal.value)
    assert {text.split(":")[0] for text in texts(imported(tmp_path / "test"))} == {"test"}
    assert len(imported(tmp_path / "train").questions) == 6
    assert len(imported(tmp_path / "data" / "train").questions) == 6
    assert len(imported(tmp_path / "data" / "train-*.parquet").questions) == 6
    with pytest.raises(BadInput, match="There is no file"):
        imported(tmp_path / "validation")


def test_a_folder_may_name_splits_and_configurations_as_folders(tmp_path: Path) -> None:
    for config in ("main", "extra"):
        for split in ("train", "test"):
            write_parquet(
                tmp_path / config / split / "0000.parquet",
                {"question": [f"{config} {split}?"], "answer": [1]},
            )
    with pytest.raises(BadInput, match="extra/test, extra/train, main/test, main/train"):
        imported(tmp_path)
    assert texts(imported(tmp_path / "main" / "test")) == ["main test?"]


def test_a_year_in_a_name_is_no_number_of_a_shard(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"arc-2018-{split}.jsonl").write_text(LINES)
    with pytest.raises(BadInput, match=r"arc-2018-test\.jsonl, arc-2018-train\.jsonl"):
        imported(tmp_path)


@pytest.mark.parametrize(
    "pattern",
    [
        "data/train-0000{}-of-00002-0123456789abcdef.parquet",
        "part-0000{}-4e8a6f1c-77b0-4c65-9a31-1f2d3c4b5a69-c000.snappy.parquet",
        "default/train/000{}.parquet",
    ],
)
def test_shards_are_recognized_by_their_names(tmp_path: Path, pattern: str) -> None:
    for shard in (1, 0):
        columns = {"question": [f"part {shard}?"], "answer": [shard]}
        write_parquet(tmp_path / pattern.format(shard), columns)
    assert texts(imported(tmp_path)) == ["part 0?", "part 1?"]


def test_a_missing_shard_is_reported(tmp_path: Path) -> None:
    shards(tmp_path, "train", 3)
    (tmp_path / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(BadInput, match="part 1 of the 3 parts of train is missing"):
        imported(tmp_path)


def test_a_folder_of_other_files_names_them(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder without files of questions"):
        imported(tmp_path)
    (tmp_path / "a.jsonl").write_text(LINES)
    assert len(imported(tmp_path).questions) == 6
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"question,answer\nx?,1\n"))
    with pytest.raises(BadInput, match=r"a\.jsonl, b\.csv\.gz"):
        imported(tmp_path)


# JSON in files of other names, and damaged lines.


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lines.json", LINES),
        ("lines.ndjson", LINES),
        ("list.jsonl", json.dumps(ROWS)),
        ("pretty.jsonl", json.dumps(ROWS, indent=2)),
        ("pretty.json", json.dumps({"data": ROWS}, indent=2)),
        ("keyed.json", json.dumps({f"q{n}": row for n, row in enumerate(ROWS)})),
        (
            "columns.json",
            json.dumps({name: [row[name] for row in ROWS] for name in ("question", "answer")}),
        ),
        ("mark.jsonl", "\ufeff" + LINES),
        ("windows.jsonl", LINES.replace("\n", "\r\n")),
        ("no-newline.jsonl", LINES.rstrip("\n")),
        (
            "joined.jsonl",
            LINES[: LINES.index("\n") + 1] + "\ufeff" + LINES[LINES.index("\n") + 1 :],
        ),
    ],
)
def test_json_is_recognized_whatever_its_name(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = imported(tmp_path / name)
    assert texts(found) == [row["question"] for row in ROWS]
    assert answers(found) == [str(row["answer"]) for row in ROWS]


DAMAGED: dict[str, bytes] = {
    "a lone surrogate": rb'{"question": "What is \ud800 + 1?", "answer": 2}',
    "the other half": rb'{"question": "What is \udc00 + 1?", "answer": 2}',
    "not UTF-8": b'{"question": "What is \xe9 + 1?", "answer": 2}',
    "a NUL": rb'{"question": "What is \u0000 + 1?", "answer": 2}',
    "two answers": b'{"question": "What is 5 + 1?", "answer": 2, "answer": 3}',
    "NaN": b'{"question": "What is 5 + 1?", "answer": NaN}',
    "infinity": b'{"question": "What is 5 + 1?", "answer": -Infinity}',
    "too many digits": b'{"question": "What is 5 + 1?", "answer": ' + b"9" * 5000 + b"}",
    "nested too deeply": b'{"question": "What is 5 + 1?", "answer": '
    + b"[" * 90_000
    + b"]" * 90_000
    + b"}",
    "a long text": b'{"question": "' + b"x" * 10_000_000 + b'", "answer": 2}',
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("split", [Split.POOL, Split.EVAL])
def test_a_damaged_line_of_json_is_left_out_with_its_number(
    tmp_path: Path, damage: str, split: Split
) -> None:
    if split is Split.POOL and damage in ("NaN", "infinity"):
        pytest.skip("a pool needs no answer")
    lines = LINES.encode().splitlines()
    lines.insert(2, DAMAGED[damage])
    path = tmp_path / "q.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    found = read_questions(path, task="number", split=split)
    assert texts(found) == [row["question"] for row in ROWS]
    ((line, reason),) = found.left_out
    assert line == 3
    assert reason.isprintable()


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        ([b'{"question": "a?", "ans'], 7),
        ([b'{"question": "a\0b?", "answer": 1}', b""], 7),
        ([b"\0" * 40], 7),
        ([b"[1, 2]", b""], 7),
    ],
)
def test_a_line_that_is_not_a_json_object_is_named(
    tmp_path: Path, lines: list[bytes], number: int
) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(LINES.encode() + b"\n".join(lines))
    with pytest.raises(BadInput, match=rf"q\.jsonl: line {number} is not"):
        imported(path)


TABLES: dict[str, tuple[str, list[str], list[int]]] = {
    "an open quote": ('a?,1\n"b?,2\nc?,3\n"d, e?",4\nf?,5\n', ["a?", "c?", "d, e?", "f?"], [3]),
    "an open quote on the last line": ('a?,1\nb?,2\n"c?,3', ["a?", "b?"], [4]),
    "an open quote in the answer": ('a?,"1\nb?,2\nc?,"3"\n', ["b?", "c?"], [2]),
    "a quoted line break": ('"a\nb?",1\nc?,2\n', ["a\nb?", "c?"], []),
    "a misplaced quote": ('"a "b"?",1\nc?,2\n', ['a b"?"', "c?"], []),
    "a quote inside": ('a "b"?,1\nc?,2\n', ['a "b"?', "c?"], []),
    "a NUL": ("a\0b?,1\nc?,2\n", ["c?"], [2]),
    "too many cells": ("a?,1,x\nc?,2\n", ["c?"], [2]),
    "a long cell": (f"{'a' * (LARGEST_CELL + 1)},1\nc?,2\n", ["c?"], [2]),
}


@pytest.mark.parametrize("damage", TABLES)
def test_a_damaged_line_of_a_table_is_left_out_with_its_number(tmp_path: Path, damage: str) -> None:
    text, expected, left_out = TABLES[damage]
    path = tmp_path / "q.csv"
    path.write_text(f"question,answer\n{text}", encoding="utf-8", newline="")
    found = imported(path)
    assert texts(found) == expected
    assert [line for line, _ in found.left_out] == left_out


def test_a_table_in_another_encoding_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_bytes("question,answer\nWieviel?,1\nFür wen?,2\n".encode("latin-1"))
    with pytest.raises(BadInput, match=r"q\.csv is not UTF-8 text \(line 3\)"):
        read_rows(path)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_file_that_unpacks_to_too_much_is_refused(
    compress: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_files, "LARGEST", 10_000)
    path = tmp_path / "bomb.txt.packed"
    path.write_bytes(compress(b"What is 2 + 3?\n" * 100_000))
    with pytest.raises(BadInput, match="unpack"):
        read_rows(path)


def test_many_unclosed_quotes_take_linear_time(tmp_path: Path) -> None:
    path = tmp_path / "quotes.csv"
    path.write_text("question,answer\n" + 'a"b,"1\n' * 20_001 + "What is 2 + 3?,5\n")
    assert read_rows(path).rows[-1][1]["answer"] == "5"
