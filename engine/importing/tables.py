"""Read files of questions as tables; the format is detected from the content.

Formats: JSON Lines, a JSON list, an object with a list inside, BIG-bench, DROP's nested passages,
CSV, TSV, Parquet and plain text, each also as .gz. `engine.importing.columns` decides what the
columns mean.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator

Row = dict[str, Any]

LARGEST_CELL = 16 * 2**20
"""Maximum characters of a CSV cell; a longer cell is a sign of a missing quote."""


@dataclass(frozen=True, slots=True)
class InputTable:
    """The rows of a file, in order."""

    kind: str
    """The detected format, such as `JSON Lines`."""
    rows: tuple[tuple[int, Row], ...]
    """(number, columns); the number of the line, or of the entry if the file has no lines."""
    left_out: tuple[tuple[int, str], ...] = ()
    """(number, reason) of rows that were skipped."""


def read_rows(path: Path) -> InputTable:
    """Read a whole file.

    Raises:
        BadInput: it is missing, empty, binary or malformed.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"There is no file {path}: check the name.") from None
    except IsADirectoryError:
        raise BadInput(f"{path} is a folder: give a file in it.") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from None
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            raise BadInput(f"{path} is a damaged gzip file: download it again.") from None
    if content[:4] == b"PAR1":
        return _parquet(path, content)
    if content[:2] == b"PK":
        raise BadInput(f"{path} is a zip archive: unpack it and give a file in it.")
    text = _text(path, content)
    if not text.strip():
        raise BadInput(f"{path} is empty: it has no questions.")
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    header = text.lstrip().split("\n", 1)[0]
    if suffix not in (".csv", ".tsv") and text.lstrip()[0] in "[{":
        return _json(path, text, lines=suffix in (".jsonl", ".ndjson"))
    if suffix in (".json", ".jsonl", ".ndjson"):
        raise BadInput(f"{path}: line 1 is not JSON, although the file name says so.")
    if suffix == ".tsv" or (suffix != ".csv" and header.count("\t") >= 1):
        return _table(path, text, "TSV", "\t")
    if suffix == ".csv":
        delimiter = ";" if header.count(";") > header.count(",") else ","
        delimiter = "\t" if header.count("\t") > header.count(delimiter) else delimiter
        return _table(path, text, "CSV", delimiter)
    lines = enumerate(text.splitlines(), 1)
    return InputTable(
        "plain text", tuple((n, {"question": line}) for n, line in lines if line.strip())
    )


def _text(path: Path, content: bytes) -> str:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadInput(
            f"{path} is not UTF-8 text (line {line}): give JSONL, CSV, TSV, Parquet or text."
        ) from None
    if "\0" in text[:65536]:
        raise BadInput(f"{path} is a binary file: give JSONL, CSV, TSV, Parquet or text.")
    return text


def _json(path: Path, text: str, *, lines: bool) -> InputTable:
    """A JSON document, or a JSON value on each line (such files are often named .json, too)."""
    if not lines:
        try:
            return _document(path, json.loads(text))
        except json.JSONDecodeError as error:
            if not (text.lstrip()[0] == "{" and error.msg == "Extra data"):
                raise BadInput(
                    f"{path}: line {error.lineno} is not JSON ({error.msg}); fix that line."
                ) from None
        except RecursionError:
            raise BadInput(f"{path} is nested too deeply for a list of questions.") from None
        except ValueError:
            raise BadInput(f"{path} has a number with thousands of digits; shorten it.") from None
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise BadInput(f"{path}: line {number} is not JSON; fix or remove it.") from None
        if isinstance(row, list) and number == 1:
            return _document(path, row)
        if not isinstance(row, dict):
            raise BadInput(f"{path}: line {number} is not a JSON object with named columns.")
        rows.append((number, row))
    if len(rows) == 1:
        return _document(path, rows[0][1])
    return InputTable("JSON Lines", tuple(rows))


def _document(path: Path, document: Any) -> InputTable:
    if isinstance(document, list):
        for number, row in enumerate(document, 1):
            if not isinstance(row, dict):
                raise BadInput(f"{path}: entry {number} is not an object with named columns.")
        return InputTable("JSON list", tuple(enumerate(document, 1)))
    if not isinstance(document, dict):
        raise BadInput(
            f"{path} contains a single {type(document).__name__}: give a list of questions."
        )
    passages = [
        value
        for value in document.values()
        if isinstance(value, dict) and isinstance(value.get("qa_pairs"), list)
    ]
    if passages:
        return InputTable("passages with qa_pairs", tuple(enumerate(_pairs(passages), 1)))
    lists = {
        name: value
        for name, value in document.items()
        if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value)
    }
    # An object with a question of its own is one row, even if it contains a list of choices.
    if lists and not isinstance(document.get("question"), str | dict):
        name = "examples" if "examples" in lists else max(lists, key=lambda key: len(lists[key]))
        return InputTable(f"JSON object, list {name!r}", tuple(enumerate(lists[name], 1)))
    return InputTable("JSON object", ((1, document),))


def _pairs(passages: list[Row]) -> Iterator[Row]:
    for passage in passages:
        for pair in passage["qa_pairs"]:
            if isinstance(pair, dict):
                yield {**pair, "passage": passage.get("passage", "")}


def _table(path: Path, text: str, kind: str, delimiter: str) -> InputTable:
    """A table with a header line; a TSV has no quoting (OpenBookQA has unpaired quotes)."""
    unquoted = kind == "TSV"
    before = csv.field_size_limit(LARGEST_CELL)
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=delimiter,
            quoting=csv.QUOTE_NONE if unquoted else csv.QUOTE_MINIMAL,
        )
        header = [name.strip() for name in next(reader)]
        rows, left_out = [], []
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                reason = f"it has {len(cells)} columns, the header has {len(header)}"
                left_out.append((reader.line_num, reason))
                continue
            rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise BadInput(f"{path}: line {reader.line_num} is not {kind} ({error}).") from None
    finally:
        csv.field_size_limit(before)
    if len(set(header)) < len(header):
        raise BadInput(f"{path}: two columns of line 1 have the same name; rename one.")
    if not rows and not left_out:
        raise BadInput(f"{path} has a header line but no rows.")
    return InputTable(kind, tuple(rows), tuple(left_out))


def _parquet(path: Path, content: bytes) -> InputTable:
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(arrow.BufferReader(content)).to_pylist()
    except (arrow.ArrowException, OSError, ValueError, OverflowError, MemoryError, TypeError):
        raise BadInput(f"{path} is a damaged Parquet file: download it again.") from None
    return InputTable("Parquet", tuple(enumerate(rows, 1)))
