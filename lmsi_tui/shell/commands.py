"""Every command of the app, declared once: its key, its footer title and its help.

The bindings of the screens, the command palette, the help screen and the names for custom keys
(`[keys]` in the configuration file) all come from these tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.binding import Binding
from textual.command import DiscoveryHit, Hit, Provider

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual.app import App
    from textual.binding import BindingType
    from textual.command import Hits
    from textual.screen import Screen


@dataclass(frozen=True, slots=True)
class Command:
    """An action with a key."""

    id: str
    """Stable name for rebinding, such as `review.majority`."""
    key: str
    """Default key, or several separated by commas."""
    action: str
    """Textual action, such as `majority` for the screen's `action_majority`."""
    title: str
    """One or two words for the footer."""
    help: str
    """One sentence for the help and the palette."""
    shown: bool = True
    """Whether the footer shows it."""
    display: str | None = None
    """How the footer shows the keys if not by name, such as `1-9`."""
    everywhere: bool = False
    """Whether the key works in dialogs and text fields, too."""

    @property
    def binding(self) -> Binding:
        """The command as a Textual binding."""
        return Binding(
            self.key,
            self.action,
            self.title,
            show=self.shown,
            key_display=self.display,
            priority=self.everywhere,
            tooltip=self.help,
            id=self.id,
        )


APP = (
    Command(
        "app.help", "question_mark,f1", "help", "help", "Show what every key of this screen does."
    ),
    Command("app.home", "escape", "home", "home", "Go back to the loop.", shown=False),
    Command(
        "app.jobs", "j", "jobs", "jobs", "Show all jobs and their logs; cancel and restart them."
    ),
    Command("app.theme", "ctrl+t", "next_theme", "theme", "Switch to the next theme.", shown=False),
    Command(
        "app.suspend",
        "ctrl+z",
        "suspend_process",
        "suspend",
        "Go to the shell; `fg` returns to the app.",
        shown=False,
        everywhere=True,
    ),
    Command("app.quit", "q", "quit", "quit", "Quit; a running job continues."),
)
"""Commands that every screen has."""

SCREENS: dict[str, tuple[Command, ...]] = {}
"""Commands of each screen, by the screen's name; each screen's module declares its commands."""


def declare(screen: str, *commands: Command) -> list[BindingType]:
    """Declare a screen's commands and return their bindings: `BINDINGS = declare("home", …)`."""
    SCREENS[screen] = commands
    return [command.binding for command in commands]


def commands_of(screen: str) -> tuple[Command, ...]:
    """The commands of a screen, followed by those of every screen."""
    return (*SCREENS.get(screen, ()), *APP)


def keys_of(screen: Screen[Any]) -> dict[str, str]:
    """The displayed keys of each command that is active on a screen, by command id."""
    keys: dict[str, list[str]] = {}
    for active in screen.active_bindings.values():
        if active.binding.id:
            shown = screen.app.get_key_display(active.binding)
            keys.setdefault(active.binding.id, []).append(shown)
    return {id_: " ".join(dict.fromkeys(shown)) for id_, shown in keys.items()}


class PaletteCommands(Provider):
    """The commands of the current screen, for the command palette."""

    def _commands(self) -> Iterable[Command]:
        name = str(getattr(self.screen, "NAME", ""))
        for command in commands_of(name):
            action = command.action.partition("(")[0].removeprefix("app.")
            if self._owner(command).check_action(action, ()):
                yield command

    def _owner(self, command: Command) -> App[object] | Screen[Any]:
        of_app = command in APP or command.action.startswith("app.")
        return self.app if of_app else self.screen

    async def discover(self) -> Hits:
        """All commands, shown before anything is typed."""
        keys = keys_of(self.screen)
        for command in self._commands():
            yield DiscoveryHit(
                command.help,
                partial(self._run, command),
                text=command.help,
                help=f"{command.title} · {keys.get(command.id, command.key)}",
            )

    async def search(self, query: str) -> Hits:
        """The commands that match the query."""
        matcher = self.matcher(query)
        keys = keys_of(self.screen)
        for command in self._commands():
            text = f"{command.title}: {command.help}"
            if (score := matcher.match(text)) > 0:
                yield Hit(
                    score,
                    matcher.highlight(text),
                    partial(self._run, command),
                    text=command.help,
                    help=keys.get(command.id, command.key),
                )

    async def _run(self, command: Command) -> None:
        await self.app.run_action(command.action, default_namespace=self._owner(command))
