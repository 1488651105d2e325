"""Every command of the app, declared once: its key, its words in the footer, its help.

From this one table come the bindings of the screens, the command palette, the help screen, and the
names by which a person binds other keys (`[keys]` in the configuration file).
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
    """Something that a person can do with one key."""

    id: str
    """Stable name for rebinding, such as `review.majority`."""
    key: str
    """Key, or keys parted by commas, unless a person binds others."""
    action: str
    """Textual action, such as `majority` for `action_majority` of the screen."""
    title: str
    """One or two words for the footer."""
    help: str
    """One sentence for the help and the palette."""
    shown: bool = True
    """Whether it has a place in the footer."""
    display: str | None = None
    """How the footer writes the key, where one stands for several: `1-9`."""

    @property
    def binding(self) -> Binding:
        """The binding that Textual knows it by."""
        return Binding(
            self.key,
            self.action,
            self.title,
            show=self.shown,
            key_display=self.display,
            tooltip=self.help,
            id=self.id,
        )


APP = (
    Command("app.help", "question_mark,f1", "help", "help", "What every key of this screen does."),
    Command("app.home", "escape", "home", "home", "Back to the loop.", shown=False),
    Command("app.jobs", "j", "jobs", "jobs", "All jobs, their logs, cancel and restart."),
    Command("app.theme", "ctrl+t", "next_theme", "theme", "Another theme.", shown=False),
    Command("app.quit", "q", "quit", "quit", "Leave; a job that runs goes on."),
)
"""Commands that every screen has."""

SCREENS: dict[str, tuple[Command, ...]] = {}
"""Commands of each screen, by the screen's name; each screen's module declares its own."""


def declare(screen: str, *commands: Command) -> list[BindingType]:
    """Declare a screen's commands and give their bindings: `BINDINGS = declare("home", …)`."""
    SCREENS[screen] = commands
    return [command.binding for command in commands]


def commands_of(screen: str) -> tuple[Command, ...]:
    """The commands of a screen, its own before those of every screen."""
    return (*SCREENS.get(screen, ()), *APP)


def keys_of(screen: Screen[Any]) -> dict[str, str]:
    """The keys of each command that works on a screen now, as they are shown, by its id."""
    keys: dict[str, list[str]] = {}
    for active in screen.active_bindings.values():
        if active.binding.id:
            shown = screen.app.get_key_display(active.binding)
            keys.setdefault(active.binding.id, []).append(shown)
    return {id_: " ".join(dict.fromkeys(shown)) for id_, shown in keys.items()}


class PaletteCommands(Provider):
    """The commands of the current screen, for the palette."""

    def _commands(self) -> Iterable[Command]:
        name = str(getattr(self.screen, "NAME", ""))
        for command in commands_of(name):
            action = command.action.partition("(")[0].removeprefix("app.")
            if self._owner(command).check_action(action, ()):
                yield command

    def _owner(self, command: Command) -> App[object] | Screen[Any]:
        ours = command in APP or command.action.startswith("app.")
        return self.app if ours else self.screen

    async def discover(self) -> Hits:
        """Every command, before anything is typed."""
        keys = keys_of(self.screen)
        for command in self._commands():
            yield DiscoveryHit(
                command.help,
                partial(self._run, command),
                text=command.help,
                help=f"{command.title} · {keys.get(command.id, command.key)}",
            )

    async def search(self, query: str) -> Hits:
        """The commands whose words fit."""
        matcher = self.matcher(query)
        keys = keys_of(self.screen)
        for command in self._commands():
            words = f"{command.title}: {command.help}"
            if (score := matcher.match(words)) > 0:
                yield Hit(
                    score,
                    matcher.highlight(words),
                    partial(self._run, command),
                    text=command.help,
                    help=keys.get(command.id, command.key),
                )

    async def _run(self, command: Command) -> None:
        await self.app.run_action(command.action, default_namespace=self._owner(command))
