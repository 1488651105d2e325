"""The dialog that filters and sorts the review queue."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Select, Static

from lmsi_tui.formatting.sanitize import content, plain, snippet
from lmsi_tui.reviewing.queue import SORTS, QueueSelection, share
from lmsi_tui.screens.screen import AppScreen
from store.queue import QueueFilter, Scope, Sort

if TYPE_CHECKING:
    from textual.app import ComposeResult

_SCOPES = {
    Scope.DOUBTFUL: "doubtful: settled, not accepted",
    Scope.KEPT: "accepted by the vote",
    Scope.ALL: "all votes",
}
_ANY = ""
_REVIEWED = {_ANY: "reviewed or not", "no": "not reviewed", "yes": "reviewed"}


class FindPanel(AppScreen[QueueSelection | None], ModalScreen[QueueSelection | None]):
    """The filter and the order of the queue; gives the new selection, or None."""

    NAME = "find"
    BINDINGS: ClassVar = [
        Binding("escape", "leave", "cancel"),
        Binding("ctrl+r", "reset", "reset"),
    ]
    # Not DEFAULT_CSS: the dialog rules of app.tcss would override it.
    CSS = """
    FindPanel {
        & > .dialog { width: 72; padding: 1; }
        & Horizontal { height: 1; }
        & Label { width: 14; color: $text-muted; }
        & Input { width: 1fr; }
        & Select { width: 1fr; }
        & .dash { width: 4; text-align: center; }
        & #error { height: auto; color: $text-error; }
    }
    """

    def __init__(self, selection: QueueSelection, tasks: tuple[str, ...]) -> None:
        """Args:
        selection: the current selection of triage.
        tasks: tasks of the pool.
        """
        super().__init__()
        self._selection, self._tasks = selection, tuple(dict.fromkeys(tasks))

    def compose(self) -> ComposeResult:
        """One row for each part of the filter."""
        queue_filter = self._selection.filter
        reviewed = {None: _ANY, True: "yes", False: "no"}[queue_filter.reviewed]
        tasks = [(plain("every task"), _ANY)]
        tasks += [(plain(snippet(task, 40)), task) for task in self._tasks]
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "find"
            dialog.border_subtitle = "enter apply   ctrl+r reset   escape cancel"
            with Horizontal():
                yield Label("words")
                yield Input(
                    queue_filter.words, id="words", compact=True, placeholder="in the question"
                )
            with Horizontal():
                yield Label("votes")
                yield Select(
                    [(label, str(scope)) for scope, label in _SCOPES.items()],
                    value=str(queue_filter.scope),
                    allow_blank=False,
                    compact=True,
                    id="scope",
                )
            with Horizontal():
                yield Label("agreement")
                yield Input(share(queue_filter.low), id="low", compact=True)
                yield Label("to", classes="dash")
                yield Input(share(queue_filter.high), id="high", compact=True)
            with Horizontal():
                yield Label("task")
                yield Select(
                    tasks,
                    value=queue_filter.task if queue_filter.task in self._tasks else _ANY,
                    allow_blank=False,
                    compact=True,
                    id="task",
                )
            with Horizontal():
                yield Label("reviewed")
                yield Select(
                    [(label, value) for value, label in _REVIEWED.items()],
                    value=reviewed,
                    allow_blank=False,
                    compact=True,
                    id="reviewed",
                )
            with Horizontal():
                yield Label("order")
                yield Select(
                    [(label, str(sort)) for sort, label in SORTS.items()],
                    value=str(self._selection.sort),
                    allow_blank=False,
                    compact=True,
                    id="sort",
                )
            yield Static(id="error", markup=False)
            yield Button("apply", compact=True, variant="primary")

    def on_mount(self) -> None:
        """Focus the search words."""
        self.query_one("#words").focus()

    def _value(self, id: str) -> str:
        return str(self.query_one(f"#{id}", Select).value)

    def on_select_changed(self, event: Select.Changed) -> None:
        """Focus the search words again, where enter applies the filter."""
        event.stop()
        self.query_one("#words").focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Apply the filter."""
        event.stop()
        self._apply()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Apply the filter."""
        event.stop()
        self._apply()

    def _apply(self) -> None:
        low, high = self._share("low"), self._share("high")
        if low is None or high is None or low > high:
            self.query_one("#error", Static).update(
                content(
                    "Enter the agreement as two shares from 0 to 1, such as 0.3 to 0.6 or 5/16."
                )
            )
            return
        queue_filter = QueueFilter(
            scope=Scope(self._value("scope")),
            low=low,
            high=high,
            task=None if self._value("task") == _ANY else self._value("task"),
            reviewed={_ANY: None, "yes": True, "no": False}[self._value("reviewed")],
            words=self.query_one("#words", Input).value.strip(),
        )
        self.dismiss(replace(self._selection, filter=queue_filter, sort=Sort(self._value("sort"))))

    def _share(self, name: str) -> Fraction | None:
        try:
            value = Fraction(self.query_one(f"#{name}", Input).value.strip())
        except (ValueError, ZeroDivisionError):
            return None
        return value if 0 <= value <= 1 else None

    def action_reset(self) -> None:
        """Reset to all doubtful questions, lowest margin first."""
        self.dismiss(QueueSelection())

    def action_leave(self) -> None:
        """Close without changes."""
        self.dismiss(None)
