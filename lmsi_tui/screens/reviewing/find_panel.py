"""Which questions the queue holds, and in which order."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Select, Static

from lmsi_tui.formatting.sanitize import content, plain, snippet
from lmsi_tui.reviewing.queue import SORTS, Wanted, share
from store.queue import QueueFilter, Scope, Sort

if TYPE_CHECKING:
    from textual.app import ComposeResult

_SCOPES = {
    Scope.DOUBTFUL: "doubtful: settled and not kept",
    Scope.KEPT: "kept by the vote",
    Scope.ALL: "all votes",
}
_ANY = ""
_REVIEWED = {_ANY: "reviewed or not", "no": "not reviewed", "yes": "reviewed"}


class FindPanel(ModalScreen[Wanted | None]):
    """The filter and the order of the queue; gives what is wanted now, or None."""

    NAME = "find"
    BINDINGS: ClassVar = [
        Binding("escape", "leave", "leave"),
        Binding("ctrl+r", "reset", "as usual"),
    ]
    # Not DEFAULT_CSS: what all dialogs share, in app.tcss, comes before that.
    CSS = """
    FindPanel {
        & > .dialog { width: 72; padding: 1; }
        & Horizontal { height: 1; }
        & Label { width: 14; color: $text-muted; }
        & Input { width: 1fr; }
        & Select { width: 1fr; }
        & .dash { width: 4; text-align: center; }
        & #wrong { height: auto; color: $text-error; }
    }
    """

    def __init__(self, wanted: Wanted, tasks: tuple[str, ...]) -> None:
        """Args:
        wanted: what is looked at now, of triage.
        tasks: of the pool.
        """
        super().__init__()
        self._wanted, self._tasks = wanted, tuple(dict.fromkeys(tasks))

    def compose(self) -> ComposeResult:
        """A line for each part of the filter."""
        chosen = self._wanted.chosen
        reviewed = {None: _ANY, True: "yes", False: "no"}[chosen.reviewed]
        tasks = [(plain("every task"), _ANY)]
        tasks += [(plain(snippet(one, 40)), one) for one in self._tasks]
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "find"
            dialog.border_subtitle = "enter shows them   ctrl+r as usual   escape leaves"
            with Horizontal():
                yield Label("words")
                yield Input(chosen.words, id="words", compact=True, placeholder="in the question")
            with Horizontal():
                yield Label("votes")
                yield Select(
                    [(words, str(scope)) for scope, words in _SCOPES.items()],
                    value=str(chosen.scope),
                    allow_blank=False,
                    compact=True,
                    id="scope",
                )
            with Horizontal():
                yield Label("agreement")
                yield Input(share(chosen.low), id="low", compact=True)
                yield Label("to", classes="dash")
                yield Input(share(chosen.high), id="high", compact=True)
            with Horizontal():
                yield Label("task")
                yield Select(
                    tasks,
                    value=chosen.task if chosen.task in self._tasks else _ANY,
                    allow_blank=False,
                    compact=True,
                    id="task",
                )
            with Horizontal():
                yield Label("reviewed")
                yield Select(
                    [(words, value) for value, words in _REVIEWED.items()],
                    value=reviewed,
                    allow_blank=False,
                    compact=True,
                    id="reviewed",
                )
            with Horizontal():
                yield Label("order")
                yield Select(
                    [(words, str(sort)) for sort, words in SORTS.items()],
                    value=str(self._wanted.sort),
                    allow_blank=False,
                    compact=True,
                    id="sort",
                )
            yield Static(id="wrong", markup=False)
            yield Button("show", compact=True, variant="primary")

    def on_mount(self) -> None:
        """Typing finds words at once."""
        self.query_one("#words").focus()

    def _chosen(self, id: str) -> str:
        return str(self.query_one(f"#{id}", Select).value)

    def on_select_changed(self, event: Select.Changed) -> None:
        """Back to the words, where enter shows what is found."""
        event.stop()
        self.query_one("#words").focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Show what was asked for."""
        event.stop()
        self._apply()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Show what was asked for."""
        event.stop()
        self._apply()

    def _apply(self) -> None:
        low, high = self._share("low"), self._share("high")
        if low is None or high is None or low > high:
            self.query_one("#wrong", Static).update(
                content("Give the agreement as two shares from 0 to 1, such as 0.3 to 0.6 or 5/16.")
            )
            return
        chosen = QueueFilter(
            scope=Scope(self._chosen("scope")),
            low=low,
            high=high,
            task=None if self._chosen("task") == _ANY else self._chosen("task"),
            reviewed={_ANY: None, "yes": True, "no": False}[self._chosen("reviewed")],
            words=self.query_one("#words", Input).value.strip(),
        )
        self.dismiss(replace(self._wanted, chosen=chosen, sort=Sort(self._chosen("sort"))))

    def _share(self, name: str) -> Fraction | None:
        try:
            value = Fraction(self.query_one(f"#{name}", Input).value.strip())
        except (ValueError, ZeroDivisionError):
            return None
        return value if 0 <= value <= 1 else None

    def action_reset(self) -> None:
        """Every doubtful question, the lowest margin first."""
        self.dismiss(Wanted())

    def action_leave(self) -> None:
        """Change nothing."""
        self.dismiss(None)
