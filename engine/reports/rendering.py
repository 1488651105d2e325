"""A report as a document: sections of paragraphs, tables and plots, and how it is written.

As Markdown, as one HTML file without links to anything else, or for programs. Text of models and
data sets goes in as data: escaped in HTML, and in Markdown with everything that could become markup
taken out of its meaning.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under their headers; every cell is text."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """An SVG picture; Markdown leaves it out, the numbers stand in a table beside it."""

    svg: str


@dataclass(frozen=True, slots=True)
class Code:
    """Text that is shown as it is: commands, settings."""

    text: str


Block = str | Table | Plot | Code


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what stands under it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """Everything that a report tells, in its order."""

    title: str
    sections: tuple[Section, ...]


# Writing.


def markdown(document: Document) -> str:
    """The document as GitHub's Markdown, without its pictures."""
    lines = [f"# {_inline(document.title)}", ""]
    for section in document.sections:
        lines += [f"## {_inline(section.title)}", ""]
        for block in section.blocks:
            match block:
                case str():
                    lines += [_inline(block), ""]
                case Code():
                    lines += ["```", block.text.replace("```", "'''"), "```", ""]
                case Table():
                    lines.append(_row(block.headers))
                    lines.append("|" + " --- |" * len(block.headers))
                    lines += [_row(row) for row in block.rows]
                    lines.append("")
                case Plot():
                    pass
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_inline(cell) for cell in cells) + " |"


_MARKS = {ord(mark): f"\\{mark}" for mark in "\\`*_[]|#~"} | {ord("<"): "&lt;", ord("\n"): " "}


def _inline(text: str) -> str:
    """Text that is no markup, on one line."""
    return text.translate(_MARKS)


_PAGE_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0 }
th, td { border: 1px solid #8884; padding: .3rem .6rem; text-align: left; vertical-align: top }
pre { overflow-x: auto; background: #8881; padding: 1rem }
svg { max-width: 100%; height: auto; display: block; margin: 1rem 0 }
:root { color-scheme: light dark }
"""


def html_page(document: Document) -> str:
    """The document as one HTML file: pictures inside, no script, nothing is loaded."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{html.escape(document.title)}</title>",
        f"<style>{_PAGE_STYLE}</style></head><body>",
        f"<h1>{html.escape(document.title)}</h1>",
    ]
    for section in document.sections:
        parts.append(f"<h2>{html.escape(section.title)}</h2>")
        for block in section.blocks:
            match block:
                case str():
                    parts.append(f"<p>{html.escape(block)}</p>")
                case Code():
                    parts.append(f"<pre>{html.escape(block.text)}</pre>")
                case Table():
                    parts.append(_html_table(block))
                case Plot():
                    parts.append(block.svg)
    return "\n".join([*parts, "</body></html>", ""])


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.headers)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in table.rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def as_json(document: Document) -> dict[str, object]:
    """The same tables and sentences for programs; pictures are left out."""
    return {
        "title": document.title,
        "sections": [
            {
                "title": section.title,
                "text": [block for block in section.blocks if isinstance(block, str)],
                "tables": [
                    [dict(zip(block.headers, row, strict=True)) for row in block.rows]
                    for block in section.blocks
                    if isinstance(block, Table)
                ],
                "code": [block.text for block in section.blocks if isinstance(block, Code)],
            }
            for section in document.sections
        ],
    }
