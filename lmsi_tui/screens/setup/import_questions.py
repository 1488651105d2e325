"""The form that imports questions from a file, with a preview."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.content import Content
from textual.widgets import Button, Input, Select, Static

from engine.prompting.tasks import PRESETS
from lmsi_tui.formatting.sanitize import content, snippet
from lmsi_tui.screens.setup.form import FormScreen, folder_of, form_commands
from lmsi_tui.screens.setup.picker import PickerScreen
from lmsi_tui.shell.app_interface import lmsi_app
from lmsi_tui.shell.commands import declare
from lmsi_tui.shell.file_listing import PickerTarget
from store.counted import counted
from store.enums import Split

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from lmsi_tui.shell.subcommand import Event

NO_FILE = "Enter the path of a file, or press ctrl+o to browse."
GUESS = ""
SPLITS = {
    Split.POOL: "pool: to learn from; answers are not used",
    Split.EVAL: "eval: evaluation, with known answers",
    Split.OOD: "ood: evaluation, out of domain",
}
ANSWERS = (
    ("replace those of the project", "--replace-answers"),
    ("keep those of the project", "--keep-answers"),
)
DIFFER = "known answers differ"
SHOWN_SKIPPED = 4
SHOWN_TEXT = 90


class ImportScreen(FormScreen[None]):
    """Ask for a file, preview it, import it; stay open for the next one."""

    NAME = "import"
    HELP = (
        "The model learns from the pool; answers in the file are not used for it. Evaluation "
        "questions need answers and are never trained on. The task decides how an answer is "
        "extracted from a path; choose another if the guess is wrong. Columns are guessed, too; "
        "if the guess fails, enter question=COLUMN answer=COLUMN. Answers to choices may be "
        "numbers; if the file does not show whether they are counted from 0 or 1, choose it."
    )
    TITLE_TEXT = "import questions"
    DO = "Import"
    BINDINGS: ClassVar = declare(
        "import", *form_commands("import", "import", "Import the file into the project.")
    )

    def fields(self) -> ComposeResult:
        """File, split, task, columns, numbering of labels, differing answers, limit."""
        yield self.row(
            "file",
            Input(
                placeholder="JSONL, JSON, CSV, TSV, Parquet or text; or a folder",
                compact=True,
                id="file",
            ),
            Button("Browse", compact=True, id="browse-file"),
        )
        splits = [(label, str(split)) for split, label in SPLITS.items()]
        yield self.row(
            "split", Select(splits, value="pool", allow_blank=False, compact=True, id="split")
        )
        tasks = [("guessed from the file", GUESS), *((name, name) for name in PRESETS)]
        yield self.row(
            "task", Select(tasks, value=GUESS, allow_blank=False, compact=True, id="task")
        )
        yield self.row(
            "columns",
            Input(
                placeholder="guessed, or question=COLUMN answer=COLUMN",
                compact=True,
                id="columns",
            ),
        )
        counted = [("shown by the file", GUESS), ("0", "0"), ("1", "1")]
        yield self.row(
            "labels from",
            Select(counted, value=GUESS, allow_blank=False, compact=True, id="labels-from"),
        )
        differing = [("ask if the project has others", GUESS), *ANSWERS]
        yield self.row(
            "answers",
            Select(differing, value=GUESS, allow_blank=False, compact=True, id="answers"),
        )
        yield self.row(
            "limit",
            Input(placeholder="all", compact=True, id="limit", type="integer", max_length=9),
        )
        yield Static()

    def _value(self, name: str) -> str:
        return self.query_one(f"#{name}", Input).value.strip()

    def arguments(self) -> list[str] | None:
        """`lmsi-tui import FILE --split … --task … --project …`."""
        if not self._value("file"):
            self.show(NO_FILE)
            return None
        args = [
            "import",
            f"--project={lmsi_app(self).project.folder.absolute()}",
            f"--split={self.query_one('#split', Select).value}",
        ]
        task = self.query_one("#task", Select).value
        if task != GUESS:
            args.append(f"--task={task}")
        args += [f"--field={field}" for field in self._value("columns").split()]
        labels_from = self.query_one("#labels-from", Select).value
        if labels_from != GUESS:
            args.append(f"--labels-from={labels_from}")
        answers = self.query_one("#answers", Select).value
        if answers != GUESS:
            args.append(str(answers))
        if self._value("limit"):
            args.append(f"--limit={self._value('limit')}")
        return [*args, "--", str(Path(self._value("file")).expanduser())]

    def preview_text(self, events: list[Event]) -> Content:
        """What was recognized in the file."""
        return preview_text(events[-1])

    def done(self, events: list[Event]) -> None:
        """Report the result and clear the form for another file."""
        event = events[-1]
        sentences = [f"✓ {counted(event['added'], 'question')} added to {event['split']}."]
        if event["known"]:
            sentences.append(f"{event['known']:,} were already imported.")
        if event["elsewhere"]:
            sentences.append(
                f"{event['elsewhere']:,} are in another split and stay there: questions that are "
                "trained on must not be used for evaluation."
            )
        if event["removed"]:
            sentences.append(f"{event['removed']:,} were removed and stay removed.")
        if event["changed_answers"]:
            kept = self.query_one("#answers", Select).value == "--keep-answers"
            sentences.append(
                f"{counted(len(event['changed_answers']), 'known answer differs', DIFFER)}: "
                + ("not replaced." if kept else "replaced, and evaluations scored again.")
            )
        sentences.append("Enter another file, or press escape to continue.")
        with self.prevent(Input.Changed):
            self.query_one("#file", Input).value = ""
        self.query_one("#file", Input).focus()
        self.show(" ".join(sentences))
        lmsi_app(self).store_changed.publish(None)

    @on(Select.Changed)
    def update_choice(self, event: Select.Changed) -> None:
        """Preview again with the chosen split or task."""
        event.stop()
        self.update_preview()

    @on(Button.Pressed, "#browse-file")
    def browse(self, event: Button.Pressed) -> None:
        """Browse for a file."""
        event.stop()
        self.action_browse()

    def action_browse(self) -> None:
        """Browse for a file."""
        field = self.query_one("#file", Input)

        def on_pick(path: Path | None) -> None:
            if path is not None:
                field.value = str(path)
                field.focus()

        start = folder_of(field.value.strip())
        self.app.push_screen(PickerScreen(PickerTarget.QUESTIONS, start), on_pick)


def preview_text(event: Event) -> Content:
    """The number of questions, their columns, the first three, and the skipped lines."""
    columns = dict(event["understood"])
    guess = " (guessed)" if event["guessed"] else ""
    repeated = f", {event['duplicates']:,} repeated" if event["duplicates"] else ""
    lines = [
        content(
            f"{counted(event['read'], 'question')}{repeated} · {columns.pop('rows', '')}"
        ).stylize("bold"),
        content(f"task {event['task']}{guess}"),
        content(", ".join(f"{meaning} from {column}" for meaning, column in columns.items())),
    ]
    for number, question in enumerate(event["first"], start=1):
        lines.append(content(f" {number}  {snippet(question['text'], SHOWN_TEXT)}"))
        if question["options"]:
            options = " · ".join(snippet(option, 24) for option in question["options"])
            lines.append(content(f"    {snippet(options, SHOWN_TEXT)}").stylize("$text-muted"))
    changed = event["changed_answers"]
    if changed:
        differ = counted(len(changed), "known answer differs", DIFFER)
        lines.append(content(f"! {differ} from those of the project:"))
    for change in changed[:SHOWN_SKIPPED]:
        stored, imported = (
            snippet(" or ".join(change[name]), 24) for name in ("stored", "imported")
        )
        text = content(f"    {snippet(change['text'], 50)}  {stored} → {imported}")
        lines.append(text.stylize("$text-muted"))
    if event["left_out_count"]:
        lines.append(content(f"! {counted(event['left_out_count'], 'line')} skipped:"))
        for line, reason in event["left_out"][:SHOWN_SKIPPED]:
            text = content(f"    line {line}: {snippet(reason, SHOWN_TEXT)}")
            lines.append(text.stylize("$text-muted"))
    return Content("\n").join(lines)
