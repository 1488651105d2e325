"""Where a person was in the review of each project, from one start of the app to the next."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from lmsi_tui.reviewing.queue import Wanted
from lmsi_tui.shell.config import config_path
from store.enums import Queue
from store.queue import QueueFilter, Scope, Sort

if TYPE_CHECKING:
    from pathlib import Path

PROJECTS = 32
"""Projects whose place is remembered."""


def memory_path() -> Path:
    """Beside the configuration."""
    return config_path().with_name("review.json")


def remember(folder: Path, wanted: Wanted, question_id: int | None) -> None:
    """Note the queue, the filter, the order and the question; what cannot be written is not."""
    chosen = wanted.chosen
    known = _all()
    known.pop(_name(folder), None)
    known[_name(folder)] = {
        "queue": wanted.queue,
        "scope": chosen.scope,
        "low": str(chosen.low),
        "high": str(chosen.high),
        "task": chosen.task,
        "reviewed": chosen.reviewed,
        "words": chosen.words,
        "sort": wanted.sort,
        "question": question_id,
    }
    path = memory_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".json.new")
        temporary.write_text(json.dumps(dict(list(known.items())[-PROJECTS:])), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        return


def recall(folder: Path) -> tuple[Wanted, int | None]:
    """What was noted last; as usual where nothing was, or it cannot be read."""
    noted = _all().get(_name(folder))
    try:
        if noted is None:
            return Wanted(), None
        chosen = QueueFilter(
            Scope(noted["scope"]),
            Fraction(noted["low"]),
            Fraction(noted["high"]),
            noted["task"],
            noted["reviewed"],
            noted["words"],
        )
        question = noted["question"]
        return (
            Wanted(Queue(noted["queue"]), chosen, Sort(noted["sort"])),
            question if isinstance(question, int) else None,
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return Wanted(), None


def _all() -> dict[str, Any]:
    try:
        known = json.loads(memory_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _name(folder: Path) -> str:
    return str(folder.resolve())
