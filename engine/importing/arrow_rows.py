"""Rows of Parquet and Arrow files, with every value as plain text, number, list or dictionary."""

from __future__ import annotations

import datetime
import decimal
import json
from typing import TYPE_CHECKING, Any

from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from engine.importing.row import Row

MOST_CELLS = 50_000_000
"""Most cells of a Parquet file: repeated values take no space in it, but do in memory."""

_DAMAGED = (OSError, ValueError, OverflowError, LookupError, MemoryError, TypeError, SystemError)
"""What pyarrow raises for damaged files, beside exceptions of its own."""


def is_arrow(content: bytes) -> bool:
    """Whether a content is Parquet or Arrow."""
    return content[:4] == b"PAR1" or content[:6] == b"ARROW1" or content[:4] == b"\xff\xff\xff\xff"


def arrow_rows(path: Path, content: bytes) -> tuple[str, list[Row]]:
    """(name of the format, rows) of a Parquet file, an Arrow file or an Arrow stream.

    Raises:
        BadInput: the file is damaged.
    """
    import pyarrow as arrow
    from pyarrow import ipc, parquet

    buffer = arrow.BufferReader(content)
    kind = "Parquet" if content[:4] == b"PAR1" else "Arrow"
    try:
        if kind == "Parquet":
            metadata = parquet.read_metadata(buffer)
            if metadata.num_rows * metadata.num_columns > MOST_CELLS:
                raise BadInput(
                    f"{path} has {metadata.num_rows:,} rows of {metadata.num_columns} columns, "
                    f"more than {MOST_CELLS:,} cells: split it."
                )
            buffer.seek(0)
            table = parquet.read_table(buffer)
        elif content[:6] == b"ARROW1":
            table = ipc.open_file(buffer).read_all()
        else:
            table = ipc.open_stream(buffer).read_all()
        table.validate(full=True)  # reading values of a damaged table may crash the process
        columns = [
            _column(table.column(name), _label_names(table.schema).get(name))
            for name in table.column_names
        ]
    except (arrow.ArrowException, *_DAMAGED):
        raise BadInput(f"{path} is a damaged {kind} file: download it again.") from None
    names = table.column_names
    return kind, [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _label_names(schema: Any) -> dict[str, list[str]]:
    """The names of each column of class labels, which the `datasets` library stores as numbers."""
    try:
        stored = json.loads((schema.metadata or {})[b"huggingface"])
        features = stored["info"]["features"]
        return {
            name: feature["names"]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _column(column: Any, label_names: list[str] | None) -> list[Any]:
    import pyarrow as arrow

    if arrow.types.is_floating(column.type) and not arrow.types.is_float64(column.type):
        # Python would show the 32-bit 0.1 as 0.10000000149011612.
        texts = column.cast(arrow.string()).to_pylist()
        return [None if text is None else float(text) for text in texts]
    if arrow.types.is_timestamp(column.type):
        column = column.cast(arrow.timestamp("us", column.type.tz), safe=False)
    values = column.to_pylist()
    if label_names is not None:
        return [
            label_names[value] if isinstance(value, int) and 0 <= value < len(label_names) else None
            for value in values
        ]
    return [_plain(value) for value in values]


def _plain(value: Any) -> Any:  # noqa: PLR0911 - a return for each type
    """A value without types of its own: dates in ISO form, decimals without trailing zeros."""
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, decimal.Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, datetime.datetime) and value.tzinfo is None and value.time() == _MIDNIGHT:
        return value.date().isoformat()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        # Text that some writers declare as binary; what is not text is shown as damaged.
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - not a number
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


_MIDNIGHT = datetime.time()
