"""What the command line says: sentences for a person, or JSON lines for a program."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lmsi_tui.formatting.sanitize import printable

if TYPE_CHECKING:
    import argparse


def emit(event: dict[str, object]) -> None:
    """One JSON object on one line of stdout."""
    print(json.dumps(event, ensure_ascii=False), flush=True)


def say(asked: argparse.Namespace, sentence: str) -> None:
    """A sentence for a person; nothing where stdout is for programs."""
    if not getattr(asked, "json", False):
        print(printable(sentence))
