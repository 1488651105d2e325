"""The editor for custom answer-extraction rules, with a preview of their effect."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.content import Content
from textual.widgets import Input, Select, Static, TextArea

from engine.answers import custom_rules
from engine.prompting.tasks import preset
from lmsi_tui.formatting.job_results import winner_text
from lmsi_tui.formatting.reader_text import preview_event_lines
from lmsi_tui.formatting.sanitize import content, snippet
from lmsi_tui.screens.setup.form import FormScreen
from lmsi_tui.shell.app_interface import lmsi_app
from lmsi_tui.shell.commands import Command, declare
from store import questions
from store.counted import counted
from store.enums import AnswerType, Split

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from lmsi_tui.shell.app_interface import AppInterface
    from lmsi_tui.shell.subcommand import Event

SHOWN = 30
"""Number of changed questions that the preview lists."""
BAD_PAIR = "Write two equal answers as A = B, one pair per line."


class ReaderScreen(FormScreen[None]):
    """Edit the rules of one answer type, preview them while you type, put them in force."""

    NAME = "reader"
    HELP = (
        "A pattern is a regular expression; its group (?P<answer>…) is taken as the answer. "
        "Patterns are tried before the built-in reader, fallbacks if it finds no answer. Units "
        "next to a number are ignored. Equal answers are written A = B and count as A. Write "
        "one per line. The preview applies the rules to all stored paths; nothing changes until "
        "you accept. A vote job then extracts all answers again."
    )
    TITLE_TEXT = "answer-extraction rules"
    DO = "Accept"
    PREVIEW_OPTION = "--try"
    PREVIEW_TITLE = "what would change"
    DEFAULT_CSS: ClassVar[str] = """
    ReaderScreen TextArea { width: 1fr; height: auto; max-height: 4; }
    """
    BINDINGS: ClassVar = declare(
        NAME,
        Command("reader.do", "ctrl+s", "do", "accept", "Put the rules in force."),
        Command("reader.reset", "f4", "reset", "built-in", "Remove all rules of this type."),
        Command(
            "reader.same", "f2", "same", "same", "Add the next pair that was merged in review."
        ),
        Command(
            "reader.look", "f3", "look", "preview", "Focus the preview, or go back to the rules."
        ),
        Command("reader.close", "escape", "close", "discard", "Close without changes."),
        Command("reader.help", "f1", "app.help", "help", "Explain the rules."),
    )

    def __init__(self) -> None:
        super().__init__()
        self.candidates: list[tuple[str, str]] = []
        """Pairs that were merged in review but that no rule covers, from the last preview."""

    def on_mount(self) -> None:
        """Make the preview focusable, because it may need scrolling."""
        self.query_one("#understood").can_focus = True
        super().on_mount()

    def fields(self) -> ComposeResult:
        """Type, patterns, units, pairs."""
        tasks = questions.tasks(self._lmsi.conn, Split.POOL)
        kind = preset(tasks[0]).answer_type if tasks else AnswerType.NUMBER
        kinds = [(str(answer_type), str(answer_type)) for answer_type in AnswerType]
        yield self.row(
            "type", Select(kinds, value=str(kind), allow_blank=False, compact=True, id="type")
        )
        rules = self._rules_in_force(kind)
        yield self.row("patterns", self._lines("patterns", rules["patterns"]))
        yield self.row("fallbacks", self._lines("fallbacks", rules["fallbacks"]))
        yield self.row("equal", self._lines("same", rules["same"]))
        yield self.row(
            "units",
            Input(rules["units"], placeholder="km, dollars", compact=True, id="units"),
        )
        yield Static()

    @staticmethod
    def _lines(name: str, text: str) -> TextArea:
        return TextArea(text, compact=True, tab_behavior="focus", soft_wrap=True, id=name)

    @property
    def _lmsi(self) -> AppInterface:
        return lmsi_app(self)

    def _rules_in_force(self, kind: AnswerType) -> dict[str, str]:
        """The rules in force, as texts for the fields."""
        rules = custom_rules.in_force(self._lmsi.conn)[kind]
        return {
            "patterns": "\n".join(rules.patterns),
            "fallbacks": "\n".join(rules.fallbacks),
            "same": "\n".join(f"{a} = {b}" for a, b in rules.same),
            "units": ", ".join(rules.units),
        }

    def _kind(self) -> AnswerType:
        return AnswerType(str(self.query_one("#type", Select).value))

    def _lines_of(self, name: str) -> list[str]:
        text = self.query_one(f"#{name}", TextArea).text
        return [line.strip() for line in text.splitlines() if line.strip()]

    def arguments(self) -> list[str] | None:
        """`lmsi-tui reader --type … --rules …`."""
        pairs = [[part.strip() for part in line.split(" = ")] for line in self._lines_of("same")]
        if any(len(pair) != 2 or not all(pair) for pair in pairs):
            self.show(BAD_PAIR, error=True)
            return None
        units = self.query_one("#units", Input).value.split(",")
        rules = {
            "patterns": self._lines_of("patterns"),
            "fallbacks": self._lines_of("fallbacks"),
            "units": [unit.strip() for unit in units if unit.strip()],
            "same": pairs,
        }
        return [
            "reader",
            f"--type={self._kind()}",
            f"--rules={json.dumps(rules)}",
            "--",
            str(self._lmsi.project.folder.absolute()),
        ]

    def preview_text(self, events: list[Event]) -> Content:
        """A summary, then one line per question that would change."""
        event = events[-1]
        self.candidates = [
            (pair["stands"], pair["joins"])
            for pair in event["candidates"]
            if pair["answer_type"] == event["type"]
        ]
        return preview_text(event)

    def done(self, events: list[Event]) -> None:
        """Report success and close."""
        event = events[-1]
        self.app.notify(
            f"{event['reader']} is in force; job {event['job']} extracts all answers again.",
            markup=False,
        )
        self._lmsi.store_changed.publish(None)
        self.dismiss(None)

    @on(TextArea.Changed)
    def _edited(self, event: TextArea.Changed) -> None:
        event.stop()
        self.update_preview()

    @on(Select.Changed)
    def _type_changed(self, event: Select.Changed) -> None:
        """Show the rules of the chosen type."""
        event.stop()
        self._fill(self._rules_in_force(self._kind()))

    def _fill(self, rules: dict[str, str]) -> None:
        for name in ("patterns", "fallbacks", "same"):
            self.query_one(f"#{name}", TextArea).text = rules[name]
        self.query_one("#units", Input).value = rules["units"]
        self.update_preview()

    def action_do(self) -> None:
        """Put the rules in force; a job extracts the answers again."""
        arguments = self.arguments()
        if arguments is not None:
            self._do([arguments[0], "--accept", "--detach", *arguments[1:]])

    def action_reset(self) -> None:
        """Empty all fields: the built-in reader."""
        self._fill(dict.fromkeys(("patterns", "fallbacks", "same", "units"), ""))

    def action_look(self) -> None:
        """Focus the preview, or go back to the rules."""
        pane = self.query_one("#understood")
        if pane.has_focus:
            self.query_one("#patterns").focus()
        else:
            pane.focus()

    def action_same(self) -> None:
        """Add the next pair that was merged in review."""
        written = self._lines_of("same")
        new = [f"{a} = {b}" for a, b in self.candidates if f"{a} = {b}" not in written]
        if new:
            self.query_one("#same", TextArea).text = "\n".join([*written, new[0]])
        else:
            self.app.bell()


def preview_text(event: Event) -> Content:
    """The event of `lmsi-tui reader --try` as a summary and a table of changed questions."""
    lines = [content(line) for line in preview_event_lines(event)]
    changed = event["changed"]
    for question in changed[:SHOWN]:
        before, after = (winner_text(question[name], 16) for name in ("before", "after"))
        kept = {(False, True): "kept", (True, False): "left out"}.get(tuple(question["kept"]), "")
        paths = question["more_paths_at_most"]
        more = f"+{counted(paths, 'path')}" if paths else ""
        lost = f"{len(question['reviews_lost'])} decided" if question["reviews_lost"] else ""
        effects = " ".join(effect for effect in (kept, more, lost) if effect)
        lines.append(
            Content.assemble(
                (f"{before:>16} → {after:<16} ", "bold"),
                (f"{effects:<10} ", "$text-warning"),
                (snippet(question["text"], 60), "$text-muted"),
            )
        )
    if len(changed) > SHOWN:
        lines.append(content(f"and {counted(len(changed) - SHOWN, 'more question')}"))
    for pair in event["candidates"][:3]:
        first, second = snippet(pair["stands"], 20), snippet(pair["joins"], 20)
        lines.append(
            content(f"merged in review: {first} and {second} (f2 adds the pair)").stylize(
                "$text-muted"
            )
        )
    return Content("\n").join(lines)
