"""The last position in the review of each project, kept between runs of the app."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from lmsi_tui.reviewing.queue import QueueSelection
from lmsi_tui.shell.config import config_path
from store.atomic_file import atomic_file
from store.enums import Queue
from store.queue import QueueFilter, Scope, Sort

if TYPE_CHECKING:
    from pathlib import Path

MAX_PROJECTS = 32
"""Number of projects whose position is kept."""


def positions_path() -> Path:
    """The file of saved positions, next to the configuration."""
    return config_path().with_name("review.json")


def save_position(folder: Path, selection: QueueSelection, question_id: int | None) -> None:
    """Save the queue, the filter, the order and the question; ignore write errors."""
    queue_filter = selection.filter
    positions = _read_all()
    positions.pop(_key(folder), None)
    positions[_key(folder)] = {
        "queue": selection.queue,
        "scope": queue_filter.scope,
        "low": str(queue_filter.low),
        "high": str(queue_filter.high),
        "task": queue_filter.task,
        "reviewed": queue_filter.reviewed,
        "words": queue_filter.words,
        "sort": selection.sort,
        "question": question_id,
    }
    path = positions_path()
    try:
        with atomic_file(path) as temporary:
            temporary.write_text(
                json.dumps(dict(list(positions.items())[-MAX_PROJECTS:])), encoding="utf-8"
            )
    except OSError:
        return


def load_position(folder: Path) -> tuple[QueueSelection, int | None]:
    """(selection, question id) as saved last; the defaults if there is no valid one."""
    saved = _read_all().get(_key(folder))
    try:
        if saved is None:
            return QueueSelection(), None
        queue_filter = QueueFilter(
            Scope(saved["scope"]),
            Fraction(saved["low"]),
            Fraction(saved["high"]),
            saved["task"],
            saved["reviewed"],
            saved["words"],
        )
        question = saved["question"]
        return (
            QueueSelection(Queue(saved["queue"]), queue_filter, Sort(saved["sort"])),
            question if isinstance(question, int) else None,
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return QueueSelection(), None


def _read_all() -> dict[str, Any]:
    try:
        positions = json.loads(positions_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return positions if isinstance(positions, dict) else {}


def _key(folder: Path) -> str:
    return str(folder.resolve())
