"""Short facts on as few lines as possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

if TYPE_CHECKING:
    from collections.abc import Sequence


def in_rows(parts: Sequence[str], width: int, style: str = "$text-muted") -> list[Content]:
    """The facts, separated by dots, wrapped to the width."""
    rows, text = [], ""
    for part in parts:
        if text and len(text) + 3 + len(part) > width:
            rows.append(text)
            text = part
        else:
            text = f"{text} · {part}" if text else part
    return [Content.styled(row, style) for row in [*rows, text] if row]
