"""The form that creates a project for your own models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.content import Content
from textual.widgets import Button, Input, Static

from lmsi_tui.formatting.numbers import magnitude
from lmsi_tui.formatting.sanitize import content
from lmsi_tui.screens.setup.form import FormScreen, folder_of, form_commands
from lmsi_tui.screens.setup.picker import PickerScreen
from lmsi_tui.shell.commands import declare
from lmsi_tui.shell.file_listing import PickerTarget
from store.counted import counted

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from lmsi_tui.shell.subcommand import Event

NO_MODEL = "Enter the path of a model, or press ctrl+o to browse."


class NewProjectScreen(FormScreen[Path | None]):
    """Ask for models and a folder, describe the models, create the project."""

    NAME = "new-project"
    HELP = (
        "The model is the one to improve. Students are smaller models that learn from it; they are "
        "optional. Hugging Face folders can be trained, and so can GGUF files of Llama and Qwen 2; "
        "servers can only be sampled. Nothing is copied: the project stores the models' paths."
    )
    TITLE_TEXT = "new project"
    DO = "Create the project"
    BINDINGS: ClassVar = declare(
        "new-project", *form_commands("new-project", "create", "Create the project and open it.")
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
                placeholder=f"optional; separate several with {os.pathsep}",
                compact=True,
                id="students",
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
            self.show(NO_MODEL)
            return None
        if not self._value("folder"):
            self.show("Enter a folder for the project.", error=True)
            return None
        folder = str(Path(self._value("folder")).expanduser().absolute())
        students = [path.strip() for path in self._value("students").split(os.pathsep)]
        options = [f"--student={path}" for path in students if path]
        return ["init", f"--model={self._value('model')}", *options, "--", folder]

    def preview_text(self, events: list[Event]) -> Content:
        """A description of each model."""
        return Content("\n").join(
            _model_text(event, is_teacher=number == 0) for number, event in enumerate(events)
        )

    def done(self, events: list[Event]) -> None:
        """Return the folder."""
        self.dismiss(Path(events[-1]["project"]))

    # Commands.

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Browse for the model or a student."""
        if event.button.id in ("browse-model", "browse-students"):
            event.stop()
            self._browse((event.button.id or "").removeprefix("browse-"))

    def action_browse(self) -> None:
        """Browse for a model, or for a student if that field has the focus."""
        self._browse("students" if self._field("students").has_focus else "model")

    def _browse(self, name: str) -> None:
        field = self._field(name)

        def on_pick(path: Path | None) -> None:
            if path is None:
                return
            if name == "students" and field.value.strip():
                field.value = f"{field.value.strip()}{os.pathsep}{path}"
            else:
                field.value = str(path)
            field.focus()

        start = folder_of(field.value.rpartition(os.pathsep)[2].strip())
        self.app.push_screen(PickerScreen(PickerTarget.MODEL, start), on_pick)


def _model_text(event: Event, *, is_teacher: bool) -> Content:
    """A model in three lines: name and size, tokenizer and context, whether it can be trained."""
    size = f"{magnitude(event['parameters'])} parameters" if event["parameters"] else "unknown size"
    context = counted(event["context"], "token") if event["context"] else "unknown"
    lines = [
        Content.assemble(
            content(str(event["name"])).stylize("bold"),
            content(f"  {event['kind']}, {event['architecture']}, {size}"),
        ),
        content(f"  tokenizer {event['tokenizer']}; context {context}").stylize("$text-muted"),
    ]
    if event.get("chat_note"):
        lines.append(content(f"  {event['chat_note']}").stylize("$text-muted"))
    if not event["trainable"]:
        warning = "  ! can be sampled but not trained; training needs its Hugging Face folder"
        lines.append(content(warning).stylize("$text-warning"))
    elif not is_teacher:
        same = "same tokenizer as the teacher: learns from its tokens"
        other = "different tokenizer from the teacher: learns from its texts"
        lines.append(content(f"  ✓ {same if event['same_tokenizer'] else other}"))
    else:
        lines.append(content("  ✓ can be trained"))
    return Content("\n").join(lines)
