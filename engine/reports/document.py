"""The parts of a report: sections of paragraphs, tables, plots and code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under their headers; every cell is text."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """An SVG image. Markdown leaves it out: its numbers are in a table beside it."""

    svg: str


@dataclass(frozen=True, slots=True)
class Code:
    """Preformatted text: commands, settings."""

    text: str


Block = str | Table | Plot | Code
"""A string is a paragraph."""


@dataclass(frozen=True, slots=True)
class ReportSection:
    """A heading and the blocks below it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A report, in reading order."""

    title: str
    sections: tuple[ReportSection, ...]
