"""Render a report as Markdown, as one self-contained HTML file, or as JSON.

Text from models and data sets is untrusted: HTML is escaped by the template engine, and Markdown
markup is escaped here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.reports.document import Code, Document, Plot, Table

if TYPE_CHECKING:
    from collections.abc import Sequence


def markdown(document: Document) -> str:
    """The document as GitHub-flavored Markdown, without its plots."""
    lines = [f"# {_escaped(document.title)}", ""]
    for section in document.sections:
        lines += [f"## {_escaped(section.title)}", ""]
        for block in section.blocks:
            match block:
                case str():
                    lines += [_escaped(block), ""]
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
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


_ESCAPES = {ord(mark): f"\\{mark}" for mark in "\\`*_[]|#~"} | {ord("<"): "&lt;", ord("\n"): " "}


def _escaped(text: str) -> str:
    """Text on one line with all Markdown markup escaped."""
    return text.translate(_ESCAPES)


def html_page(document: Document) -> str:
    """The document as one HTML file that contains its plots, has no script and loads nothing."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("engine.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html").render(document=document)


_JSON_KEYS = {
    "method": "asked",
    "detectable gain": "could have seen",
    "outcome": "guard",
    "accuracy in % (95 %)": "right in % (95 %)",
    "abstained": "without an answer",
    "truncated paths in %": "paths cut in %",
    "reason": "why",
    "component": "what",
    "prompt": "asked",
}
"""Columns whose JSON keys differ from their headers: headers may be reworded, keys may not."""


def as_json(document: Document) -> dict[str, object]:
    """The paragraphs, tables and code as JSON; plots are left out."""
    return {
        "title": document.title,
        "sections": [
            {
                "title": section.title,
                "text": [block for block in section.blocks if isinstance(block, str)],
                "tables": [
                    [dict(zip(_keys(block), row, strict=True)) for row in block.rows]
                    for block in section.blocks
                    if isinstance(block, Table)
                ],
                "code": [block.text for block in section.blocks if isinstance(block, Code)],
            }
            for section in document.sections
        ],
    }


def _keys(table: Table) -> list[str]:
    return [_JSON_KEYS.get(header, header) for header in table.headers]
