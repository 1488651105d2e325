"""A project on a person's own model: which model, which students, where."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.content import Content
from textual.widgets import Button, Input, Static

from lmsi_tui.formatting.numbers import magnitude
from lmsi_tui.formatting.sanitize import content
from lmsi_tui.screens.setup.form import FormScreen, folder_of, keys_of
from lmsi_tui.screens.setup.picker import PickerScreen
from lmsi_tui.shell.commands import declare
from lmsi_tui.shell.file_listing import PickerTarget

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from lmsi_tui.shell.subcommand import Event

NOTHING = "Give a model: type its path, or press ctrl+o to look for it."


class NewProjectScreen(FormScreen[Path | None]):
    """Asks for models and a folder, says what the models are, makes the project."""

    NAME = "new-project"
    HELP = (
        "The model is what becomes better. Students are smaller models that learn from it; leave "
        "them out if you have none. Only Hugging Face folders can be trained; a GGUF file or a "
        "server can be sampled and voted on. Nothing is copied: the project remembers where the "
        "models lie."
    )
    TITLE_TEXT = "new project"
    DO = "Make the project"
    BINDINGS: ClassVar = declare(
        "new-project", *keys_of("new-project", "make it", "Make the project and open it.")
    )

    def fields(self) -> ComposeResult:
        """Model, students, folder."""
        path = "Hugging Face folder, .gguf file, or URL"
        yield self.row(
            "model",
            Input(placeholder=path, compact=True, id="model"),
            Button("Browse", compact=True, id="browse-model"),
        )
        yield self.row(
            "students",
            Input(
                placeholder=f"none; several are parted by {os.pathsep}", compact=True, id="students"
            ),
            Button("Browse", compact=True, id="browse-students"),
        )
        yield self.row("folder", Input("./my-project", compact=True, id="folder"))
        yield Static("a new folder for the project", classes="note", markup=False)

    def _field(self, name: str) -> Input:
        return self.query_one(f"#{name}", Input)

    def _value(self, name: str) -> str:
        return self._field(name).value.strip()

    def arguments(self) -> list[str] | None:
        """`lmsi-tui init FOLDER --model … --student …`."""
        if not self._value("model"):
            self.say(NOTHING)
            return None
        if not self._value("folder"):
            self.say("Give a folder for the project.", wrong=True)
            return None
        folder = str(Path(self._value("folder")).expanduser().absolute())
        students = [one for one in self._value("students").split(os.pathsep) if one.strip()]
        named = [f"--student={one.strip()}" for one in students]
        return ["init", f"--model={self._value('model')}", *named, "--", folder]

    def told(self, events: list[Event]) -> Content:
        """What each model is."""
        return Content("\n").join(_facts(event, first=n == 0) for n, event in enumerate(events))

    def done(self, events: list[Event]) -> None:
        """Hand the folder on."""
        self.dismiss(Path(events[-1]["project"]))

    # Commands.

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Browse for one of the two."""
        if event.button.id in ("browse-model", "browse-students"):
            event.stop()
            self._browse((event.button.id or "").removeprefix("browse-"))

    def action_browse(self) -> None:
        """Look for a model, or for a student where the cursor is there."""
        self._browse("students" if self._field("students").has_focus else "model")

    def _browse(self, name: str) -> None:
        field = self._field(name)

        def picked(path: Path | None) -> None:
            if path is None:
                return
            if name == "students" and field.value.strip():
                field.value = f"{field.value.strip()}{os.pathsep}{path}"
            else:
                field.value = str(path)
            field.focus()

        start = folder_of(field.value.rpartition(os.pathsep)[2].strip())
        self.app.push_screen(PickerScreen(PickerTarget.MODEL, start), picked)


def _facts(event: Event, *, first: bool) -> Content:
    """A model in three short lines: what it is, its tokens, what can be done with it."""
    size = (
        f"{magnitude(event['parameters'])} parameters" if event["parameters"] else "size not known"
    )
    context = f"{event['context']:,} tokens" if event["context"] else "not said"
    lines = [
        Content.assemble(
            content(str(event["name"])).stylize("bold"),
            content(f"  {event['kind']}, {event['architecture']}, {size}"),
        ),
        content(f"  tokenizer {event['tokenizer']}; context {context}").stylize("$text-muted"),
    ]
    if not event["trainable"]:
        words = "  ! can be sampled but not trained: give its Hugging Face folder for that"
        lines.append(content(words).stylize("$text-warning"))
    elif not first:
        same = "has the teacher's tokenizer: learns from its very tokens"
        other = "has another tokenizer than the teacher: learns from its texts"
        lines.append(content(f"  ✓ {same if event['same_tokenizer'] else other}"))
    else:
        lines.append(content("  ✓ can be trained"))
    return Content("\n").join(lines)
