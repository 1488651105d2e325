"""Questions from a file: for what they are, what was understood of them, how many are left out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.content import Content
from textual.widgets import Button, Input, Select, Static

from engine.prompting.tasks import PRESETS
from lmsi_tui.formatting.sanitize import content, snippet
from lmsi_tui.screens.setup.form import FormScreen, folder_of, keys_of
from lmsi_tui.screens.setup.picker import PickerScreen
from lmsi_tui.shell.app_interface import lmsi_app
from lmsi_tui.shell.commands import declare
from lmsi_tui.shell.file_listing import PickerTarget
from store.enums import Split

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from lmsi_tui.shell.subcommand import Event

NOTHING = "Give a file: type its path, or press ctrl+o to look for it."
GUESS = ""
SPLITS = {
    Split.POOL: "pool: to learn from, answers are not read",
    Split.EVAL: "eval: to measure on, with known answers",
    Split.OOD: "ood: to measure on, from another field",
}
SHOWN_LEFT_OUT = 4
SHOWN_TEXT = 90


class ImportScreen(FormScreen[None]):
    """Asks for a file, previews it, imports it; stays open for the next one."""

    NAME = "import"
    HELP = (
        "The pool is what the model learns from: its answers, if the file has any, are not read. "
        "Evaluation questions need their answers, and are never trained on. The task decides how "
        "an answer is read from a path; where the guess is wrong, choose another one. Columns are "
        "guessed too; write question=COLUMN answer=COLUMN where that fails."
    )
    TITLE_TEXT = "import questions"
    DO = "Import"
    BINDINGS: ClassVar = declare(
        "import", *keys_of("import", "import", "Read the file into the project.")
    )

    def fields(self) -> ComposeResult:
        """File, use, task, columns, limit."""
        yield self.row(
            "file",
            Input(
                placeholder="JSONL, JSON, CSV, TSV, Parquet or text, also .gz",
                compact=True,
                id="file",
            ),
            Button("Browse", compact=True, id="browse-file"),
        )
        splits = [(words, str(split)) for split, words in SPLITS.items()]
        yield self.row(
            "for", Select(splits, value="pool", allow_blank=False, compact=True, id="split")
        )
        tasks = [("guess from the file", GUESS), *((name, name) for name in PRESETS)]
        yield self.row(
            "task", Select(tasks, value=GUESS, allow_blank=False, compact=True, id="task")
        )
        yield self.row(
            "columns",
            Input(
                placeholder="guessed; else question=COLUMN answer=COLUMN",
                compact=True,
                id="columns",
            ),
        )
        yield self.row(
            "at most",
            Input(placeholder="all", compact=True, id="limit", type="integer", max_length=9),
        )
        yield Static()

    def _value(self, name: str) -> str:
        return self.query_one(f"#{name}", Input).value.strip()

    def arguments(self) -> list[str] | None:
        """`lmsi-tui import FILE --split … --task … --project …`."""
        if not self._value("file"):
            self.say(NOTHING)
            return None
        found = [
            "import",
            f"--project={lmsi_app(self).project.folder.absolute()}",
            f"--split={self.query_one('#split', Select).value}",
        ]
        task = self.query_one("#task", Select).value
        if task != GUESS:
            found.append(f"--task={task}")
        found += [f"--field={one}" for one in self._value("columns").split()]
        if self._value("limit"):
            found.append(f"--limit={self._value('limit')}")
        return [*found, "--", str(Path(self._value("file")).expanduser())]

    def told(self, events: list[Event]) -> Content:
        """What was understood of the file."""
        return told(events[-1])

    def done(self, events: list[Event]) -> None:
        """Say what came in, and be ready for another file."""
        event = events[-1]
        sentences = [f"✓ {event['added']:,} questions are new in {event['split']}."]
        if event["known"]:
            sentences.append(f"{event['known']:,} were there before.")
        if event["elsewhere"]:
            sentences.append(
                f"{event['elsewhere']:,} are in another split of this project and stay there: "
                "a question that is trained on must not measure."
            )
        sentences.append("Give another file, or press escape to go on.")
        with self.prevent(Input.Changed):
            self.query_one("#file", Input).value = ""
        self.query_one("#file", Input).focus()
        self.say(" ".join(sentences))
        lmsi_app(self).store_changed.publish(None)

    @on(Select.Changed)
    def chosen(self, event: Select.Changed) -> None:
        """Another use or task is another understanding."""
        event.stop()
        self.look()

    @on(Button.Pressed, "#browse-file")
    def browse(self, event: Button.Pressed) -> None:
        """Look for a file."""
        event.stop()
        self.action_browse()

    def action_browse(self) -> None:
        """Look for a file."""
        field = self.query_one("#file", Input)

        def picked(path: Path | None) -> None:
            if path is not None:
                field.value = str(path)
                field.focus()

        start = folder_of(field.value.strip())
        self.app.push_screen(PickerScreen(PickerTarget.QUESTIONS, start), picked)


def told(event: Event) -> Content:
    """How many questions, from which columns, the first three, and what is left out."""
    columns = dict(event["understood"])
    guess = " (guessed)" if event["guessed"] else ""
    repeated = f", {event['duplicates']:,} repeated" if event["duplicates"] else ""
    lines = [
        content(f"{event['read']:,} questions{repeated} · {columns.pop('rows', '')}").stylize(
            "bold"
        ),
        content(f"task {event['task']}{guess}"),
        content(", ".join(f"{meaning} from {column}" for meaning, column in columns.items())),
    ]
    for number, one in enumerate(event["first"], start=1):
        lines.append(content(f" {number}  {snippet(one['text'], SHOWN_TEXT)}"))
        if one["options"]:
            options = " · ".join(snippet(option, 24) for option in one["options"])
            lines.append(content(f"    {snippet(options, SHOWN_TEXT)}").stylize("$text-muted"))
    if event["left_out_count"]:
        lines.append(content(f"! {event['left_out_count']:,} lines are left out:"))
        for line, reason in event["left_out"][:SHOWN_LEFT_OUT]:
            shown = content(f"    line {line}: {snippet(reason, SHOWN_TEXT)}")
            lines.append(shown.stylize("$text-muted"))
    return Content("\n").join(lines)
