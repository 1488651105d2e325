"""The welcome screen without a project: try the demo, create a project, open one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from engine.project.folder import SETTINGS, open_project
from lmsi_tui.formatting.sanitize import content
from lmsi_tui.screens.screen import LmsiScreen
from lmsi_tui.shell.commands import Command, declare
from lmsi_tui.shell.config import read_config
from lmsi_tui.widgets.key_bar import KeyBar
from store.errors import BadInput, LmsiError

if TYPE_CHECKING:
    from textual.app import ComposeResult

TITLE = "Improve a local model on your own questions, without labels."
DESCRIPTION = (
    "The model answers each question many times, a majority vote picks the answer, and the model "
    "is fine-tuned on the reasoning behind it. A smaller model can learn from it. You review the "
    "doubtful questions."
)
CHOICES = (
    ("demo", "d", "Try it", "run the whole loop on three small included models, in minutes"),
    ("new", "n", "New project", "use your own model and questions"),
    ("open", "o", "Open a project", f"choose a folder that contains {SETTINGS}"),
)
"""Action, key, title, description."""


class WelcomeScreen(LmsiScreen):
    """Offer what you can do without a project."""

    NAME = "welcome"
    HELP = (
        "A project is a folder with settings, questions and everything that is computed from them. "
        "Try the demo to see the loop, or create a project for your own model."
    )
    CSS_PATH = "welcome.tcss"
    BINDINGS: ClassVar = declare(
        "welcome",
        Command("welcome.demo", "d", "demo", "try it", "Create the demo project and open it."),
        Command("welcome.new", "n", "new", "new project", "Create a project for your own model."),
        Command("welcome.open", "o", "open", "open", "Open an existing project."),
    )

    def __init__(self) -> None:
        super().__init__()
        try:
            recent = read_config().recent
        except BadInput:
            recent = ()
        self._recent = [folder for folder in recent if _is_project(Path(folder))]

    def compose(self) -> ComposeResult:
        """A short description, three choices, and the recent projects."""
        with Vertical(id="welcome"):
            yield Static("l m s i", id="name", markup=False)
            yield Static(TITLE, id="title", markup=False)
            yield Static(DESCRIPTION, id="what", classes="muted", markup=False)
            yield OptionList(*self._options(), markup=False)
        yield KeyBar()

    def _options(self) -> list[Option | None]:
        options: list[Option | None] = [
            Option(_line(key, title, description), id=action)
            for action, key, title, description in CHOICES
        ]
        if self._recent:
            options.append(None)  # a separator
            heading = Content.styled("    Recent projects", "$text-muted")
            options.append(Option(heading, disabled=True))
        for number, folder in enumerate(self._recent):
            path = Path(folder)
            line = Content.assemble(
                "    ",
                content(path.name).stylize("bold"),
                content(f"  {path.parent}").stylize("$text-muted"),
            )
            options.append(Option(line, id=f"recent-{number}"))
        return options

    def on_mount(self) -> None:
        """Focus the choices."""
        self.query_one(OptionList).focus()

    @on(OptionList.OptionSelected)
    async def choose(self, event: OptionList.OptionSelected) -> None:
        """Run the chosen option."""
        event.stop()
        action = event.option.id or ""
        if action.startswith("recent-"):
            self.open(Path(self._recent[int(action.removeprefix("recent-"))]))
        else:
            await self.run_action(action)

    def open(self, folder: Path | None) -> None:
        """Open a project, or show why it cannot be opened."""
        if folder is None:
            return
        try:
            self.lmsi.open_project(open_project(folder))
        except LmsiError as error:
            self.show_error(error)

    # Commands.

    def action_demo(self) -> None:
        """Ask for a folder, create the demo project, open it."""
        from lmsi_tui.screens.setup.demo import DemoScreen

        self.app.push_screen(DemoScreen(), self.open)

    def action_new(self) -> None:
        """Ask for a model, create a project, open it, then import questions."""
        from lmsi_tui.screens.setup.new_project import NewProjectScreen

        self.app.push_screen(NewProjectScreen(), self._open_new)

    def _open_new(self, folder: Path | None) -> None:
        if folder is not None:
            self.open(folder)
            self.call_after_refresh(self.lmsi.action_import)

    def action_open(self) -> None:
        """Ask for the folder of a project."""
        from lmsi_tui.screens.setup.picker import PickerScreen
        from lmsi_tui.shell.file_listing import PickerTarget

        self.app.push_screen(PickerScreen(PickerTarget.PROJECT), self.open)


def _is_project(folder: Path) -> bool:
    try:
        return (folder / SETTINGS).exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _line(key: str, title: str, description: str) -> Content:
    return Content.assemble(
        Content.styled(f" {key}  ", "bold $footer-key-foreground"),
        content(title).stylize("bold"),
        content(f"\n    {description}").stylize("$text-muted"),
    )
