"""The keys of a screen, on its last line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from textual.content import Content
from textual.widget import Widget

from lmsi_tui.formatting.sanitize import printable
from lmsi_tui.shell.commands import commands_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.binding import Binding
    from textual.events import MouseDown
    from textual.screen import Screen

MORE = "…"
"""Shown at the end if keys are left out and the screen has no help that lists them."""
HELP, LEAVE = "help", ("quit", "close")


@runtime_checkable
class HasKeyTitles(Protocol):
    """A screen on which a key does different things at different times."""

    def key_title(self, command: str, title: str) -> str | None:
        """What a command does now; None if it does nothing.

        Args:
            command: id of the command.
            title: its usual title.
        """


@dataclass(frozen=True, slots=True)
class Key:
    """A key with what it does."""

    name: str
    """To press, as Textual names it."""
    shown: str
    title: str
    action: str
    is_enabled: bool = True

    @property
    def width(self) -> int:
        """Terminal cells."""
        return Content(f"{self.shown} {self.title}").cell_length

    @property
    def stays(self) -> bool:
        """Whether it is shown even if others must be left out: how to leave, and the help."""
        return self.action.removeprefix("app.") in (HELP, *LEAVE)


class KeyBar(Widget):
    """As many keys as fit, the most important first; `? more` says that others are left out."""

    DEFAULT_CSS = """
    KeyBar {
        dock: bottom;
        height: 1;
        color: $footer-description-foreground;
        background: $footer-background;
        text-wrap: nowrap;
        & > .key-bar--key { color: $footer-key-foreground; text-style: bold; }
        & > .key-bar--disabled { color: $text-disabled; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"key-bar--key", "key-bar--disabled"}
    ALLOW_SELECT = False

    def on_mount(self) -> None:
        """Draw again when other keys are active."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    @property
    def keys(self) -> list[Key]:
        """The keys that are shown at the present width."""
        return self._fitting()[0]

    def _fitting(self) -> tuple[list[Key], int]:
        return fitting(keys_of(self.screen), self.size.width - 2)

    def render(self) -> Content:
        """The keys, on one line."""
        parts: list[Content | str | tuple[str, str]] = [" "]
        key_style = self.get_visual_style("key-bar--key")
        disabled = self.get_visual_style("key-bar--disabled")
        keys, gap = self._fitting()
        for number, key in enumerate(keys):
            parts.append(" " * gap if number else "")
            parts.append(Content.styled(key.shown, key_style if key.is_enabled else disabled))
            text = f" {printable(key.title)}" if key.title else ""
            parts.append(Content(text) if key.is_enabled else Content.styled(text, disabled))
        return Content.assemble(*parts)

    def on_mouse_down(self, event: MouseDown) -> None:
        """Press the key that was clicked."""
        start = 1
        keys, gap = self._fitting()
        for key in keys:
            if start <= event.x < start + key.width and key.name:
                self.app.simulate_key(key.name)
            start += key.width + gap


def keys_of(screen: Screen[object]) -> list[Key]:
    """The keys of the commands that a screen shows, the most important first."""
    order = {
        command.id: place
        for place, command in enumerate(commands_of(str(getattr(screen, "NAME", ""))))
    }
    bindings: dict[str, tuple[Binding, bool]] = {}
    for active in screen.active_bindings.values():
        if active.binding.show:
            bindings.setdefault(active.binding.action, (active.binding, active.enabled))
    keys = []
    for binding, is_enabled in sorted(
        bindings.values(), key=lambda pair: order.get(pair[0].id or "", -1)
    ):
        title: str | None = binding.description
        if isinstance(screen, HasKeyTitles):
            title = screen.key_title(binding.id or "", binding.description)
        if title is not None:
            shown = screen.app.get_key_display(binding)
            keys.append(Key(binding.key, shown, title, binding.action, is_enabled))
    return keys


def fitting(keys: Sequence[Key], width: int) -> tuple[list[Key], int]:
    """The keys that fit, and the spaces between them; if not all fit, the last one says so.

    Args:
        keys: in the order of importance.
        width: cells that they may take.
    """
    for gap in (2, 1):
        if _width(keys, gap) <= width:
            return list(keys), gap
    kept = [key for key in keys if key.stays]
    if not any(_is_help(key) for key in kept):
        kept.append(Key("", MORE, "", ""))
    kept = [
        Key(key.name, key.shown, "more", key.action, key.is_enabled) if _is_help(key) else key
        for key in sorted(kept, key=_is_help)
    ]
    while len(kept) > 1 and _width(kept) > width:
        del kept[0]
    shown: list[Key] = []
    for key in keys:
        if not key.stays:
            if _width([*shown, key, *kept]) > width:
                break
            shown.append(key)
    return [*shown, *kept], 1


def _is_help(key: Key) -> bool:
    return key.action.removeprefix("app.") == HELP


def _width(keys: Sequence[Key], gap: int = 1) -> int:
    return sum(key.width for key in keys) + gap * max(0, len(keys) - 1)
