"""The dialog to type an answer; it is normalized like an answer of a path."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from engine.answers.custom_rules import BUILT_IN, Rules
from engine.review.question import read_typed
from lmsi_tui.formatting.sanitize import snippet
from lmsi_tui.screens.screen import AppScreen
from store.enums import AnswerType

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from store.records import Question

EXPECTED = {
    AnswerType.NUMBER: "a number, such as 12 or 3/4",
    AnswerType.CHOICE: "the letter or the text of an option",
    AnswerType.YES_NO: "yes or no",
    AnswerType.NLI: "yes, no, or it is not possible to tell",
    AnswerType.SPAN: "words or a number from the passage",
    AnswerType.MATH: "a number or a formula",
}
"""Description of a valid answer of each type."""


class AnswerInput(AppScreen[str | None], ModalScreen[str | None]):
    """A one-line input; gives the normalized answer, or None."""

    NAME = "answer"
    BINDINGS: ClassVar = [Binding("escape", "leave", "cancel")]
    # Not DEFAULT_CSS: the dialog rules of app.tcss would override it.
    CSS = """
    AnswerInput {
        align: center bottom;
        background: $background 30%;
        & > .dialog { width: 100%; max-width: 100%; padding: 0 1; margin-bottom: 1; }
        & #reading { height: auto; }
    }
    """

    def __init__(self, question: Question, typed: str = "", rules: Rules = BUILT_IN) -> None:
        """Args:
        question: its type and options decide what is valid.
        typed: initial text.
        rules: custom rules in force for its type.
        """
        super().__init__()
        self._question, self._typed, self._rules = question, typed, rules

    def compose(self) -> ComposeResult:
        """The input, and below it the normalized answer."""
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "the right answer"
            dialog.border_subtitle = "enter accept   escape cancel"
            yield Input(self._typed, select_on_focus=False, compact=True)
            yield Static(self._reading(self._typed), id="reading", markup=False)

    def _reading(self, typed: str) -> Content:
        if not typed.strip():
            return Content.styled(f"Type {EXPECTED[self._question.answer_type]}.", "$text-muted")
        answer = read_typed(self._question, typed, self._rules)
        if answer is None:
            expected = EXPECTED[self._question.answer_type]
            return Content.styled(f"✗ Not an answer: type {expected}.", "$text-error")
        return Content.assemble(("✓ read as ", "$text-success"), (snippet(answer, 60), "bold"))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show how the text is read."""
        event.stop()
        self.query_one("#reading", Static).update(self._reading(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Accept a valid answer."""
        event.stop()
        answer = read_typed(self._question, event.value, self._rules)
        if answer is None:
            self.app.bell()
        else:
            self.dismiss(answer)

    def action_leave(self) -> None:
        """Close without an answer."""
        self.dismiss(None)
