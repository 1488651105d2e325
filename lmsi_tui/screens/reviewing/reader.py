"""The workbench of the readers: other rules, and at once what they would change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.content import Content
from textual.widgets import Input, Select, Static, TextArea

from engine.answers import custom_rules
from engine.prompting.tasks import preset
from lmsi_tui.formatting.reader_text import preview_event_lines, winner_text
from lmsi_tui.formatting.sanitize import content, snippet
from lmsi_tui.screens.setup.form import FormScreen
from lmsi_tui.shell.app_interface import lmsi_app
from lmsi_tui.shell.commands import Command, declare
from store import questions
from store.enums import AnswerType, Split

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from lmsi_tui.shell.app_interface import AppInterface
    from lmsi_tui.shell.subcommand import Event

SHOWN = 30
"""Questions of a trial that are listed."""
BAD_PAIR = "Write two equal answers as A = B, one pair a line."


class ReaderScreen(FormScreen[None]):
    """Asks for the rules of one reader, shows their trial while one types, puts them in force."""

    NAME = "reader"
    HELP = (
        "A pattern is a regular expression; the part in (?P<answer>…) is read as the answer. Those "
        "under first are tried before the reader, those under else where it finds nothing. Units "
        "are dropped right before and after a number. Equal answers are written A = B and count "
        "as A. One a line. All stored paths are read with them at once, and nothing is changed "
        "until you accept; a vote job then reads and counts every path again."
    )
    TITLE_TEXT = "how answers are read"
    DO = "Accept"
    LOOKS = "--try"
    SAYS = "what would change"
    DEFAULT_CSS: ClassVar[str] = """
    ReaderScreen TextArea { width: 1fr; height: auto; max-height: 4; }
    """
    BINDINGS: ClassVar = declare(
        NAME,
        Command("reader.do", "ctrl+s", "do", "accept", "Put the rules in force."),
        Command("reader.reset", "f4", "reset", "built-in", "Take all rules of this type out."),
        Command(
            "reader.same", "f2", "same", "same", "Add the next pair that review calls the same."
        ),
        Command("reader.look", "f3", "look", "look", "Scroll what would change, or write on."),
        Command("reader.close", "escape", "close", "drop", "Leave the rules as they are."),
        Command("reader.help", "f1", "app.help", "help", "What the rules mean."),
    )

    def __init__(self) -> None:
        super().__init__()
        self.candidates: list[tuple[str, str]] = []
        """Pairs that review calls the same and no rule does, as the last trial told them."""

    def on_mount(self) -> None:
        """Let the keys scroll what would change: it may be long."""
        self.query_one("#understood").can_focus = True
        super().on_mount()

    def fields(self) -> ComposeResult:
        """Type, patterns, units, pairs."""
        tasks = questions.tasks(self._lmsi.conn, Split.POOL)
        kind = preset(tasks[0]).answer_type if tasks else AnswerType.NUMBER
        kinds = [(str(one), str(one)) for one in AnswerType]
        yield self.row(
            "reader", Select(kinds, value=str(kind), allow_blank=False, compact=True, id="type")
        )
        told = self._standing(kind)
        yield self.row("first", self._lines("patterns", told["patterns"]))
        yield self.row("else", self._lines("fallbacks", told["fallbacks"]))
        yield self.row("the same", self._lines("same", told["same"]))
        yield self.row(
            "units",
            Input(told["units"], placeholder="km, dollars", compact=True, id="units"),
        )
        yield Static()

    @staticmethod
    def _lines(name: str, text: str) -> TextArea:
        return TextArea(text, compact=True, tab_behavior="focus", soft_wrap=True, id=name)

    @property
    def _lmsi(self) -> AppInterface:
        return lmsi_app(self)

    def _standing(self, kind: AnswerType) -> dict[str, str]:
        """The rules in force as the fields hold them."""
        rules = custom_rules.in_force(self._lmsi.conn)[kind]
        return {
            "patterns": "\n".join(rules.patterns),
            "fallbacks": "\n".join(rules.fallbacks),
            "same": "\n".join(f"{a} = {b}" for a, b in rules.same),
            "units": ", ".join(rules.units),
        }

    def _kind(self) -> AnswerType:
        return AnswerType(str(self.query_one("#type", Select).value))

    def _of(self, name: str) -> list[str]:
        text = self.query_one(f"#{name}", TextArea).text
        return [one.strip() for one in text.splitlines() if one.strip()]

    def arguments(self) -> list[str] | None:
        """`lmsi-tui reader --type … --rules …`."""
        pairs = [[part.strip() for part in one.split(" = ")] for one in self._of("same")]
        if any(len(pair) != 2 or not all(pair) for pair in pairs):
            self.say(BAD_PAIR, wrong=True)
            return None
        units = self.query_one("#units", Input).value.split(",")
        rules = {
            "patterns": self._of("patterns"),
            "fallbacks": self._of("fallbacks"),
            "units": [one.strip() for one in units if one.strip()],
            "same": pairs,
        }
        return [
            "reader",
            f"--type={self._kind()}",
            f"--rules={json.dumps(rules)}",
            "--",
            str(self._lmsi.project.folder.absolute()),
        ]

    def told(self, events: list[Event]) -> Content:
        """The trial: sentences, then a line for each question that would change."""
        event = events[-1]
        self.candidates = [
            (one["stands"], one["joins"])
            for one in event["candidates"]
            if one["answer_type"] == event["type"]
        ]
        return told(event)

    def done(self, events: list[Event]) -> None:
        """Tell that they are in force, and close."""
        event = events[-1]
        self.app.notify(f"{event['reader']} is in force; job {event['job']} reads all paths again.")
        self._lmsi.store_changed.publish(None)
        self.dismiss(None)

    @on(TextArea.Changed)
    def _written(self, event: TextArea.Changed) -> None:
        event.stop()
        self.look()

    @on(Select.Changed)
    def _chosen(self, event: Select.Changed) -> None:
        """Show the rules of another type."""
        event.stop()
        self._fill(self._standing(self._kind()))

    def _fill(self, rules: dict[str, str]) -> None:
        for name in ("patterns", "fallbacks", "same"):
            self.query_one(f"#{name}", TextArea).text = rules[name]
        self.query_one("#units", Input).value = rules["units"]
        self.look()

    def action_do(self) -> None:
        """Put the rules in force; a job reads the paths again."""
        arguments = self.arguments()
        if arguments is not None:
            self._do([arguments[0], "--accept", "--detach", *arguments[1:]])

    def action_reset(self) -> None:
        """Empty every field: the built-in reader."""
        self._fill(dict.fromkeys(("patterns", "fallbacks", "same", "units"), ""))

    def action_look(self) -> None:
        """Go to what would change, or back to the rules."""
        pane = self.query_one("#understood")
        if pane.has_focus:
            self.query_one("#patterns").focus()
        else:
            pane.focus()

    def action_same(self) -> None:
        """Add the next pair that review calls the same."""
        written = self._of("same")
        new = [f"{a} = {b}" for a, b in self.candidates if f"{a} = {b}" not in written]
        if new:
            self.query_one("#same", TextArea).text = "\n".join([*written, new[0]])
        else:
            self.app.bell()


def told(event: Event) -> Content:
    """A trial as the command told it, as lines of a table."""
    lines = [content(one) for one in preview_event_lines(event)]
    changed = event["changed"]
    for one in changed[:SHOWN]:
        before, after = (winner_text(one[name], 16) for name in ("before", "after"))
        kept = {(False, True): "kept", (True, False): "left out"}.get(tuple(one["kept"]), "")
        more = f"+{one['more_paths_at_most']} paths" if one["more_paths_at_most"] else ""
        lost = f"{len(one['reviews_lost'])} decided" if one["reviews_lost"] else ""
        words = " ".join(word for word in (kept, more, lost) if word)
        lines.append(
            Content.assemble(
                (f"{before:>16} → {after:<16} ", "bold"),
                (f"{words:<10} ", "$text-warning"),
                (snippet(one["text"], 60), "$text-muted"),
            )
        )
    if len(changed) > SHOWN:
        lines.append(content(f"and {len(changed) - SHOWN:,} more questions"))
    for pair in event["candidates"][:3]:
        stands, joins = snippet(pair["stands"], 20), snippet(pair["joins"], 20)
        lines.append(
            content(f"review calls {stands} and {joins} the same: f2 adds it").stylize(
                "$text-muted"
            )
        )
    return Content("\n").join(lines)
