"""The app's modes; each screen is imported when it is first shown, so that the app opens fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.screen import Screen


def _home() -> Screen[None]:
    from lmsi_tui.screens.home import HomeScreen

    return HomeScreen()


def _review() -> Screen[None]:
    from lmsi_tui.screens.reviewing.review import ReviewScreen

    return ReviewScreen()


def _training_set() -> Screen[None]:
    from lmsi_tui.screens.results.training_set import TrainingSetScreen

    return TrainingSetScreen()


def _results() -> Screen[None]:
    from lmsi_tui.screens.results.results import ResultsScreen

    return ResultsScreen()


def _jobs() -> Screen[None]:
    from lmsi_tui.screens.jobs import JobsScreen

    return JobsScreen()


MODES: dict[str, str | Callable[[], Screen[Any]]] = {
    "home": _home,
    "review": _review,
    "training-set": _training_set,
    "results": _results,
    "jobs": _jobs,
}
"""Screens by the mode name of `ScreenRequested`."""


def load_all() -> None:
    """Import every screen, so that every command is declared, for the check of `[keys]`."""
    # Importing a screen module declares its commands.
    from lmsi_tui.screens import home, jobs, plan  # noqa: F401
    from lmsi_tui.screens.results import (  # noqa: F401
        flips,
        ledger,
        question_paths,
        results,
        training_set,
    )
    from lmsi_tui.screens.reviewing import reader, review  # noqa: F401
    from lmsi_tui.screens.setup import demo, import_questions, new_project, welcome  # noqa: F401
