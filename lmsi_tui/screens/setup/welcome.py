"""The first screen when there is no project: the demo, a project that is there, or a new one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Footer, OptionList, Static
from textual.widgets.option_list import Option

from engine.project.folder import SETTINGS, open_project
from lmsi_tui.formatting.sanitize import content
from lmsi_tui.screens.screen import LmsiScreen
from lmsi_tui.shell.commands import Command, declare
from lmsi_tui.shell.config import read_config
from store.errors import BadInput, LmsiError

if TYPE_CHECKING:
    from textual.app import ComposeResult

TITLE = "Make a local model better at your questions, without labels."
WHAT = (
    "It answers each question many times, lets its answers vote, learns from the answers that "
    "agree, and hands what it learnt to a smaller model. You watch, and settle what is in doubt."
)
CHOICES = (
    ("demo", "d", "Try it", "the whole loop on three small models that come along; minutes"),
    ("new", "n", "New project", "your own model and your own questions"),
    ("open", "o", "Open a project", f"a folder with {SETTINGS}"),
)
"""Action, key, title, what it is."""


class WelcomeScreen(LmsiScreen):
    """Offers what can be done without a project."""

    NAME = "welcome"
    HELP = (
        "A project is a folder that holds a model's name, questions, and everything that is made "
        "of them. Try the demo to see the loop, or make a project on your own model."
    )
    CSS_PATH = "welcome.tcss"
    BINDINGS: ClassVar = declare(
        "welcome",
        Command("welcome.demo", "d", "demo", "try it", "Make the demo's project and open it."),
        Command("welcome.new", "n", "new", "new project", "A project on your own model."),
        Command("welcome.open", "o", "open", "open", "Open a project that is there."),
    )

    def __init__(self) -> None:
        super().__init__()
        try:
            recent = read_config().recent
        except BadInput:
            recent = ()
        self._recent = [one for one in recent if (Path(one) / SETTINGS).exists()]

    def compose(self) -> ComposeResult:
        """Two sentences, three choices, and the projects that were open last."""
        with Vertical(id="welcome"):
            yield Static("l m s i", id="name", markup=False)
            yield Static(TITLE, id="title", markup=False)
            yield Static(WHAT, id="what", classes="muted", markup=False)
            yield OptionList(*self._options(), markup=False)
        yield Footer()

    def _options(self) -> list[Option | None]:
        options: list[Option | None] = [
            Option(_line(key, name, what), id=action) for action, key, name, what in CHOICES
        ]
        if self._recent:
            options.append(None)  # a line between
        for number, folder in enumerate(self._recent):
            path = Path(folder)
            options.append(Option(_line(" ", path.name, str(path.parent)), id=f"recent-{number}"))
        return options

    def on_mount(self) -> None:
        """The arrows belong to the choices."""
        self.query_one(OptionList).focus()

    @on(OptionList.OptionSelected)
    async def choose(self, event: OptionList.OptionSelected) -> None:
        """Do what was chosen."""
        event.stop()
        chosen = event.option.id or ""
        if chosen.startswith("recent-"):
            self.open(Path(self._recent[int(chosen.removeprefix("recent-"))]))
        else:
            await self.run_action(chosen)

    def open(self, folder: Path | None) -> None:
        """Show a project, or say why it cannot be shown."""
        if folder is None:
            return
        try:
            self.lmsi.open_project(open_project(folder))
        except LmsiError as failure:
            self.tell_failure(failure)

    # Commands.

    def action_demo(self) -> None:
        """Ask where, make the demo's project, open it."""
        from lmsi_tui.screens.setup.demo import DemoScreen

        self.app.push_screen(DemoScreen(), self.open)

    def action_new(self) -> None:
        """Ask for a model, make a project, open it, and go on with questions."""
        from lmsi_tui.screens.setup.new_project import NewProjectScreen

        self.app.push_screen(NewProjectScreen(), self._open_new)

    def _open_new(self, folder: Path | None) -> None:
        if folder is not None:
            self.open(folder)
            self.call_after_refresh(self.lmsi.action_import)

    def action_open(self) -> None:
        """Ask for a folder."""
        from lmsi_tui.screens.setup.picker import PickerScreen
        from lmsi_tui.shell.file_listing import PickerTarget

        self.app.push_screen(PickerScreen(PickerTarget.PROJECT), self.open)


def _line(key: str, name: str, what: str) -> Content:
    return Content.assemble(
        Content.styled(f" {key}  ", "bold $footer-key-foreground"),
        content(name).stylize("bold"),
        content(f"\n    {what}").stylize("$text-muted"),
    )
