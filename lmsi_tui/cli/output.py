"""Output of the command line: sentences for the user, or JSON lines for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lmsi_tui.formatting.sanitize import printable

if TYPE_CHECKING:
    import argparse


def emit(event: dict[str, object]) -> None:
    """Print one JSON object on one line of stdout."""
    print(json.dumps(event, ensure_ascii=False), flush=True)


def say(args: argparse.Namespace, sentence: str) -> None:
    """Print a sentence for the user; nothing with `--json`."""
    if not getattr(args, "json", False):
        print(printable(sentence))
