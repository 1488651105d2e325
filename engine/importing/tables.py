"""Read files of questions as tables; the format is detected from the content.

Formats: JSON Lines and JSON documents (`engine.importing.json_rows`), CSV, TSV, Parquet and Arrow
(`engine.importing.arrow_rows`), and plain text, each also compressed.
`engine.importing.columns` decides what the columns mean.
"""

from __future__ import annotations

import codecs
import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.importing.arrow_rows import arrow_rows, is_arrow
from engine.importing.json_rows import json_rows
from engine.importing.source_files import content_of, files_of, plain_suffix
from store.counted import counted
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from engine.importing.row import Row

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


def read_rows(path: Path, part: str | None = None) -> InputTable:
    """Read a whole file, or all shards of a folder.

    Args:
        path: a file, or a folder; see `engine.importing.source_files.files_of`.
        part: the list to read of a JSON object that holds several.

    Raises:
        BadInput: it is missing, empty, binary or malformed.
    """
    files = files_of(path)
    tables = [_read(file, part) for file in files]
    if len(tables) == 1:
        return tables[0]
    rows = [row for table in tables for _, row in table.rows]
    left_out = [
        (number, f"{file.name}: {reason}")
        for file, table in zip(files, tables, strict=True)
        for number, reason in table.left_out
    ]
    kind = f"{tables[0].kind}, {counted(len(files), 'file')}"
    return InputTable(kind, tuple(enumerate(rows, 1)), tuple(left_out))


def _read(path: Path, part: str | None) -> InputTable:
    content = content_of(path)
    if is_arrow(content):
        kind, found = arrow_rows(path, content)
        if not found:
            raise BadInput(f"{path} is empty: it has no questions.")
        return InputTable(kind, tuple(enumerate(found, 1)))
    text = _text(path, content)
    if not text.strip():
        raise BadInput(f"{path} is empty: it has no questions.")
    suffix = plain_suffix(path.name)
    header = text.lstrip().split("\n", 1)[0]
    if suffix not in (".csv", ".tsv") and text.lstrip()[0] in "[{":
        kind, rows, left_out = json_rows(
            path, text, lines=suffix in (".jsonl", ".ndjson"), part=part
        )
        return InputTable(kind, tuple(rows), tuple(left_out))
    if suffix in (".json", ".jsonl", ".ndjson"):
        raise BadInput(f"{path}: line 1 is not JSON, although the file name says so.")
    if suffix == ".tsv" or (suffix != ".csv" and header.count("\t") >= 1):
        return _table(path, text, "TSV", "\t")
    if suffix == ".csv":
        delimiter = ";" if header.count(";") > header.count(",") else ","
        delimiter = "\t" if header.count("\t") > header.count(delimiter) else delimiter
        return _table(path, text, "CSV", delimiter)
    lines = enumerate(text.split("\n"), 1)
    return InputTable(
        "plain text",
        tuple((number, {"question": line.strip()}) for number, line in lines if line.strip()),
    )


def _text(path: Path, content: bytes) -> str:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    without_mark = content.removeprefix(codecs.BOM_UTF8)
    is_json = without_mark.lstrip()[:1] in (b"[", b"{")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-8-sig" and is_json and b"\0" not in content[:65536]:
            # One damaged line of JSON is left out; in a table, the whole encoding is wrong.
            return without_mark.decode("utf-8", "surrogateescape")
        line = content[: error.start].count(b"\n") + 1
        raise BadInput(
            f"{path} is not UTF-8 text (line {line}): convert it to UTF-8, or give JSONL, CSV, "
            "TSV, Parquet or text."
        ) from None
    named = plain_suffix(path.name) in (".csv", ".tsv") and "\0" not in text.split("\n", 1)[0]
    if "\0" in text[:65536] and not (is_json or named):
        raise BadInput(f"{path} is a binary file: give JSONL, CSV, TSV, Parquet or text.")
    return text


def _table(path: Path, text: str, kind: str, delimiter: str) -> InputTable:
    """A table with a header line; a TSV has no quoting (OpenBookQA has unpaired quotes)."""
    lines = text.splitlines(keepends=True) if "\n" not in text else text.split("\n")
    if "\n" in text:
        lines = [f"{line}\n" for line in lines]
    before = csv.field_size_limit(LARGEST_CELL)
    try:
        records, left_out = _records(lines, delimiter, quoted=kind == "CSV")
    finally:
        csv.field_size_limit(before)
    if not records:
        raise BadInput(f"{path}: line 1 is not {kind}: a quote is not closed.")
    (line, first), *rest = records
    header = [name.strip() for name in first]
    if left_out and left_out[0][0] < line:
        raise BadInput(f"{path}: line {left_out[0][0]} is not {kind}: {left_out[0][1]}.")
    if len(set(header)) < len(header):
        raise BadInput(f"{path}: two columns of line 1 have the same name; rename one.")
    rows = []
    for number, cells in rest:
        if len(cells) == len(header):
            rows.append((number, dict(zip(header, cells, strict=True))))
        else:
            reason = f"it has {counted(len(cells), 'column')}, the header has {len(header)}"
            left_out.append((number, reason))
    if not rows and not left_out:
        raise BadInput(f"{path} has a header line but no rows.")
    return InputTable(kind, tuple(rows), tuple(sorted(left_out)))


def _records(
    lines: Sequence[str], delimiter: str, *, quoted: bool
) -> tuple[list[tuple[int, list[str]]], list[tuple[int, str]]]:
    """(line, cells) of each record, and (line, reason) of lines that cannot be read.

    A quote that is not closed would swallow the lines up to the next quote. Such a line is left out
    and reading goes on with the next one.
    """
    records: list[tuple[int, list[str]]] = []
    left_out = []
    start = 0
    while start < len(lines):
        begin = start
        reader = csv.reader(
            map(lines.__getitem__, range(begin, len(lines))),  # a slice would copy them each time
            delimiter=delimiter,
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
            strict=True,
        )
        try:
            for cells in reader:
                end = begin + reader.line_num
                width = len(records[0][1]) if records else len(cells)
                if end - start > 1 and len(cells) != width:
                    raise csv.Error
                if any(cell.strip() for cell in cells):
                    records.append((start + 1, cells))
                start = end
        except csv.Error as error:
            cells = [] if "field limit" in str(error) else _one_line(lines[start], delimiter)
            if records and len(cells) == len(records[0][1]):
                records.append((start + 1, cells))
            else:
                left_out.append((start + 1, _reason(error)))
            start += 1
    return records, left_out


def _one_line(line: str, delimiter: str) -> list[str]:
    """The cells of a line with misplaced quotes; none if a quote is open at its end."""
    try:
        cells = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a carriage return inside the line
        return []
    return [] if cells and cells[-1].endswith("\n") else cells


def _reason(error: csv.Error) -> str:
    if "field limit" in str(error):
        return f"a cell of it is longer than {LARGEST_CELL:,} characters"
    return "a quote in it is not closed, or misplaced"
