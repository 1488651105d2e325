"""A row of a file."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
"""Column to value. Values are texts, numbers, lists, dictionaries, or None."""
